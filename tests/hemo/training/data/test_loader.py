"""Rows to normalised floats."""

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from hemo.config.trial import AugmentConfig, TrialConfig
from hemo.models.classifier import Normalisation, normalise, plain_normalisation, to_unit_range
from hemo.training.data.augment import draw_mixup
from hemo.training.data.dataset import ResidentImages, read_training_set, select_splits
from hemo.training.data.examples import Examples, ImageSet
from hemo.training.data.loader import DataWaitTime, TrainingBatches, _pinned, device_batches
from hemo.training.data.sampling import Step, derive_seed, epoch_rows


def test_examples_become_floats_at_hand_computed_values() -> None:
    pixels = np.array([[[[7, 7]]], [[[0, 51]]], [[[255, 102]]]], np.uint8)
    pixels.flags.writeable = False  # as Ray's object store gives them
    nothing = np.array(["a", "b", "c"])
    source = ImageSet(ResidentImages(pixels, np.array([3])), np.zeros((3, 1), np.uint8), nothing, nothing, nothing)
    examples = Examples(source, np.array([1, 2]), source.labels[1:], 1)
    first, second = device_batches(examples, [np.array([1, 0]), np.array([0])], torch.device("cpu"))
    assert first.dtype == torch.uint8
    assert second.tolist() == [[[[0, 51]]]]
    unit = to_unit_range(first)
    torch.testing.assert_close(unit, torch.tensor([[[[1.0, 0.4]]], [[[0.0, 0.2]]]]))
    torch.testing.assert_close(
        normalise(unit, plain_normalisation(1)), torch.tensor([[[[2.0, -0.4]]], [[[-2.0, -1.2]]]])
    )


@pytest.mark.parametrize("batches", [0, 1, 10])
def test_a_thread_gathers_a_few_ahead_in_order_and_ends(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda images: images)  # it needs a GPU
    gathered = _pinned(_counted(batches, []))
    assert [int(images) for images in gathered] == list(range(batches))


def test_what_ends_the_gathering_is_passed_on_and_who_leaves_early_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda images: images)
    seen, said = [], list[str]()
    with pytest.raises(ValueError, match="damaged"):
        seen.extend(_pinned(_counted(5, said, fault="damaged")))
    assert (len(seen), said) == (5, ["closed"])
    gathered = _pinned(_counted(100, said))
    next(gathered)
    gathered.close()
    assert said == ["closed", "closed"]


def _counted(batches: int, said: list[str], fault: str = "") -> Iterator[torch.Tensor]:
    """Yield numbered batches, then raise if there is a fault; `said` is told when nobody asks any more."""
    try:
        for number in range(batches):
            yield torch.tensor(number)
        if fault:
            raise ValueError(fault)
    finally:
        said.append("closed")


@pytest.fixture
def train(make_training_set: Callable[..., str]) -> Examples:
    return select_splits(read_training_set(make_training_set()), TrialConfig()).train


def _batches(train: Examples, **augment: float) -> TrainingBatches:
    targets = torch.from_numpy(train.labels).float()
    return TrainingBatches(train, targets, AugmentConfig(**augment), 5, Normalisation((0.0,), (0.5,)))


def _step(train: Examples, rank: int = 0, workers: int = 1):
    return epoch_rows(train.block_of, seed=5, epoch=2, rank=rank, workers=workers, batch_size=8)[1]


def _batch(batches: TrainingBatches, step: Step, epoch: int = 2, number: int = 1):
    """Return what comes of a step that is the `number`th of its epoch."""
    return list(batches.epoch_batches([step] * (number + 1), epoch, DataWaitTime()))[number]


def test_plain_images_are_those_of_the_rows_and_normalised(train: Examples) -> None:
    step = _step(train)
    images, labels = _batch(_batches(train), step)
    expected = train.source.images.pixels[train.rows[step.rows]] / np.float32(255) / 0.5
    torch.testing.assert_close(images, torch.from_numpy(expected))
    assert labels.tolist() == train.labels[step.rows].tolist()


def test_each_is_mixed_with_its_partner_as_that_was_changed(train: Examples) -> None:
    step = _step(train)
    plain_images, plain_labels = _batch(_batches(train, rotate_degrees=20), step)
    images, labels = _batch(_batches(train, rotate_degrees=20, mixup_alpha=1.0), step)
    drawn = draw_mixup(1.0, 8, derive_seed(5, 2, 1, 1))
    for place, (partner, share) in enumerate(zip(drawn.partner, drawn.weight, strict=True)):
        torch.testing.assert_close(images[place], share * plain_images[place] + (1 - share) * plain_images[partner])
        torch.testing.assert_close(labels[place], share * plain_labels[place] + (1 - share) * plain_labels[partner])


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_workers_see_together_what_one_sees_alone(train: Examples, alpha: float) -> None:
    options = {"rotate_degrees": 20.0, "erase": 0.5, "mixup_alpha": alpha}
    alone = _batch(_batches(train, **options), _step(train))
    shares = [_batch(_batches(train, **options), _step(train, rank, 3)) for rank in range(3)]
    for whole, parts in zip(alone, zip(*shares, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(parts), whole)


def test_steps_and_epochs_are_drawn_apart_and_repeat_themselves(train: Examples) -> None:
    step, batches = _step(train), _batches(train, rotate_degrees=20)
    first, again, next_step, next_epoch = (
        _batch(batches, step, epoch, number)[0] for epoch, number in ((1, 0), (1, 0), (1, 1), (2, 0))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, next_step)
    assert not torch.equal(first, next_epoch)


def test_only_the_time_without_batches_counts() -> None:
    def slow() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.02)
            yield number

    waiting = DataWaitTime()
    time.sleep(0.01)
    began, worked = time.perf_counter(), 0.0
    seen = []
    for number in waiting.timed(slow()):
        started = time.perf_counter()
        seen.append(number)
        time.sleep(0.03)
        worked += time.perf_counter() - started
    took = time.perf_counter() - began
    assert seen == [0, 1, 2]
    assert 0.03 <= waiting.first_batch_seconds <= took
    assert 0.06 <= waiting.seconds <= took - worked + 1e-3
