"""Where the head lies in a slice."""

from math import ceil
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

SAMPLE_PX = 128  # longer side of the reduced image the head is looked for in
BODY_ABOVE_HU = -500.0  # between the foam of a headrest, near -950, and fat, near -100
THINNEST_HEAD_PX = 5  # of the reduced image, some 10 mm: shells of headrests and blankets are thinner
SMALLEST_HEAD_FRACTION = 0.01  # of the slice
MARGIN_FRACTION = 0.04  # of the head's longer side, on each side, at least: the tip of a nose is thin, too
SIDE_STEP_PX = 32  # of the box: what divides the sides of box and image alike is resized in a fifth of the time


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


def head_box(hu: NDArray[np.int16]) -> Box | None:
    """Return the square around the head with a small margin, or None where there is no head.

    The head is the largest connected part above -500 HU of a reduced image, once all that is thinner than some 10 mm is
    gone: the shell of a headrest, a blanket, a tube.

    Args:
        hu: One slice, shape (rows, cols), int16.

    Returns:
        A box within the slice: moved inwards where the margin would leave it, and cut off where the slice is narrower
        than the square.
    """
    step = max(1, max(hu.shape) // SAMPLE_PX)
    body = (np.ascontiguousarray(hu[::step, ::step]) > BODY_ABOVE_HU).view(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (THINNEST_HEAD_PX, THINNEST_HEAD_PX))
    outlines, _ = cv2.findContours(
        cv2.morphologyEx(body, cv2.MORPH_OPEN, disc), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    head = max(outlines, key=cv2.contourArea, default=None)
    if head is None or cv2.contourArea(head) < SMALLEST_HEAD_FRACTION * body.size:
        return None
    left, top, width, height = (step * length for length in cv2.boundingRect(head))
    side = ceil(max(height, width) * (1 + 2 * MARGIN_FRACTION) / SIDE_STEP_PX) * SIDE_STEP_PX
    return Box(
        *(
            _start(at, length, side, whole)
            for at, length, whole in zip((top, left), (height, width), hu.shape, strict=True)
        ),
        *(min(side, whole) for whole in hu.shape),
    )


def _start(at: int, length: int, side: int, whole: int) -> int:
    """Return where a span of `side` begins that is centred on another, moved to lie within `whole`."""
    return max(0, min(at + (length - side) // 2, whole - side))
