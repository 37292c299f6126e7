"""Batches of training images: order, draws, mixing."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hemo.config.trial import AugmentConfig, TrialConfig
from hemo.learning.batch import Normalisation
from hemo.learning.examples import Examples, select_splits
from hemo.learning.images import read_training_set
from hemo.learning.mixup import draw_mixing
from hemo.learning.order import Step, epoch_rows, mixed_seed
from hemo.learning.training_batch import TrainingBatches
from hemo.learning.waiting import WaitingTime


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
    return list(batches.of_epoch([step] * (number + 1), epoch, WaitingTime()))[number]


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
    drawn = draw_mixing(1.0, 8, mixed_seed(5, 2, 1, 1))
    for place, (partner, share) in enumerate(zip(drawn.partner, drawn.share, strict=True)):
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
