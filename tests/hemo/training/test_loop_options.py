"""Options beyond the plain recipe, as the training loop follows them."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hemo.config.trial import AugmentConfig, ModelConfig, TrainingConfig, TrialConfig
from hemo.models.classifier import ImageClassifier
from hemo.training.data.dataset import read_training_set, select_splits
from hemo.training.data.examples import Splits
from hemo.training.distributed import Worker
from hemo.training.loop import fit
from hemo.training.reporting import Epochs, FitResult, run_to_end


@pytest.fixture
def splits(make_training_set: Callable[..., str]) -> Splits:
    return select_splits(read_training_set(make_training_set()), TrialConfig())


def _trial(**training: object) -> TrialConfig:
    """Return a trial of a model without batch normalisation and dropout: what an option does is all that differs."""
    settings = {"epochs": 1, "batch_size": 8, "optimizer": "sgd", "learning_rate": 0.01, **training}
    model = ModelConfig(backbone="test_vit", dropout=0.0)
    return TrialConfig(model=model, training=TrainingConfig.model_validate(settings))


def _epochs(splits: Splits, place: Path, **training: object) -> Epochs[FitResult]:
    return fit(_trial(**training), splits, worker=Worker(), state_path=str(place / "state.pt"))


def _fit(splits: Splits, place: Path, **training: object) -> FitResult:
    return run_to_end(_epochs(splits, place, **training))


def _val_losses(result: FitResult) -> list[float]:
    return [figures.val["loss"] for figures in result.epochs]


def _resumed(splits: Splits, place: Path, **training: object) -> FitResult:
    """Return a fit that was killed after its first epoch and went on."""
    killed = _epochs(splits, place, **training)
    next(killed)
    killed.close()
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
    """Parts of 3, 3 and 2 images; what fits in training fits in evaluation: 16 images of validation in 3s and a 1."""
    whole = _fit(splits, tmp_path / "whole", epochs=2)
    seen, evaluated = [], []
    forward = ImageClassifier.forward

    def noting(model: ImageClassifier, images: torch.Tensor) -> torch.Tensor:
        (seen if model.training else evaluated).append(len(images))
        return forward(model, images)

    monkeypatch.setattr(ImageClassifier, "forward", noting)
    parts = _fit(splits, tmp_path / "parts", epochs=2, accumulation=3)
    assert seen[:6] == [3, 3, 2, 3, 3, 2]
    assert evaluated[:22] == [3] * 16 + [3] * 5 + [1]  # the baseline of 48 images of train and 16 of validation
    assert _val_losses(parts) == pytest.approx(_val_losses(whole), abs=1e-5)
    assert parts.epochs[-1].train["loss"] == pytest.approx(whole.epochs[-1].train["loss"], abs=1e-5)


def test_clipped_gradients_go_no_further_than_their_norm(splits: Splits, tmp_path: Path) -> None:
    """Six steps of SGD with momentum, each of at most 0.01 x 1e-6 / (1 - 0.9), leave the model as it was."""
    clipped, free = (_fit(splits, tmp_path / str(norm), clip_norm=norm) for norm in (1e-6, 0.0))
    untrained = clipped.baseline["val"]["loss"]
    assert clipped.metrics["val"]["loss"] == pytest.approx(untrained, abs=1e-5)
    assert abs(free.metrics["val"]["loss"] - untrained) > 1e-3


def _backbone(result: FitResult) -> dict[str, torch.Tensor]:
    return {name: value for name, value in result.model.state_dict().items() if name.startswith("backbone.")}


def test_a_backbone_is_frozen_for_the_first_epochs_only(splits: Splits, tmp_path: Path) -> None:
    start, probe, tuned = (
        _fit(splits, tmp_path / str(rate), epochs=2, freeze_epochs=frozen, optimizer="adam", learning_rate=rate)
        for rate, frozen in ((1e-12, 2), (1e-3, 2), (1.1e-3, 1))
    )
    untouched = _backbone(start)
    assert all(torch.equal(value, untouched[name]) for name, value in _backbone(probe).items())
    assert abs(probe.epochs[0].val["loss"] - start.epochs[0].val["loss"]) > 1e-4  # the head learned
    assert tuned.best_epoch == 2
    assert not any(torch.equal(value, untouched[name]) for name, value in _backbone(tuned).items() if "weight" in name)


@pytest.mark.parametrize(
    "options",
    [
        {"freeze_epochs": 1, "optimizer": "adam", "learning_rate": 1e-3},
        {"ema_decay": 0.9, "layer_decay": 0.5, "schedule": "one_cycle", "accumulation": 2, "clip_norm": 1.0},
    ],
    ids=["frozen", "averaged"],
)
def test_a_resumed_fit_goes_on_as_if_undisturbed(splits: Splits, tmp_path: Path, options: dict[str, object]) -> None:
    whole = _fit(splits, tmp_path / "whole", epochs=3, **options)
    resumed = _resumed(splits, tmp_path / "cut", epochs=3, **options)
    assert _val_losses(resumed) == _val_losses(whole)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_the_average_of_the_weights_is_judged(splits: Splits, tmp_path: Path) -> None:
    """The weights learn the same with and without an average, which lags behind them."""
    plain = _fit(splits, tmp_path / "plain", epochs=2)
    averaged = _fit(splits, tmp_path / "averaged", epochs=2, ema_decay=0.9)
    assert [figures.train for figures in averaged.epochs] == [figures.train for figures in plain.epochs]
    assert all(
        abs(ours - theirs) > 1e-4 for ours, theirs in zip(_val_losses(averaged), _val_losses(plain), strict=True)
    )
    best = averaged.epochs[averaged.best_epoch - 1]
    assert averaged.metrics["val"]["loss"] == pytest.approx(best.val["loss"], abs=1e-6)


def test_a_small_layer_decay_leaves_the_stem_next_to_where_it_was(splits: Splits, tmp_path: Path) -> None:
    start, decayed = (
        _fit(splits, tmp_path / str(rate), layer_decay=0.01, learning_rate=rate).model.state_dict()
        for rate in (1e-12, 0.01)
    )
    moved = {name: float((decayed[name] - start[name]).abs().max()) for name in start}
    assert moved["backbone.patch_embed.proj.weight"] < 1e-7
    assert moved["head.logits.weight"] > 1e-4


def test_mixing_changes_what_is_learned_the_same_way_each_time(splits: Splits, tmp_path: Path) -> None:
    plain, first, again = (
        run_to_end(
            fit(
                _trial(epochs=2).model_copy(update={"augment": AugmentConfig(mixup_alpha=alpha)}),
                splits,
                worker=Worker(),
                state_path=str(tmp_path / name / "state.pt"),
            )
        )
        for name, alpha in (("plain", 0.0), ("first", 1.0), ("again", 1.0))
    )
    assert _val_losses(first) == _val_losses(again)
    assert abs(_val_losses(first)[-1] - _val_losses(plain)[-1]) > 1e-4


def test_one_worker_of_two_takes_a_batch_in_two_parts(splits: Splits, tmp_path: Path) -> None:
    """As with `accumulation` of 2, whose parts batch normalisation sees; the steps are those of two workers."""
    model = ModelConfig(backbone="test_resnet", weights="none")

    def losses(worker: Worker, accumulation: int) -> list[float]:
        config = _trial(epochs=2, accumulation=accumulation).model_copy(update={"model": model})
        place = tmp_path / f"{worker.configured}-{accumulation}"
        result = run_to_end(fit(config, splits, worker=worker, state_path=str(place / "state.pt")))
        assert [epoch.workers for epoch in result.epochs] == [1, 1]
        return _val_losses(result)

    alone, in_parts = losses(Worker(), 1), losses(Worker(), 2)
    assert losses(Worker(configured=2), 1) == in_parts
    assert abs(alone[-1] - in_parts[-1]) > 1e-6


@pytest.mark.slow
def test_two_workers_follow_the_options_as_one_does(splits: Splits, tmp_path: Path) -> None:
    config = _trial(epochs=3, freeze_epochs=1, accumulation=2, clip_norm=0.5, ema_decay=0.5, label_smoothing=0.1)
    config = config.model_copy(update={"augment": AugmentConfig(mixup_alpha=1.0, rotate_degrees=10)})
    alone = run_to_end(fit(config, splits, worker=Worker(), state_path=str(tmp_path / "state.pt")))
    command = [sys.executable, str(Path(__file__).with_name("fit_of_two.py")), str(tmp_path), config.model_dump_json()]
    processes = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(2)]
    said = [json.loads(process.communicate(timeout=300)[0].splitlines()[-1]) for process in processes]
    assert said[0] == said[1] == pytest.approx(_val_losses(alone), abs=1e-4)
    assert abs(said[0][2] - said[0][0]) > 1e-3
