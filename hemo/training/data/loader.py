"""Batches of a split on the device: gathered and copied ahead; for training also augmented, normalised and mixed."""

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
from hemo.models.classifier import Normalisation, model_input, normalise, to_unit_range
from hemo.training.data.augment import AugmentParameters, Mixing, augment, draw_mixup, draw_parameters, mix
from hemo.training.data.examples import Examples
from hemo.training.data.sampling import Step, derive_seed, epoch_rows
from hemo.training.distributed import Worker

T = TypeVar("T")
Batch = tuple[Tensor, Tensor]  # images and labels

PINNED_AHEAD = 3
"""Batches that wait in page-locked memory for their copy to a CUDA device."""

COPIED_AHEAD = 2
"""Batches on a CUDA device, or being copied there, before they are used."""


class DataWaitTime:
    """A stopwatch of one epoch, started when it is created."""

    def __init__(self) -> None:
        """Start."""
        self._began = time.perf_counter()
        self.first_batch_seconds = 0.0  # from the beginning until the first batch was there
        self.seconds = 0.0  # waited for all batches together

    def timed(self, batches: Iterator[T]) -> Iterator[T]:
        """Pass batches on, and measure how long each one took."""
        requested = time.perf_counter()
        for number, batch in enumerate(batches):
            now = time.perf_counter()
            self.seconds += now - requested
            if number == 0:
                self.first_batch_seconds = now - self._began
            yield batch
            requested = time.perf_counter()


@dataclass(frozen=True)
class LoadedImages:
    """Images of a step on the device."""

    images: Tensor  # (images, channels, height_px, width_px), uint8
    rows: NDArray[np.intp]  # (images,), each once

    def of(self, rows: NDArray[np.intp]) -> Tensor:
        """Return the images of some of the rows."""
        if rows is self.rows:
            return self.images
        by_row = np.argsort(self.rows)
        index = by_row[np.searchsorted(self.rows, rows, sorter=by_row)]
        return self.images[torch.from_numpy(index).to(self.images.device, non_blocking=True)]


@dataclass(frozen=True)
class TrainingBatches:
    """Batches of one split, determined by seed, epoch and step.

    Random changes are drawn for the images of all workers together, so they do not depend on the number of workers.
    """

    examples: Examples
    targets: Tensor  # (examples, classes), float32; its device is that of the batches
    config: AugmentConfig
    seed: int  # of the trial
    normalisation: Normalisation | None  # None: the examples are features, which are not changed

    def order(self, epoch: int, worker: Worker, batch_size: int) -> list[Step]:
        """Return which images this worker trains on in an epoch (1-based), step by step."""
        return epoch_rows(
            self.examples.block_of,
            seed=self.seed,
            epoch=epoch,
            rank=worker.rank,
            workers=worker.count,
            batch_size=batch_size,
        )

    def epoch_batches(self, order: Sequence[Step], epoch: int, data_wait: DataWaitTime) -> Iterator[Batch]:
        """Yield the worker's images of each step, augmented, normalised and mixed, and their labels.

        With mixup of streamed images a worker also reads those of others that its own are mixed with: each of several
        workers then reads nearly all blocks.

        Args:
            order: Which images, step by step.
            epoch: 1-based.
            data_wait: Measures the time without images.

        Yields:
            Tensors (images, channels, height_px, width_px), or features (images, positions, features), and (images,
            classes), float32, on the device.

        Raises:
            SourceError: If streamed images are missing or damaged.
        """
        mixings = [self._mixing(step, epoch, number) for number, step in enumerate(order)]
        wanted = [_rows_needed(step, mixing) for step, mixing in zip(order, mixings, strict=True)]
        loaded = data_wait.timed(device_batches(self.examples, wanted, self.targets.device))
        for number, (images, rows) in enumerate(zip(loaded, wanted, strict=True)):
            yield self._batch(
                LoadedImages(images, rows), order[number], mixings[number], derive_seed(self.seed, epoch, number, 0)
            )

    def scaled(self, images: Tensor) -> Tensor:
        """Return uint8 images as the model takes them: float32, normalised."""
        return model_input(images, self.normalisation)

    def _mixing(self, step: Step, epoch: int, number: int) -> Mixing | None:
        """Return what the worker's images of a step are mixed with, None without mixup."""
        if not self.config.mixup_alpha:
            return None
        seed = derive_seed(self.seed, epoch, number, 1)
        return draw_mixup(self.config.mixup_alpha, step.images, seed).part(step.worker_slice)

    def _batch(self, loaded: LoadedImages, step: Step, mixing: Mixing | None, seed: int) -> Batch:
        """Return images and labels of a step; `seed` determines how images are changed."""
        if self.normalisation is None:
            return loaded.images, self._labels(step.rows)
        drawn = draw_parameters(self.config, step.images, torch.Generator().manual_seed(seed))
        images, labels = self._augmented(loaded, step.rows, drawn.part(step.worker_slice), self.normalisation)
        if mixing is None:
            return images, labels
        partners = drawn.part(torch.from_numpy(mixing.partner))
        others, other_labels = self._augmented(loaded, step.batch[mixing.partner], partners, self.normalisation)
        return mix(images, others, mixing.weight), mix(labels, other_labels, mixing.weight)

    def _augmented(
        self, loaded: LoadedImages, rows: NDArray[np.intp], parameters: AugmentParameters, normalisation: Normalisation
    ) -> Batch:
        """Return images augmented by their parameters and normalised, and their labels."""
        images = augment(to_unit_range(loaded.of(rows)), parameters)
        return normalise(images, normalisation), self._labels(rows)

    def _labels(self, rows: NDArray[np.intp]) -> Tensor:
        """Return the labels of some examples, on the device."""
        return self.targets[torch.from_numpy(rows).to(self.targets.device, non_blocking=True)]


def _rows_needed(step: Step, mixing: Mixing | None) -> NDArray[np.intp]:
    """Return the worker's rows of a step, then those of others that they are mixed with; each once."""
    if mixing is None:
        return step.rows
    return np.concatenate([step.rows, np.setdiff1d(step.batch[mixing.partner], step.rows)])


def device_batches(examples: Examples, batches: Sequence[NDArray[np.intp]], device: torch.device) -> Iterator[Tensor]:
    """Yield the images of these examples on the device as uint8, a quarter of what floats would move; or features.

    For a CUDA device batches are gathered in a thread and copied while the device computes. On the CPU a batch is
    gathered when it is requested.

    Args:
        examples: Of a split.
        batches: Of each batch the indices into `examples`, shape (images,).
        device: Destination.

    Yields:
        Tensor (images, channels, height_px, width_px), uint8; or features, float32, (images, positions, features) or
        packed studies, see `EmbeddedStudies.batches`.

    Raises:
        SourceError: If streamed images are missing or damaged.
    """
    arrays = examples.source.images.batches([examples.rows[indices] for indices in batches])
    host = (torch.from_numpy(images) for images in arrays)
    return _copied(_pinned(host), device) if device.type == "cuda" else host


def _pinned(batches: Iterator[Tensor]) -> Iterator[Tensor]:
    """Gather batches in a thread, into page-locked memory."""
    pinned = (images.pin_memory() for images in batches)
    with ThreadPoolExecutor(1, thread_name_prefix="hemo-pin") as thread:
        pending = deque(thread.submit(next, pinned, None) for _ in range(PINNED_AHEAD))
        while (images := pending.popleft().result()) is not None:
            pending.append(thread.submit(next, pinned, None))
            yield images


def _copied(batches: Iterator[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Copy batches to a CUDA device on a stream of their own, some before they are used."""
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
    """Make the computing stream wait for the copy; the copying stream must not reuse the memory before it is done."""
    computing = torch.cuda.current_stream(images.device)
    computing.wait_event(copied)
    images.record_stream(computing)
    return images
