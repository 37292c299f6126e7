"""Options beyond the plain recipe, as the training loop follows them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hemo.config.trial import ModelConfig, TrainingConfig, TrialConfig
from hemo.learning.examples import Splits, select_splits
from hemo.learning.figures import FitResult, QuietReporter
from hemo.learning.images import read_training_set
from hemo.learning.loop import fit
from hemo.learning.worker import Worker


@pytest.fixture
def splits(make_training_set: Callable[..., str]) -> Splits:
    return select_splits(read_training_set(make_training_set()), TrialConfig())


def _fit(splits: Splits, place: Path, **training: object) -> FitResult:
    """Train a model without batch normalisation and dropout: what an option does is all that differs."""
    settings = {"epochs": 1, "batch_size": 8, "optimizer": "sgd", "learning_rate": 0.01, **training}
    model = ModelConfig(backbone="test_vit", dropout=0.0)
    config = TrialConfig(model=model, training=TrainingConfig.model_validate(settings))
    return fit(config, splits, reporter=QuietReporter(), worker=Worker(), state_at=str(place / "state.pt"))


def test_labels_are_smoothed_while_learning_and_plain_when_measured(splits: Splits, tmp_path: Path) -> None:
    plain = _fit(splits, tmp_path / "plain", learning_rate=1e-12)
    smooth = _fit(splits, tmp_path / "smooth", learning_rate=1e-12, label_smoothing=0.5)
    assert smooth.metrics["val"]["loss"] == pytest.approx(plain.metrics["val"]["loss"], abs=1e-6)
    learned = [_fit(splits, tmp_path / str(share), epochs=3, label_smoothing=share) for share in (0.0, 0.5)]
    assert learned[1].epochs[-1].val["loss"] > learned[0].epochs[-1].val["loss"] + 1e-3
