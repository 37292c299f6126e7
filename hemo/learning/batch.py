"""From rows of a split to a float batch on the device."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hemo.learning.examples import Examples

PINNED_AHEAD = 3
"""Batches that wait in page-locked memory for their copy to a CUDA device."""

COPIED_AHEAD = 2
"""Batches on a CUDA device, or on their way there, before they are asked for."""


@dataclass(frozen=True)
class Normalisation:
    """How pixels become the model's input: value / 255, minus `mean`, over `std`, by channel. Constant for a model."""

    mean: tuple[float, ...]  # one a channel, in 0..1
    std: tuple[float, ...]


def plain_normalisation(channels: int) -> Normalisation:
    """Return mean 0.5 and std 0.25: windowed greys end within -2..2, whatever the corpus."""
    return Normalisation((0.5,) * channels, (0.25,) * channels)


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


def to_unit_range(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in 0..1; channels-last in memory on CUDA, where convolutions prefer it."""
    layout = torch.channels_last if images.is_cuda else torch.contiguous_format
    return images.to(torch.float32, memory_format=layout) / 255.0


def normalise(images: Tensor, normalisation: Normalisation) -> Tensor:
    """Return float images in 0..1, shape (images, channels, height_px, width_px), as the model takes them.

    Mean and standard deviation are copied without waiting for the device, as a plain `new_tensor` would.
    """
    mean, std = (
        torch.tensor(values, dtype=images.dtype).to(images.device, non_blocking=True)[:, None, None]
        for values in (normalisation.mean, normalisation.std)
    )
    return (images - mean) / std
