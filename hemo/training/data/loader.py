"""Batches of a split on the device: gathered, copied ahead, and for training augmented, normalised and mixed."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hemo.config.trial import AugmentConfig
from hemo.models.normalisation import Normalisation, normalise, to_unit_range
from hemo.training.data.augment import AugmentParameters, Mixing, augment, draw_mixing, draw_parameters, mixed
from hemo.training.data.sampling import Step, mixed_seed
from hemo.training.data.task_rows import Examples

T = TypeVar("T")

PINNED_AHEAD = 3
"""Batches that wait in page-locked memory for their copy to a CUDA device."""

COPIED_AHEAD = 2
"""Batches on a CUDA device, or on their way there, before they are asked for."""


class WaitingTime:
    """A stopwatch of one epoch, begun when it is made."""

    def __init__(self) -> None:
        """Begin."""
        self._began = time.perf_counter()
        self.first_batch_seconds = 0.0  # from the beginning until the first batch was there
        self.seconds = 0.0  # waited for all batches together

    def timed(self, batches: Iterator[T]) -> Iterator[T]:
        """Pass batches on, and count how long each one took to come."""
        asked = time.perf_counter()
        for number, batch in enumerate(batches):
            now = time.perf_counter()
            self.seconds += now - asked
            if number == 0:
                self.first_batch_seconds = now - self._began
            yield batch
            asked = time.perf_counter()


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


def device_batches(examples: Examples, wanted: Sequence[NDArray[np.intp]], device: torch.device) -> Iterator[Tensor]:
    """Yield the images of these examples on the device as uint8, a quarter of what floats would move.

    For a CUDA device batches are gathered in a thread and copied beside what the device computes, so that it need not
    wait for them. Elsewhere a batch is gathered when it is asked for.

    Args:
        examples: Of a split.
        wanted: For each batch places in `examples`, shape (images,).
        device: Where to.

    Yields:
        Tensor (images, channels, height_px, width_px), uint8.

    Raises:
        SourceError: If images that are read only now are gone or damaged.
    """
    arrays = examples.source.images.batches([examples.rows[places] for places in wanted])
    host = (torch.from_numpy(images) for images in arrays)
    return _copied(_pinned(host), device) if device.type == "cuda" else host


def _pinned(batches: Iterator[Tensor]) -> Iterator[Tensor]:
    """Gather batches in a thread, into page-locked memory."""
    pinned = (images.pin_memory() for images in batches)
    with ThreadPoolExecutor(1, thread_name_prefix="hemo-pin") as thread:
        coming = deque(thread.submit(next, pinned, None) for _ in range(PINNED_AHEAD))
        while (images := coming.popleft().result()) is not None:
            coming.append(thread.submit(next, pinned, None))
            yield images


def _copied(batches: Iterator[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Copy batches to a CUDA device on a stream of their own, some before they are asked for."""
    copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ahead: deque[tuple[Tensor, torch.cuda.Event]] = deque()
    for images in batches:
        with torch.cuda.stream(copying):
            ahead.append((images.to(device, non_blocking=True), copying.record_event()))
        if len(ahead) > COPIED_AHEAD:
            yield _arrived(*ahead.popleft())
    while ahead:
        yield _arrived(*ahead.popleft())


def _arrived(images: Tensor, copied: torch.cuda.Event) -> Tensor:
    """Let the computing stream wait for the copy, and keep the memory from the copying one until it is done with."""
    computing = torch.cuda.current_stream(images.device)
    computing.wait_event(copied)
    images.record_stream(computing)
    return images
