"""How fast a model answers, and how large it is."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

Ask = Callable[[NDArray[np.uint8]], object]
"""Asks a model about images (images, channels, height_px, width_px), and returns when it has answered."""


@dataclass(frozen=True)
class Timing:
    """How long something is timed."""

    warm_up_calls: int  # not counted: the first ones also prepare
    least_calls: int
    most_calls: int
    seconds: float  # no more calls after this time, if there were enough


THOROUGH = Timing(warm_up_calls=2, least_calls=3, most_calls=1_000_000, seconds=2.0)
QUICK = Timing(warm_up_calls=1, least_calls=1, most_calls=11, seconds=0.2)

QUICK_BATCH = 32
QUICK_BATCH_SECONDS = 0.1


@dataclass(frozen=True)
class Speed:
    """How fast a model answers."""

    latency_ms: float  # of one image, median
    images_per_second: float  # with `batch_size` images at once
    batch_size: int


def measure_speed(ask: Ask, images: NDArray[np.uint8], timing: Timing) -> Speed:
    """Time a model on one image, and on all images at once."""
    latency, batch = (median_seconds(ask, asked, timing) for asked in (images[:1], images))
    return Speed(latency_ms=1000 * latency, images_per_second=len(images) / batch, batch_size=len(images))


def quick_speed(ask: Ask, image_shape: tuple[int, int, int], largest_batch: int) -> Speed:
    """Time a model on noise, for half a second or so; two calls of one image, if they take longer.

    A batch has as many images as would take a tenth of a second one by one, but no more than 32.

    Args:
        ask: Of the model.
        image_shape: (channels, height_px, width_px).
        largest_batch: Images that are known to fit into memory at once.
    """
    noise = np.random.default_rng(0).integers(0, 256, (min(QUICK_BATCH, largest_batch), *image_shape), np.uint8)
    latency = median_seconds(ask, noise[:1], QUICK)
    images = max(1, min(len(noise), int(QUICK_BATCH_SECONDS / latency)))
    batch = median_seconds(ask, noise[:images], QUICK) if images > 1 else latency
    return Speed(latency_ms=1000 * latency, images_per_second=images / batch, batch_size=images)


def median_seconds(ask: Ask, images: NDArray[np.uint8], timing: Timing) -> float:
    """Return the median time of asking for these images at once."""
    for _ in range(timing.warm_up_calls):
        ask(images)
    began, taken = time.perf_counter(), list[float]()
    while len(taken) < timing.least_calls or (
        len(taken) < timing.most_calls and time.perf_counter() - began < timing.seconds
    ):
        start = time.perf_counter()
        ask(images)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def megabytes(module: nn.Module) -> float:
    """Return the size of a model's weights and buffers, 1,000,000 bytes each."""
    return float(sum(value.nbytes for value in module.state_dict().values()) / 1e6)
