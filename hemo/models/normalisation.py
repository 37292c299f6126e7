"""From stored pixels to the model's input: value / 255, minus a mean, over a standard deviation, by channel."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Normalisation:
    """How pixels become the model's input: value / 255, minus `mean`, over `std`, by channel. Constant for a model."""

    mean: tuple[float, ...]  # one a channel, in 0..1
    std: tuple[float, ...]


def plain_normalisation(channels: int) -> Normalisation:
    """Return mean 0.5 and std 0.25: windowed greys end within -2..2, whatever the corpus."""
    return Normalisation((0.5,) * channels, (0.25,) * channels)


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
