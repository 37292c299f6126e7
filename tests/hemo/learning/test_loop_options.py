"""Options beyond the plain recipe, as the training loop follows them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hemo.config.trial import ModelConfig, TrainingConfig, TrialConfig
from hemo.learning.examples import Splits, select_splits
from hemo.learning.figures import EpochFigures, FitResult, QuietReporter, Reporter
from hemo.learning.images import read_training_set
from hemo.learning.loop import fit
from hemo.learning.model import ImageClassifier
from hemo.learning.worker import Worker


@pytest.fixture
def splits(make_training_set: Callable[..., str]) -> Splits:
    return select_splits(read_training_set(make_training_set()), TrialConfig())


class Killed:
    """A reporter that is killed at its first epoch."""

    def epoch(self, figures: EpochFigures) -> bool:
        raise KeyboardInterrupt(figures.epoch)


def _trial(**training: object) -> TrialConfig:
    """Return a trial of a model without batch normalisation and dropout: what an option does is all that differs."""
    settings = {"epochs": 1, "batch_size": 8, "optimizer": "sgd", "learning_rate": 0.01, **training}
    model = ModelConfig(backbone="test_vit", dropout=0.0)
    return TrialConfig(model=model, training=TrainingConfig.model_validate(settings))


def _fit(splits: Splits, place: Path, reporter: Reporter | None = None, **training: object) -> FitResult:
    reporter = reporter or QuietReporter()
    return fit(_trial(**training), splits, reporter=reporter, worker=Worker(), state_at=str(place / "state.pt"))


def _val_losses(result: FitResult) -> list[float]:
    return [figures.val["loss"] for figures in result.epochs]


def _resumed(splits: Splits, place: Path, **training: object) -> FitResult:
    """Return a fit that was killed after its first epoch and went on."""
    with pytest.raises(KeyboardInterrupt):
        _fit(splits, place, Killed(), **training)
    return _fit(splits, place, **training)


def test_labels_are_smoothed_while_learning_and_plain_when_measured(splits: Splits, tmp_path: Path) -> None:
    plain = _fit(splits, tmp_path / "plain", learning_rate=1e-12)
    smooth = _fit(splits, tmp_path / "smooth", learning_rate=1e-12, label_smoothing=0.5)
    assert smooth.metrics["val"]["loss"] == pytest.approx(plain.metrics["val"]["loss"], abs=1e-6)
    learned = [_fit(splits, tmp_path / str(share), epochs=3, label_smoothing=share) for share in (0.0, 0.5)]
    assert learned[1].epochs[-1].val["loss"] > learned[0].epochs[-1].val["loss"] + 1e-3


def test_a_plateau_of_the_validation_loss_lowers_the_rate_and_a_resumed_fit_remembers_it(
    splits: Splits, tmp_path: Path
) -> None:
    contrary = replace(splits, val=replace(splits.val, labels=1 - splits.val.labels))  # learning makes it worse
    training = {"epochs": 4, "schedule": "plateau", "learning_rate": 0.02}
    result = _fit(contrary, tmp_path / "whole", **training)
    assert result.best_epoch == 1
    assert [figures.learning_rate for figures in result.epochs] == pytest.approx([0.02, 0.02, 0.02, 0.002])
    assert _val_losses(_resumed(contrary, tmp_path / "cut", **training)) == _val_losses(result)


def test_a_batch_in_parts_gives_the_curve_of_the_whole(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _fit(splits, tmp_path / "whole", epochs=2)
    seen = []
    forward = ImageClassifier.forward

    def noting(model: ImageClassifier, images: torch.Tensor) -> torch.Tensor:
        if model.training:
            seen.append(len(images))
        return forward(model, images)

    monkeypatch.setattr(ImageClassifier, "forward", noting)
    parts = _fit(splits, tmp_path / "parts", epochs=2, accumulation=3)
    assert seen[:6] == [3, 3, 2, 3, 3, 2]
    assert _val_losses(parts) == pytest.approx(_val_losses(whole), abs=1e-5)
    assert parts.epochs[-1].train["loss"] == pytest.approx(whole.epochs[-1].train["loss"], abs=1e-5)


def test_clipped_gradients_go_no_further_than_their_norm(splits: Splits, tmp_path: Path) -> None:
    """Six steps of SGD with momentum, each of at most 0.01 x 1e-6 / (1 - 0.9), leave the model as it was."""
    clipped, free = (_fit(splits, tmp_path / str(norm), clip_norm=norm) for norm in (1e-6, 0.0))
    untrained = clipped.baseline["val"]["loss"]
    assert clipped.metrics["val"]["loss"] == pytest.approx(untrained, abs=1e-5)
    assert abs(free.metrics["val"]["loss"] - untrained) > 1e-3
