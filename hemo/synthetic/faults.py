"""What goes wrong in single files of the corpus."""

from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

Fault = Literal["truncated", "constant", "noise", "photographed"]
FAULTS: tuple[Fault, ...] = get_args(Fault)

SPOILING: tuple[Fault, ...] = ("constant", "noise")
"""Those that leave a file which can be read and shows little or nothing."""

TRUNCATED_SHARE = 153_710 / 524_288
"""Of the pixel data, as in `ID_6431af929` of the corpus."""

NOISE_FROM_ROW = 332
"""As in `ID_b79eed528` of the corpus."""

CONSTANT_HU = -1000


def corrupt_pixels(hu: NDArray[np.int16], fault: Fault | None, rng: np.random.Generator) -> NDArray[np.int16]:
    """Return the slice in HU, int16 (512, 512), as a detector's fault leaves it; the same where there is none."""
    if fault == "constant":
        return np.full_like(hu, CONSTANT_HU)
    if fault == "noise":
        corrupted = hu.copy()
        corrupted[NOISE_FROM_ROW:] = rng.integers(-1000, 3000, corrupted[NOISE_FROM_ROW:].shape)
        return corrupted
    return hu


def truncate(file: bytes, pixel_bytes: int) -> bytes:
    """Return a file that ends within its pixel data, `pixel_bytes` long, as if a transfer had been cut off."""
    missing = pixel_bytes - int(pixel_bytes * TRUNCATED_SHARE)
    return file[: len(file) - missing]


def photograph(hu: NDArray[np.int16], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a colour photo of a screen that shows the slice in the brain window, uint8 (512, 512, 3)."""
    side = hu.shape[0]
    screen = np.clip(hu.astype(np.float32) * (255 / 80), 0, 255)
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
    seen = (corners * 0.84 + 0.08 * side + rng.uniform(-18, 18, (4, 2))).astype(np.float32)
    photo = cv2.warpPerspective(screen, cv2.getPerspectiveTransform(corners, seen), (side, side), borderValue=(28.0,))
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    glare = 70 * np.exp(-((rows - 0.2 * side) ** 2 + (columns - 0.75 * side) ** 2) / (0.22 * side) ** 2)
    moire = 9 * np.sin(rows * 0.9 + columns * 0.13)
    tints = np.array([0.86, 0.95, 1.0], np.float32)
    colour = (photo * 0.8 + glare + moire)[..., None] * tints + rng.normal(0, 4, (side, side, 3))
    return np.asarray(np.clip(colour, 0, 255), np.uint8)
