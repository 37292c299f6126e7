"""The training loop as a whole, on squares of 16 px."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import torch

from hemo.config.trial import AugmentConfig, TrainingConfig, TrialConfig
from hemo.errors import TrialError
from hemo.models.classifier import ImageClassifier
from hemo.stats.choices import OperatingPoint
from hemo.stats.operating_points import choose_threshold
from hemo.training import loop
from hemo.training.data.dataset import read_training_set, select_splits
from hemo.training.data.examples import Examples, Splits
from hemo.training.data.sampling import Step
from hemo.training.distributed import Worker
from hemo.training.loop import fit
from hemo.training.reporting import Epochs, FitResult, run_to_end


@dataclass
class Interruption:
    """Stops a fit at one epoch, or throws an error into it."""

    at: int
    error: BaseException | None = None
    seen: list[int] = field(default_factory=list)

    def drive(self, epochs: Epochs[FitResult]) -> FitResult:
        stop: bool | None = None
        while True:
            try:
                metrics = epochs.send(stop)
            except StopIteration as end:
                return end.value
            self.seen.append(metrics.epoch)
            stop = metrics.epoch == self.at
            if stop and self.error:
                epochs.throw(self.error)


@pytest.fixture
def splits(make_training_set: Callable[..., str]) -> Splits:
    return select_splits(read_training_set(make_training_set()), TrialConfig())


def _fit(config: TrialConfig, splits: Splits, place: Path, caller: Interruption | None = None) -> FitResult:
    epochs = fit(config, splits, worker=Worker(), state_path=str(place / "state.pt"))
    return caller.drive(epochs) if caller else run_to_end(epochs)


def _training(config: TrialConfig, **changed: object) -> TrialConfig:
    training = TrainingConfig.model_validate({**config.training.model_dump(), **changed})
    return config.model_copy(update={"training": training})


def _with_images(examples: Examples, pixels: np.ndarray) -> Examples:
    images = replace(examples.source.images, pixels=pixels)
    return replace(examples, source=replace(examples.source, images=images))


def _curve(result: FitResult) -> list[tuple[dict[str, float], dict[str, float], float]]:
    return [(figures.train, figures.val, figures.learning_rate) for figures in result.epochs]


def test_squares_are_learned(tiny_trial: TrialConfig, splits: Splits, tmp_path: Path) -> None:
    result = _fit(_training(tiny_trial, epochs=6), splits, tmp_path)
    assert result.baseline["val"]["accuracy"] == 0.5
    assert result.epochs[-1].train["loss"] < 0.5 * result.epochs[0].train["loss"]
    assert result.metrics["test"]["auroc"] > 0.95
    assert result.metrics["test"]["accuracy"] > 0.9
    assert {name: logits.shape for name, logits in result.logits.items()} == {"val": (16, 1), "test": (16, 1)}
    assert set(result.metrics) == {"train", "val", "test"}


def test_the_same_config_gives_the_same_curve_and_another_seed_another(
    tiny_trial: TrialConfig, splits: Splits, tmp_path: Path
) -> None:
    config = _training(tiny_trial, epochs=1)
    first = _fit(config, splits, tmp_path / "a")
    torch.rand(5)  # what else the process draws does not matter
    assert _curve(_fit(config, splits, tmp_path / "b")) == _curve(first)
    other = _fit(config.model_copy(update={"seed": 1}), splits, tmp_path / "c")
    assert _curve(other) != _curve(first)


def test_fit_leaves_the_global_generator_as_it_was(tiny_trial: TrialConfig, splits: Splits, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    _fit(_training(tiny_trial, epochs=1), splits, tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_killed_fit_goes_on_as_if_undisturbed(tiny_trial: TrialConfig, splits: Splits, tmp_path: Path) -> None:
    config = _training(tiny_trial, epochs=4, schedule="cosine", warmup_epochs=1)
    undisturbed = _fit(config, splits, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        _fit(config, splits, tmp_path / "cut", Interruption(3, KeyboardInterrupt()))
    caller = Interruption(0)
    resumed = _fit(config, splits, tmp_path / "cut", caller)
    assert caller.seen == [4]  # epoch 3 was saved before its metrics were yielded
    assert _curve(resumed) == _curve(undisturbed)
    assert resumed.metrics == undisturbed.metrics
    for name, value in undisturbed.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    np.testing.assert_array_equal(resumed.logits["test"], undisturbed.logits["test"])


def test_epochs_tell_when_they_ended_and_how_long_all_took_over_an_interruption(
    tiny_trial: TrialConfig, splits: Splits, tmp_path: Path
) -> None:
    config, began = _training(tiny_trial, epochs=3), time.time()
    with pytest.raises(KeyboardInterrupt):
        _fit(config, splits, tmp_path, Interruption(2, KeyboardInterrupt()))
    epochs = _fit(config, splits, tmp_path).epochs
    times = [began, *(figures.timestamp for figures in epochs), time.time()]
    assert times == sorted(times)
    assert [figures.runtime_seconds for figures in epochs] == list(accumulate(figures.seconds for figures in epochs))


def test_it_stops_after_patience_and_judges_the_best_epoch(
    tiny_trial: TrialConfig, splits: Splits, tmp_path: Path
) -> None:
    contrary = replace(splits.val, labels=1 - splits.val.labels)  # the better it learns, the worse it does
    config = _training(tiny_trial, epochs=9, patience=2, learning_rate=3e-3)
    result = _fit(config, replace(splits, val=contrary), tmp_path)
    losses = [figures.val["loss"] for figures in result.epochs]
    assert result.ended == "patience"
    assert len(losses) == result.best_epoch + 2 < 9
    assert result.best_epoch == 1 + int(np.argmin(losses))
    assert result.metrics["val"]["loss"] == pytest.approx(min(losses), abs=1e-6)


def test_a_stopped_fit_is_not_evaluated_and_goes_on_when_it_is_run_again(
    tiny_trial: TrialConfig, splits: Splits, tmp_path: Path
) -> None:
    """It was killed before its record: who runs it now decides when it stops."""
    result = _fit(tiny_trial, splits, tmp_path, Interruption(2))
    assert (result.ended, len(result.epochs), result.metrics, result.logits) == ("stopped", 2, {}, {})
    again = Interruption(0)
    assert (_fit(tiny_trial, splits, tmp_path, again).ended, again.seen) == ("epochs", [3])


@pytest.mark.parametrize(
    ("epochs", "freeze_epochs", "seen"),
    [(9, 4, 6), (9, 0, 3), (4, 4, 3)],  # a backbone that never thaws is waited for in vain
)
def test_patience_is_counted_from_when_the_backbone_thaws(
    tiny_trial: TrialConfig, splits: Splits, tmp_path: Path, epochs: int, freeze_epochs: int, seen: int
) -> None:
    """Validation says the contrary of train: after the first epoch it does not get better."""
    contrary = replace(splits, val=replace(splits.val, labels=1 - splits.val.labels))
    config = _training(tiny_trial, epochs=epochs, freeze_epochs=freeze_epochs, patience=2, learning_rate=0.01)
    result = _fit(config, contrary, tmp_path)
    assert (result.best_epoch, result.ended, len(result.epochs)) == (1, "patience", seen)


def test_every_kind_of_too_little_memory_makes_a_batch_too_large(
    tiny_trial: TrialConfig, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_step = loop._take_step

    def greedy(run: loop.Fit, step: Step, images: torch.Tensor, targets: torch.Tensor) -> object:
        if step.images > 4:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        return take_step(run, step, images, targets)

    monkeypatch.setattr(loop, "_take_step", greedy)
    assert loop.largest_batch_size(tiny_trial, splits, Worker(), at_most=16) == 4


def test_a_loss_that_is_no_number_names_epoch_and_step(tiny_trial: TrialConfig, splits: Splits, tmp_path: Path) -> None:
    config = _training(tiny_trial, optimizer="sgd", learning_rate=1e30)
    with pytest.raises(TrialError, match=r"loss is (nan|inf) in epoch 1, step [2-6]; try a lower learning_rate"):
        _fit(config, splits, tmp_path)


def test_too_little_memory_names_the_batch_size_and_half_of_it(
    tiny_trial: TrialConfig, splits: Splits, tmp_path: Path
) -> None:
    with pytest.raises(TrialError, match="out of memory with batch_size 8; try batch_size 4"):
        _fit(tiny_trial, splits, tmp_path, Interruption(1, torch.OutOfMemoryError("CUDA out of memory")))


def test_too_little_memory_is_noticed_while_judging_as_well(
    tiny_trial: TrialConfig, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CPU's allocator raises a plain RuntimeError."""
    forward = ImageClassifier.forward

    def greedy(model: ImageClassifier, images: torch.Tensor) -> torch.Tensor:
        if not model.training:
            torch.empty(1 << 50, dtype=torch.uint8)
        return forward(model, images)

    monkeypatch.setattr(ImageClassifier, "forward", greedy)
    with pytest.raises(
        TrialError, match="out of memory with batch_size 8; try batch_size 4, smaller images or another"
    ):
        _fit(tiny_trial, splits, tmp_path)


@pytest.mark.parametrize(("at", "when"), [(0, "before epoch 1"), (1, "after epoch 1")])
def test_a_logit_that_is_no_number_is_noticed_where_images_are_judged(
    tiny_trial: TrialConfig, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, when: str
) -> None:
    """The black one of the 16 images of validation has none, from some epoch on."""
    splits.val.source.images.pixels[5] = 0
    forward, trained = ImageClassifier.forward, {"times": 0}

    def broken(model: ImageClassifier, images: torch.Tensor) -> torch.Tensor:
        trained["times"] += model.training
        logits = forward(model, images)
        dark = images.flatten(1).amax(dim=1) == images.min()
        return logits / (~dark)[:, None] if trained["times"] >= at and not model.training else logits

    monkeypatch.setattr(ImageClassifier, "forward", broken)
    with pytest.raises(TrialError, match=f"1 of 16 images have a NaN or infinite logit {when}; try a lower"):
        _fit(tiny_trial, splits, tmp_path)


def test_train_loss_is_a_mean_over_images_not_over_batches(
    tiny_trial: TrialConfig, splits: Splits, tmp_path: Path
) -> None:
    """Without learning, dropout and batch statistics, the running loss must be the loss of the whole split."""
    model = tiny_trial.model.model_copy(update={"backbone": "test_vit", "dropout": 0.0})
    plain = tiny_trial.model_copy(update={"model": model, "augment": TrialConfig().augment})
    config = _training(plain, epochs=1, batch_size=7, learning_rate=1e-12)
    result = _fit(config, splits, tmp_path)
    assert result.epochs[0].train["loss"] == pytest.approx(result.metrics["train"]["loss"], abs=1e-6)


def _exact(config: TrialConfig, dropout: float = 0.0, **changed: object) -> TrialConfig:
    """Return a trial of plain SGD without batch normalisation and augmentation: nothing but what is said changes it."""
    model = config.model.model_copy(update={"backbone": "test_vit", "dropout": dropout})
    plain = config.model_copy(update={"model": model, "augment": AugmentConfig()})
    return _training(plain, **{"optimizer": "sgd", "epochs": 1, "learning_rate": 1e-12, **changed})


def test_the_baseline_is_that_of_the_untrained_model_on_train_and_val(
    tiny_trial: TrialConfig, splits: Splits, tmp_path: Path
) -> None:
    result = _fit(_exact(tiny_trial), splits, tmp_path)  # which stays untrained
    assert set(result.baseline) == {"train", "val"}
    for name, figures in result.baseline.items():
        assert figures["loss"] == pytest.approx(result.metrics[name]["loss"], abs=1e-6)


def test_the_threshold_is_chosen_on_validation_alone(tiny_trial: TrialConfig, splits: Splits, tmp_path: Path) -> None:
    """Where test says the contrary of validation, its best threshold would be another."""
    contrary = replace(splits, test=replace(splits.test, labels=1 - splits.test.labels))
    result = _fit(_training(tiny_trial, epochs=4), contrary, tmp_path)
    probabilities = {name: 1 / (1 + np.exp(-logits[:, 0].astype(float))) for name, logits in result.logits.items()}
    rule = OperatingPoint.parse("balanced_accuracy")
    by_val = choose_threshold(probabilities["val"], contrary.val.labels[:, 0], rule)
    by_test = choose_threshold(probabilities["test"], contrary.test.labels[:, 0], rule)
    assert result.thresholds == pytest.approx((by_val,), abs=1e-6) != pytest.approx((by_test,), abs=1e-6)


def test_dropout_is_on_while_learning(tiny_trial: TrialConfig, splits: Splits, tmp_path: Path) -> None:
    result = _fit(_exact(tiny_trial, dropout=0.9), splits, tmp_path)
    assert abs(result.epochs[0].train["loss"] - result.metrics["train"]["loss"]) > 1e-3


def test_training_images_are_augmented(tiny_trial: TrialConfig, splits: Splits, tmp_path: Path) -> None:
    """Turned away from the right half, where they alone have something, images look empty."""
    images = np.zeros_like(splits.train.source.images.pixels)
    images[:, :, :, 8:] = 200
    half = replace(splits, train=_with_images(splits.train, images))
    config = _exact(tiny_trial)
    flipped = config.model_copy(update={"augment": AugmentConfig(horizontal_flip=1.0)})
    plain_loss = _fit(config, half, tmp_path / "plain").epochs[0].train["loss"]
    assert abs(_fit(flipped, half, tmp_path / "flipped").epochs[0].train["loss"] - plain_loss) > 1e-4


def test_the_schedule_reaches_the_optimiser(tiny_trial: TrialConfig, splits: Splits, tmp_path: Path) -> None:
    """In the first of a billion epochs of warm-up, a large learning rate is next to none."""
    cold = _fit(_exact(tiny_trial, learning_rate=0.1, warmup_epochs=1e9), splits, tmp_path / "cold")
    hot = _fit(_exact(tiny_trial, learning_rate=0.1), splits, tmp_path / "hot")
    untrained = cold.baseline["val"]["loss"]
    assert cold.epochs[0].val["loss"] == pytest.approx(untrained, abs=1e-5)
    assert abs(hot.epochs[0].val["loss"] - untrained) > 1e-3


def test_dropout_differs_from_epoch_to_epoch(tiny_trial: TrialConfig, splits: Splits, tmp_path: Path) -> None:
    """With images and labels all alike and weights that stay, only dropout can tell epochs apart."""
    blank = _with_images(splits.train, np.zeros_like(splits.train.source.images.pixels))
    alike = replace(splits, train=replace(blank, labels=np.ones_like(blank.labels)))
    first, second = _fit(_exact(tiny_trial, dropout=0.5, epochs=2), alike, tmp_path).epochs
    assert abs(first.train["loss"] - second.train["loss"]) > 1e-6
