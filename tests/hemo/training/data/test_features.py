"""Trials whose backbone never learns: features computed once give what the backbone gives in each epoch."""

from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from hemo.config.trial import AugmentConfig, ModelConfig, TrainingConfig, TrialConfig
from hemo.models.classifier import ImageClassifier, build_model, plain_normalisation
from hemo.models.encoder import Encoder
from hemo.training import loop
from hemo.training.data import features
from hemo.training.data.dataset import read_training_set, select_splits
from hemo.training.data.examples import Splits
from hemo.training.data.features import encoder_digest, kept_features, trains_on_features
from hemo.training.distributed import Worker
from hemo.training.loop import fit
from hemo.training.reporting import FitResult, run_to_end


@pytest.fixture
def splits(make_training_set: Callable[..., str]) -> Splits:
    return select_splits(read_training_set(make_training_set(side_px=24)), TrialConfig())


def _trial(pooling: str = "gap", **training: object) -> TrialConfig:
    """A frozen backbone with batch norm, dropout before the logits, and a hidden layer."""
    settings = {"epochs": 3, "freeze_epochs": 3, "batch_size": 8, "learning_rate": 0.1, "ema_decay": 0.5, **training}
    model = ModelConfig(backbone="test_resnet", dropout=0.5, pooling=pooling, hidden_layers=1)
    return TrialConfig(model=model, training=TrainingConfig.model_validate(settings))


def _fit(splits: Splits, place: Path, config: TrialConfig, kept: str = "") -> FitResult:
    return run_to_end(fit(config, splits, worker=Worker(), state_path=str(place / "state.pt"), features=kept))


def _passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which each pass of the backbone adds its number of images."""
    seen: list[int] = []
    by_position = ImageClassifier.by_position

    def counting(model: ImageClassifier, images: torch.Tensor) -> torch.Tensor:
        if images.ndim == 4:
            seen.append(len(images))
        return by_position(model, images)

    monkeypatch.setattr(ImageClassifier, "by_position", counting)
    return seen


@pytest.mark.parametrize("pooling", ["gap", "flatten"])
def test_the_result_is_that_with_the_backbone(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pooling: str
) -> None:
    """Every curve, the calibrated metrics, the logits and the whole model's weights."""
    config = _trial(pooling, layer_decay=0.5, weight_decay=0.01, optimizer="adamw", schedule="cosine")
    on_features = _fit(splits, tmp_path / "features", config)
    monkeypatch.setattr(loop, "trains_on_features", lambda *_: False)
    whole = _fit(splits, tmp_path / "whole", config)
    for mine, other in zip(on_features.epochs, whole.epochs, strict=True):
        assert mine.train == pytest.approx(other.train, rel=1e-4, abs=1e-4)
        assert mine.val == pytest.approx(other.val, rel=1e-4, abs=1e-4)
    assert on_features.baseline["val"] == pytest.approx(whole.baseline["val"], rel=1e-4)
    assert abs(whole.epochs[-1].val["loss"] - whole.baseline["val"]["loss"]) > 1e-3  # far above rounding: it learned
    for split, logits in whole.logits.items():
        np.testing.assert_allclose(on_features.logits[split], logits, atol=1e-4)
    weights = whole.model.state_dict()
    assert list(on_features.model.state_dict()) == list(weights)
    for name, value in on_features.model.state_dict().items():
        torch.testing.assert_close(value, weights[name], atol=1e-4, rtol=1e-3)


def test_each_image_passes_the_backbone_once_for_all_trials(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """48 + 16 + 16 images; a head of another width and learning rate finds them on the disk."""
    passes = _passes(monkeypatch)
    kept = str(tmp_path / "features")
    _fit(splits, tmp_path / "a", _trial(), kept)
    assert sum(passes) == 80
    wider = _trial(learning_rate=0.1)
    wider = wider.model_copy(update={"model": wider.model.model_copy(update={"dense_width": 4})})
    _fit(splits, tmp_path / "b", wider, kept)
    assert sum(passes) == 80
    assert len(list((tmp_path / "features").glob("*.npy"))) == 3
    _fit(splits, tmp_path / "c", _trial("flatten"), kept)  # others: not pooled
    assert sum(passes) == 160


def test_backbones_that_share_their_class_and_weights_do_not_share_features() -> None:
    """resnetblur18 smooths before each stride, which has no weights: its features are others."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8))
    encoders = {}
    for name in ("resnet18", "resnetblur18"):
        torch.manual_seed(0)
        model = build_model(ModelConfig(backbone=name), channels=3, sides_px=(32, 32), classes=1)
        encoders[name] = Encoder(model, plain_normalisation(3), "gap", torch.device("cpu"))
    plain, smoothed = encoders.values()
    assert type(plain.model.backbone) is type(smoothed.model.backbone)
    smoothed.model.load_state_dict(plain.model.state_dict())
    assert (plain.features(images) - smoothed.features(images)).abs().max() > 0.01
    assert len({encoder_digest(encoder, name) for name, encoder in encoders.items()}) == 2


def test_another_seed_of_random_weights_has_other_features(splits: Splits, tmp_path: Path) -> None:
    for seed in (0, 1):
        _fit(splits, tmp_path / str(seed), _trial().model_copy(update={"seed": seed}), str(tmp_path / "features"))
    assert len(list((tmp_path / "features").glob("*-train.npy"))) == 2


def test_a_killed_fit_goes_on_as_an_undisturbed_one(splits: Splits, tmp_path: Path) -> None:
    undisturbed = _fit(splits, tmp_path / "whole", _trial())
    killed = fit(_trial(), splits, worker=Worker(), state_path=str(tmp_path / "cut/state.pt"))
    next(killed)
    killed.close()
    resumed = _fit(splits, tmp_path / "cut", _trial())
    assert [epoch.val for epoch in resumed.epochs] == [epoch.val for epoch in undisturbed.epochs]


@pytest.mark.parametrize(
    ("expected", "training", "augment"),
    [
        (True, {}, {}),
        (True, {"freeze_epochs": 9}, {"rotate_degrees": 5.0, "strength": 0.0}),
        (False, {"freeze_epochs": 2}, {}),
        (False, {}, {"horizontal_flip": 0.5}),
        (False, {}, {"rotate_degrees": 5.0}),
        (False, {}, {"erase": 0.1}),
        (False, {}, {"mixup_alpha": 0.2}),
    ],
)
def test_what_is_recognised(
    splits: Splits, expected: bool, training: dict[str, int], augment: dict[str, float]
) -> None:
    config = _trial(**training).model_copy(update={"augment": AugmentConfig(**augment)})
    assert trains_on_features(config, splits) is expected


def test_features_that_are_too_large_are_not_kept(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    """80 images of 96 features, 4 bytes each."""
    for limit, expected in ((80 * 96 * 4, True), (80 * 96 * 4 - 1, False)):
        monkeypatch.setattr(features, "LARGEST_BYTES", limit)
        assert trains_on_features(_trial(), splits) is expected


def _fill(marks: Path, values: np.ndarray) -> None:
    (marks / str(np.random.default_rng().integers(1 << 60))).touch()
    values[:] = np.arange(values.size).reshape(values.shape)


def _kept(location: str, marks: Path) -> None:
    kept_features(location, (500, 1, 200), lambda values: _fill(marks, values))


def test_processes_at_the_same_time_compute_them_once(tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    location = str(tmp_path / "features/a-train.npy")
    processes = [get_context("fork").Process(target=_kept, args=(location, tmp_path / "marks")) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(list((tmp_path / "marks").iterdir())) == 1
    np.testing.assert_array_equal(np.load(location).reshape(-1), np.arange(100_000))


def test_an_unfinished_file_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    unfinished = tmp_path / ".a-train.npy.0123456789abcdef.tmp"
    unfinished.write_bytes(b"half")
    values = kept_features(str(tmp_path / "a-train.npy"), (2, 1, 3), lambda array: array.fill(7))
    assert values.tolist() == [[[7.0] * 3]] * 2
    assert not unfinished.exists()


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    def fail(_: np.ndarray) -> None:
        raise ValueError("no image")

    with pytest.raises(ValueError, match="no image"):
        kept_features(str(tmp_path / "a-train.npy"), (2, 1, 3), fail)
    assert [path.name for path in tmp_path.iterdir()] == ["a-train.lock"]


def test_on_an_object_store_they_are_read_into_memory(tmp_path: Path) -> None:
    location, computed = f"memory://features-{tmp_path.name}/a-train.npy", []

    def compute(values: np.ndarray) -> None:
        computed.append(values.shape)
        values[:] = 3

    for _ in range(2):
        assert kept_features(location, (2, 1, 3), compute).tolist() == [[[3.0] * 3]] * 2
    assert computed == [(2, 1, 3)]
