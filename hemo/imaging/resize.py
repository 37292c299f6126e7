"""Resize a full-size slice or picture to the stored square, by area."""

from functools import lru_cache
from math import gcd
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

AIR_HU = -1000

LARGEST_UNITS = 16
"""Sub-pixels a stored pixel may span along one side: 255 * 16 * 16 still fits 16 bits."""

PADDING_COLS = 8
"""Columns that keep rows from lying a power of two apart in memory: transposing them takes a tenth of the time."""


def to_square(pixels: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Resize by area to a square; what is not square is padded with 0 first, so that anatomy keeps its shape.

    Args:
        pixels: Shape (rows, cols, channels) with 1 to 4 channels, uint8.
        side_px: Height and width of the result.

    Returns:
        Array of shape (side_px, side_px, channels), uint8. Each pixel is the mean over the area it covers, rounded
        (bilinear where the source is smaller than the result).
    """
    pixels = _padded(pixels, 0)
    source_px = len(pixels)
    if source_px == side_px:
        return pixels
    if source_px > side_px and source_px != 2 * side_px and source_px // gcd(source_px, side_px) <= LARGEST_UNITS:
        return _area_mean(pixels, side_px)
    method = cv2.INTER_AREA if source_px > side_px else cv2.INTER_LINEAR  # area is quick where it halves
    resized = np.asarray(cv2.resize(pixels, (side_px, side_px), interpolation=method), np.uint8)
    return resized.reshape(side_px, side_px, -1)


def hu_to_square(hu: NDArray[np.int16], side_px: int) -> NDArray[np.int16]:
    """Resize HU by area to a square; what is not square is padded with air first.

    Args:
        hu: Shape (rows, cols), int16.
        side_px: Height and width of the result.

    Returns:
        Array of shape (side_px, side_px), int16: the mean HU of the area each pixel covers (bilinear where the source
        is smaller), rounded to the nearest; a half goes up where the side is halved, else to the even neighbour.
    """
    square = _padded(hu, AIR_HU)
    method = cv2.INTER_AREA if len(square) > side_px else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (side_px, side_px), interpolation=method), np.int16)


def _padded(pixels: NDArray[Any], fill: int) -> NDArray[Any]:
    """Return pixels, shape (rows, cols, ...), centred in a square of their longer side, `fill` around them."""
    rows, cols = pixels.shape[:2]
    if rows == cols:
        return pixels
    side = max(rows, cols)
    top, left = (side - rows) // 2, (side - cols) // 2
    square = np.full((side, side, *pixels.shape[2:]), fill, pixels.dtype)
    square[top : top + rows, left : left + cols] = pixels
    return square


def _area_mean(pixels: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Resize as `cv2.INTER_AREA` does, exact to the rounding, in a fifth of its time for ratios such as 16 : 7.

    Both sides are cut into sub-pixels small enough to be whole in source and result. Sums over them are whole numbers,
    made by one sparse matrix along each side.

    Args:
        pixels: Shape (n, n, channels), uint8.
        side_px: Below n, with n / gcd(n, side_px) at most `LARGEST_UNITS`.
    """
    source_px, _, channels = pixels.shape
    cover = _cover(source_px, side_px)
    wide = np.empty((source_px, source_px + PADDING_COLS, channels), np.uint16)  # the padding is cut off again
    wide[:, :source_px] = pixels
    down = (cover @ wide.reshape(source_px, -1)).reshape(side_px, -1, channels)
    across = cover @ cv2.transpose(down)[:source_px].reshape(source_px, -1)
    area = (source_px // gcd(source_px, side_px)) ** 2
    mean = ((across + np.uint16(area // 2)) // np.uint16(area)).astype(np.uint8)
    return np.asarray(cv2.transpose(mean.reshape(side_px, side_px, channels)), np.uint8).reshape(side_px, side_px, -1)


@lru_cache(maxsize=16)
def _cover(source_px: int, side_px: int) -> csr_array:
    """Return the sub-pixels common to each result and source pixel: shape (side_px, source_px), uint16.

    A source pixel has side_px / gcd sub-pixels, a result pixel source_px / gcd.
    """
    shared = gcd(source_px, side_px)
    of_source, of_result = side_px // shared, source_px // shared
    units = np.arange(source_px * of_source)
    ones = np.ones(len(units), np.uint16)
    return csr_array((ones, (units // of_result, units // of_source)), shape=(side_px, source_px), dtype=np.uint16)
