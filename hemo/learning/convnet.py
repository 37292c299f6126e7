"""Backbones that timm does not have: a plain stack of convolutions, and none at all."""

import re
from collections.abc import Sequence

from torch import Tensor, nn

NONE = "none"
"""Name of no backbone: the head learns from the pixels themselves."""

FORMS = "CNN(32,64,128), with a number of filters a layer, and none"
"""These backbones in words, for errors and lists."""

EXAMPLES = ("CNN(32,64,128)", NONE)

_STACK = re.compile(r"CNN\((\d{1,4}(?:,\d{1,4})*)\)")


def own_backbone(backbone: str, channels: int) -> nn.Module | None:
    """Make a backbone of hemo's own by its name; None if it is not one of these.

    Args:
        backbone: `CNN(32,64,128)`, or `none`.
        channels: Channels of the images.
    """
    if backbone == NONE:
        return Pixels()
    stack = _STACK.fullmatch(backbone.replace(" ", ""))
    widths = [int(width) for width in stack[1].split(",")] if stack else []
    return convolutions(channels, widths) if widths and 0 not in widths else None


def convolutions(channels: int, widths: Sequence[int]) -> nn.Sequential:
    """Make 3 x 3 convolution -> ReLU -> 2 x 2 maximum for each of `widths`; no padding, as Keras does unless told.

    Returns:
        Module from (images, channels, height_px, width_px) to (images, widths[-1], rows, cols).
    """
    layers: list[nn.Module] = []
    for inner, outer in zip([channels, *widths], widths, strict=False):
        layers += [nn.Conv2d(inner, outer, kernel_size=3), nn.ReLU(), nn.MaxPool2d(kernel_size=2)]
    return nn.Sequential(*layers)


class Pixels(nn.Module):
    """All values of an image as the features of one position, so that pooling leaves them as they are."""

    def forward(self, images: Tensor) -> Tensor:
        """Turn (images, channels, height_px, width_px) into (images, 1, channels * height_px * width_px)."""
        return images.flatten(1)[:, None]
