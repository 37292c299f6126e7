"""Full-size channels to the stored square."""

import cv2
import numpy as np
from numpy.typing import NDArray


def to_square(pixels: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Resize by area to a square; what is not square is padded with 0 first, so that anatomy keeps its shape.

    Args:
        pixels: Shape (rows, cols, channels) with 1 to 4 channels, uint8.
        side_px: Height and width of the result.

    Returns:
        Array of shape (side_px, side_px, channels), uint8. Each pixel is the mean over the area it covers (bilinear
        where the source is smaller than the result).
    """
    rows, cols = pixels.shape[:2]
    if rows != cols:
        side = max(rows, cols)
        top, left = (side - rows) // 2, (side - cols) // 2
        square = np.zeros((side, side, pixels.shape[2]), np.uint8)
        square[top : top + rows, left : left + cols] = pixels
        pixels = square
    if pixels.shape[0] == side_px:
        return pixels
    method = cv2.INTER_AREA if pixels.shape[0] > side_px else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(pixels, (side_px, side_px), interpolation=method), np.uint8)
    return resized.reshape(side_px, side_px, -1)
