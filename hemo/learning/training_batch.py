"""What the model sees at a step of training: images as drawn for this epoch and step, and what is said of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hemo.config.trial import AugmentConfig
from hemo.learning.augment import AugmentParameters, augment, draw_parameters
from hemo.learning.batch import Normalisation, device_batches, normalise, to_unit_range
from hemo.learning.examples import Examples
from hemo.learning.mixup import Mixing, draw_mixing, mixed
from hemo.learning.order import Step, mixed_seed
from hemo.learning.waiting import WaitingTime


@dataclass(frozen=True)
class Loaded:
    """Images of a step on the device."""

    images: Tensor  # (images, channels, height_px, width_px), uint8
    rows: NDArray[np.intp]  # (images,), each once

    def of(self, rows: NDArray[np.intp]) -> Tensor:
        """Return the images of some of the rows."""
        if rows is self.rows:
            return self.images
        by_row = np.argsort(self.rows)
        places = by_row[np.searchsorted(self.rows, rows, sorter=by_row)]
        return self.images[torch.from_numpy(places).to(self.images.device, non_blocking=True)]


@dataclass(frozen=True)
class TrainingBatches:
    """Batches of one split, replayed by seed, epoch and step.

    All is drawn for the images of all workers, so that what happens to an image does not depend on how many there are.
    """

    examples: Examples
    targets: Tensor  # (examples, classes), float32; its device is that of the batches
    config: AugmentConfig
    seed: int  # of the trial
    normalisation: Normalisation

    def of_epoch(self, order: Sequence[Step], epoch: int, waiting: WaitingTime) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the worker's images of each step, augmented, normalised and mixed, and their labels.

        Where images are streamed and mixed, a worker also reads those of others that its own are mixed with: several
        workers then read more than their shares, each nearly all blocks.

        Args:
            order: Which images, step by step.
            epoch: 1-based.
            waiting: Counts the time until images came.

        Yields:
            Tensors (images, channels, height_px, width_px) and (images, classes), float32, on the device.

        Raises:
            SourceError: If images that are read only now are gone or damaged.
        """
        mixings = [self._mixing(step, epoch, number) for number, step in enumerate(order)]
        wanted = [_rows_needed(step, mixing) for step, mixing in zip(order, mixings, strict=True)]
        loaded = waiting.timed(device_batches(self.examples, wanted, self.targets.device))
        for number, (images, rows) in enumerate(zip(loaded, wanted, strict=True)):
            yield self._batch(
                Loaded(images, rows), order[number], mixings[number], mixed_seed(self.seed, epoch, number, 0)
            )

    def _mixing(self, step: Step, epoch: int, number: int) -> Mixing | None:
        """Return what the worker's images of a step are mixed with, None if with nothing."""
        if not self.config.mixup_alpha:
            return None
        seed = mixed_seed(self.seed, epoch, number, 1)
        return draw_mixing(self.config.mixup_alpha, step.images, seed).part(step.place)

    def _batch(self, loaded: Loaded, step: Step, mixing: Mixing | None, seed: int) -> tuple[Tensor, Tensor]:
        """Return images and labels of a step; `seed` decides how images are changed."""
        drawn = draw_parameters(self.config, step.images, torch.Generator().manual_seed(seed))
        images, labels = self._changed(loaded, step.rows, drawn.part(step.place))
        if mixing is None:
            return images, labels
        partners = drawn.part(torch.from_numpy(mixing.partner))
        others, other_labels = self._changed(loaded, step.batch[mixing.partner], partners)
        return mixed(images, others, mixing.share), mixed(labels, other_labels, mixing.share)

    def _changed(self, loaded: Loaded, rows: NDArray[np.intp], parameters: AugmentParameters) -> tuple[Tensor, Tensor]:
        """Return images changed by their parameters and normalised, and their labels."""
        images = to_unit_range(loaded.of(rows))
        labels = self.targets[torch.from_numpy(rows).to(self.targets.device, non_blocking=True)]
        return normalise(augment(images, parameters), self.normalisation), labels


def _rows_needed(step: Step, mixing: Mixing | None) -> NDArray[np.intp]:
    """Return the worker's rows of a step, then those of others that they are mixed with; each once."""
    if mixing is None:
        return step.rows
    return np.concatenate([step.rows, np.setdiff1d(step.batch[mixing.partner], step.rows)])
