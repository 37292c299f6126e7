"""Random changes of training images, in batch on the device. Parameters are drawn apart from applied."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hemo.config.trial import AugmentConfig


@dataclass(frozen=True)
class AugmentParameters:
    """What is done to each image of a batch; each tensor of shape (images,), on the CPU."""

    horizontal_flip: Tensor  # bool
    vertical_flip: Tensor  # bool
    rotate_degrees: Tensor  # counter-clockwise
    shift_x: Tensor  # share of the width, to the right
    shift_y: Tensor  # share of the height, down
    scale: Tensor  # above 1 the content grows

    def part(self, place: slice | Tensor) -> "AugmentParameters":
        """Return the parameters of some of the images: a slice of them, or their places."""
        return AugmentParameters(*(value[place] for value in vars(self).values()))


def draw_parameters(config: AugmentConfig, images: int, generator: torch.Generator) -> AugmentParameters:
    """Draw what is done to each of `images`. All is always drawn, so that one option does not shift another's draws."""
    unit = torch.rand(6, images, generator=generator)
    signed = 2 * unit - 1
    return AugmentParameters(
        horizontal_flip=unit[0] < config.horizontal_flip,
        vertical_flip=unit[1] < config.vertical_flip,
        rotate_degrees=signed[2] * config.rotate_degrees,
        shift_x=signed[3] * config.shift_fraction,
        shift_y=signed[4] * config.shift_fraction,
        scale=1 + signed[5] * config.scale_fraction,
    )


def augment(images: Tensor, parameters: AugmentParameters) -> Tensor:
    """Flip, then rotate, scale and shift by one bilinear resampling; what comes from outside is 0, the air.

    Args:
        images: (images, channels, height_px, width_px), float in 0..1, before normalisation.
        parameters: Of the same images.
    """
    images = _flip(images, parameters.horizontal_flip, -1)
    images = _flip(images, parameters.vertical_flip, -2)
    still = not (parameters.rotate_degrees.any() or parameters.shift_x.any() or parameters.shift_y.any())
    if still and torch.all(parameters.scale == 1):
        return images
    theta = _inverse_affine(parameters, aspect=images.shape[-1] / images.shape[-2]).to(images.device)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _flip(images: Tensor, chosen: Tensor, axis: int) -> Tensor:
    if not chosen.any():
        return images
    return torch.where(chosen.to(images.device)[:, None, None, None], images.flip(axis), images)


def _inverse_affine(parameters: AugmentParameters, *, aspect: float) -> Tensor:
    """Return (images, 2, 3), as `affine_grid` takes it: from output places, in -1..1, to the places read."""
    angle = torch.deg2rad(parameters.rotate_degrees)
    cos, sin = torch.cos(angle) / parameters.scale, torch.sin(angle) / parameters.scale
    shift_x, shift_y = -2 * parameters.shift_x, -2 * parameters.shift_y
    first = torch.stack([cos, -sin / aspect, cos * shift_x - sin / aspect * shift_y], dim=1)
    second = torch.stack([sin * aspect, cos, sin * aspect * shift_x + cos * shift_y], dim=1)
    return torch.stack([first, second], dim=1)
