"""One stored frame to one stored image, and what is found out about it on the way."""

from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from hemo.config.convert import WindowConfig
from hemo.errors import SliceError
from hemo.imaging.flags import brain_fraction, hounsfield_flags
from hemo.imaging.head_crop import Box, head_box
from hemo.imaging.hounsfield import Rescale, hounsfield_table, repaired, to_hounsfield
from hemo.imaging.image import pixel_digest
from hemo.imaging.resize import to_square
from hemo.imaging.settings import ImageSettings
from hemo.imaging.windows import WINDOWS_A_TABLE, packed_lookup

AIR_HU = -1000


class Rendered(NamedTuple):
    """An image, and what its pixels say."""

    pixels: NDArray[np.uint8 | np.int16]  # (channels, side_px, side_px)
    digest: bytes
    flags: list[str]
    brain_fraction: float | None


def render_slice(stored: NDArray[Any], rescale: Rescale, settings: ImageSettings) -> Rendered:
    """Make the image of measured values.

    Flags, digest and brain fraction are those of the whole slice, whatever part of it is kept.

    Args:
        stored: Shape (rows, cols), any integer dtype of 8 or 16 bits.
        rescale: How to read them.
        settings: What to make of them. The 12-bit repair is done for `rsna` only.
    """
    patterns = stored.astype(np.int16 if stored.dtype.kind == "i" else np.uint16, copy=False).view(np.uint16)
    truth = repaired(rescale) if settings.corpus == "rsna" else None
    hu = to_hounsfield(patterns, truth or rescale)
    brain = brain_fraction(hu)
    flags = hounsfield_flags(hu, brain=brain) + (["intercept_repaired"] if truth else [])
    box = head_box(hu) if settings.crop == "head" else None
    if settings.pixels == "hu16":
        pixels: NDArray[Any] = _square_hu(_cut(hu, box), settings.side_px)[np.newaxis]
    else:
        pixels = _windowed(_cut(patterns, box), truth or rescale, settings)
    return Rendered(pixels, pixel_digest(hu), flags, brain)


def render_picture(stored: NDArray[Any], *, bits_stored: int, settings: ImageSettings) -> Rendered:
    """Make the image of a capture: its luminance in every channel, since it has no HU.

    Args:
        stored: Shape (rows, cols) or, in colour, (rows, cols, 3), any integer dtype of 8 or 16 bits.
        bits_stored: Of a sample; its highest 8 are kept.
        settings: How many channels, of which size.

    Raises:
        SliceError: `no_rescale` where Hounsfield units are to be stored.

    Source:
        ITU-R BT.601 (luminance).
    """
    if settings.pixels == "hu16":
        raise SliceError("no_rescale", "a capture or colour image has no Hounsfield units")
    if stored.dtype.kind == "u":
        stored = stored & ((1 << bits_stored) - 1)  # old overlays lie above
    grey = np.rint(stored @ np.array([0.299, 0.587, 0.114])) if stored.ndim == 3 else stored
    levels = 2.0 ** (bits_stored - 8)
    square = to_square(np.clip(grey / levels, 0, 255).astype(np.uint8)[..., np.newaxis], settings.side_px)
    pixels = np.repeat(square.transpose(2, 0, 1), len(settings.channels), axis=0)
    return Rendered(pixels, pixel_digest(stored), [], None)


def _cut(pixels: NDArray[Any], box: Box | None) -> NDArray[Any]:
    if box is None:
        return pixels
    return pixels[box.top : box.top + box.height, box.left : box.left + box.width]


def _windowed(patterns: NDArray[np.uint16], rescale: Rescale, settings: ImageSettings) -> NDArray[np.uint8]:
    """Window at full resolution by table, then resize: resizing HU first would mix skull into brain."""
    tables = _tables(rescale, settings.windows)
    planes = np.empty((len(tables) * WINDOWS_A_TABLE, settings.side_px, settings.side_px), np.uint8)
    for first, table in zip(range(0, len(planes), WINDOWS_A_TABLE), tables, strict=True):
        packed = np.asarray(cv2.LUT(patterns, table)).view(np.uint8).reshape(*patterns.shape, WINDOWS_A_TABLE)
        cv2.split(to_square(packed, settings.side_px), list(planes[first : first + WINDOWS_A_TABLE]))
    return planes[: len(settings.windows)]


@lru_cache(maxsize=32)
def _tables(rescale: Rescale, windows: tuple[WindowConfig, ...]) -> list[NDArray[np.int32]]:
    return packed_lookup(hounsfield_table(rescale), windows)


def _square_hu(hu: NDArray[np.int16], side_px: int) -> NDArray[np.int16]:
    """Resize HU, shape (rows, cols), to a square; what is not square is padded with air first.

    Returns:
        Array of shape (side_px, side_px), int16: the mean HU of the area each pixel covers (bilinear where the source
        is smaller), rounded to the nearest; a half goes up where the side is halved, else to the even neighbour.
    """
    rows, cols = hu.shape
    if rows != cols:
        side = max(rows, cols)
        top, left = (side - rows) // 2, (side - cols) // 2
        square = np.full((side, side), AIR_HU, np.int16)
        square[top : top + rows, left : left + cols] = hu
        hu = square
    method = cv2.INTER_AREA if len(hu) > side_px else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(hu, (side_px, side_px), interpolation=method), np.int16)
