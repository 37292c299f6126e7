"""Augmentation and mixup in batch on the device; random parameters are drawn apart from applying them."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hemo.config.trial import AugmentConfig

ERASED_AREA = (0.02, 0.4)
"""Erased fraction of the image, minimum and maximum; this and the next as in Zhong et al. 2020, arXiv:1708.04896."""
ERASED_ASPECT = (0.3, 1 / 0.3)
"""Height over width of the erased rectangle, as fractions of the image's."""


@dataclass(frozen=True)
class AugmentParameters:
    """How each image of a batch is changed; each tensor of shape (images,), on the CPU."""

    horizontal_flip: Tensor  # bool
    vertical_flip: Tensor  # bool
    rotate_degrees: Tensor  # counter-clockwise
    shift_x: Tensor  # fraction of the width, to the right
    shift_y: Tensor  # fraction of the height, down
    scale: Tensor  # above 1 the content grows
    aspect: Tensor  # above 1 the content grows wider and less tall; its area stays
    window_level: Tensor  # shift of the window's level, as a fraction of its width
    window_width: Tensor  # new width over old
    erased_height: Tensor  # fraction of the height; 0: nothing is erased
    erased_width: Tensor  # fraction of the width
    erased_top: Tensor  # fraction of the height above it
    erased_left: Tensor  # fraction of the width left of it

    def part(self, index: slice | Tensor) -> "AugmentParameters":
        """Return the parameters of some of the images."""
        return AugmentParameters(*(value[index] for value in vars(self).values()))


def draw_parameters(config: AugmentConfig, images: int, generator: torch.Generator) -> AugmentParameters:
    """Draw the parameters of `images` images. All are always drawn: one option must not shift the draws of another."""
    unit = torch.rand(6, images, generator=generator)
    more = torch.rand(7, images, generator=generator)  # apart, so that these options do not shift the draws above
    stretch = torch.rand(images, generator=generator)
    signed, more_signed, stretch_signed = (config.strength * (2 * drawn - 1) for drawn in (unit, more, stretch))
    height, width = _erased_sides(more[3], more[4])
    return AugmentParameters(
        horizontal_flip=unit[0] < config.horizontal_flip,
        vertical_flip=unit[1] < config.vertical_flip,
        rotate_degrees=signed[2] * config.rotate_degrees,
        shift_x=signed[3] * config.shift_fraction,
        shift_y=signed[4] * config.shift_fraction,
        scale=1 + signed[5] * config.scale_fraction,
        aspect=1 + stretch_signed * config.aspect_fraction,
        window_level=more_signed[0] * config.window_level,
        window_width=1 + more_signed[1] * config.window_width,
        erased_height=torch.where(more[2] < config.erase, height, 0.0),
        erased_width=width,
        erased_top=more[5] * (1 - height),
        erased_left=more[6] * (1 - width),
    )


def _erased_sides(area_draw: Tensor, aspect_draw: Tensor) -> tuple[Tensor, Tensor]:
    """Return height and width of rectangles, as fractions of the image's, from numbers in 0..1.

    The area is uniform, the aspect in its logarithm. A side longer than the image's is cut to it.
    """
    (smallest, largest), (flat, upright) = ERASED_AREA, ERASED_ASPECT
    area = smallest + area_draw * (largest - smallest)
    aspect = torch.exp(math.log(flat) + aspect_draw * math.log(upright / flat))
    return torch.sqrt(area * aspect).clamp(max=1), torch.sqrt(area / aspect).clamp(max=1)


def augment(images: Tensor, parameters: AugmentParameters) -> Tensor:
    """Flip, move, change the window, erase; each only where it was drawn.

    Args:
        images: (images, channels, height_px, width_px), float in 0..1, before normalisation.
        parameters: Of the same images.
    """
    images = _flip(images, parameters.horizontal_flip, -1)
    images = _flip(images, parameters.vertical_flip, -2)
    return _erase(_rewindow(_move(images, parameters), parameters), parameters)


def _move(images: Tensor, parameters: AugmentParameters) -> Tensor:
    """Rotate, scale, stretch and shift by one bilinear resampling; pixels from outside repeat the edge.

    That is black where the edge is air, as around a head. Where the body reaches the edge, zeros would frame training
    images, but not validation images, in black: measured on chest X-rays,
    benchmarks/results/2026-11-20-chest-xray.md.
    """
    still = not (parameters.rotate_degrees.any() or parameters.shift_x.any() or parameters.shift_y.any())
    if still and torch.all(parameters.scale == 1) and torch.all(parameters.aspect == 1):
        return images
    theta = _inverse_affine(parameters, aspect=images.shape[-1] / images.shape[-2]).to(images.device, non_blocking=True)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _rewindow(images: Tensor, parameters: AugmentParameters) -> Tensor:
    """Return grey values as another window would give them, the same change in each channel.

    With level c and width w a value v becomes (v - c) / w + 0.5. What the first window clipped stays clipped.
    """
    if not parameters.window_level.any() and torch.all(parameters.window_width == 1):
        return images
    level = parameters.window_level.to(images.device, non_blocking=True)[:, None, None, None]
    width = parameters.window_width.to(images.device, non_blocking=True)[:, None, None, None]
    return ((images - 0.5 - level) / width + 0.5).clamp(0, 1)


def _erase(images: Tensor, parameters: AugmentParameters) -> Tensor:
    """Make a rectangle of each image 0: the pixels whose centres lie in it."""
    if not parameters.erased_height.any():
        return images
    rows = _within(parameters.erased_top, parameters.erased_height, images.shape[-2])
    columns = _within(parameters.erased_left, parameters.erased_width, images.shape[-1])
    erased = (rows[:, None, :, None] & columns[:, None, None, :]).to(images.device, non_blocking=True)
    return images.masked_fill(erased, 0.0)


def _within(start: Tensor, length: Tensor, side_px: int) -> Tensor:
    """Return which pixels of a side have their centre within a stretch of it, shape (images, side_px), bool."""
    centres = (torch.arange(side_px) + 0.5) / side_px
    return (centres >= start[:, None]) & (centres < (start + length)[:, None])


def _flip(images: Tensor, flipped: Tensor, axis: int) -> Tensor:
    if not flipped.any():
        return images
    return torch.where(flipped.to(images.device, non_blocking=True)[:, None, None, None], images.flip(axis), images)


def _inverse_affine(parameters: AugmentParameters, *, aspect: float) -> Tensor:
    """Return (images, 2, 3), as `affine_grid` takes it: from output places, in -1..1, to the places read."""
    angle = torch.deg2rad(parameters.rotate_degrees)
    cos, sin = torch.cos(angle), torch.sin(angle)
    shift_x, shift_y = -2 * parameters.shift_x, -2 * parameters.shift_y
    stretch = torch.sqrt(parameters.aspect)
    first = torch.stack([cos, -sin / aspect, cos * shift_x - sin / aspect * shift_y], dim=1)
    second = torch.stack([sin * aspect, cos, sin * aspect * shift_x + cos * shift_y], dim=1)
    wider, taller = parameters.scale * stretch, parameters.scale / stretch
    return torch.stack([first / wider[:, None], second / taller[:, None]], dim=1)


@dataclass(frozen=True)
class Mixing:
    """What each image of a batch is mixed with."""

    partner: NDArray[np.intp]  # (images,): index in the batch of the image mixed in
    weight: Tensor  # (images,), float32, 0.5..1: of the image itself

    def part(self, index: slice) -> "Mixing":
        """Return what some of the images are mixed with; partners are still indices into the whole batch."""
        return Mixing(self.partner[index], self.weight[index])


def draw_mixup(alpha: float, images: int, seed: int) -> Mixing:
    """Draw partners and weights for a batch.

    An image has a weight of at least 0.5, so that its own label dominates.

    Args:
        alpha: Of the Beta distribution of weights, above 0: small ones hardly mix, 1 mixes evenly.
        images: Number in the batch.
        seed: Of the random generator.

    Source:
        Zhang et al. 2018, arXiv:1710.09412, with a weight for each image.
    """
    generator = np.random.default_rng(seed)
    partner = generator.permutation(images)
    weight = generator.beta(alpha, alpha, images)
    return Mixing(partner, torch.from_numpy(np.maximum(weight, 1 - weight)).float())


def mix(own: Tensor, others: Tensor, weight: Tensor) -> Tensor:
    """Return weight * own + (1 - weight) * others; images or labels, (images, ...), float32."""
    weight = weight.to(own.device, non_blocking=True).reshape(-1, *(1,) * (own.ndim - 1))
    return weight * own + (1 - weight) * others
