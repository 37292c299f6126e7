"""Convert one frame of stored values to a square image: flags, crop to the head, windows, resize."""

from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from hemo.config.convert import WindowConfig
from hemo.errors import SliceError
from hemo.imaging.hounsfield import (
    HU_LIMITS,
    WINDOWS_A_TABLE,
    Rescale,
    hounsfield_table,
    packed_lookup,
    repaired,
    to_hounsfield,
)
from hemo.imaging.image import FLAGS, pixel_digest
from hemo.imaging.resize import AIR_HU, hu_to_square, to_square
from hemo.imaging.settings import ImageSettings

SAMPLE_PX = 128  # longer side of the reduced image the head is looked for in
BODY_ABOVE_HU = -500.0  # between the foam of a headrest, near -950, and fat, near -100
THINNEST_HEAD_PX = 5  # of the reduced image, some 10 mm: shells of headrests and blankets are thinner
SMALLEST_HEAD_FRACTION = 0.01  # of the slice
MARGIN_FRACTION = 0.04  # of the head's longer side, on each side, at least: the tip of a nose is thin, too
SIDE_STEP_PX = 32  # of the box: what divides the sides of box and image alike is resized in a fifth of the time

LITTLE_BRAIN_FRACTION = (
    0.02  # of 70,673 such slices in RSNA stage 1, 61 are positive (Howard, "Don't see like a radiologist")
)
PADDING_BELOW_HU = -1100  # air is near -1000; padding of the corpus is -1500, -2000 or -3024
PADDED_FRACTION = 0.005  # 0.2 outside a circle; a few outliers are no padding
BLANK_BELOW_STD_HU = 1.0
NOISE_STEP_HU = 500.0
"""Mean step between neighbours in a row: at most 80 in real heads, 270 in made streaks of metal, 1,250 and more in rows
of random 12-bit values (measured)."""

LARGEST_STEP_HU = np.int16(4096)  # that counts: a few outliers of -32,768 are no noise
NOISE_ROW_FRACTION = 0.05
STRIDE = 8


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


class Rendered(NamedTuple):
    """A stored image, and what was measured on the whole slice."""

    pixels: NDArray[np.uint8 | np.int16]  # (channels, side_px, side_px)
    digest: bytes
    flags: list[str]
    brain_fraction: float | None


def render_slice(
    stored: NDArray[Any], rescale: Rescale, settings: ImageSettings, *, padding: Sequence[int] = ()
) -> Rendered:
    """Return the image of a slice of measured values.

    Flags, digest and brain fraction are those of the whole slice, whatever part of it is kept.

    Args:
        stored: Shape (rows, cols), any integer dtype of 8 or 16 bits.
        rescale: From stored values to HU.
        settings: Windows, crop and side. The 12-bit repair is done for `rsna` only.
        padding: Bit patterns of the declared padding: a value, or both limits of a range.
    """
    patterns = stored.astype(np.int16 if stored.dtype.kind == "i" else np.uint16, copy=False).view(np.uint16)
    true_rescale = repaired(rescale) if settings.corpus == "rsna" else None
    hu = to_hounsfield(patterns, true_rescale or rescale)
    brain = brain_fraction(hu)
    flags = hounsfield_flags(hu, brain=brain) + (["intercept_repaired"] if true_rescale else [])
    box = head_box(hu) if settings.crop == "head" else None
    if settings.pixels == "hu16":
        padding_hu = to_hounsfield(np.array([padding], np.uint16), true_rescale or rescale) if padding else None
        pixels: NDArray[Any] = hu_to_square(without_padding(_cut(hu, box), padding_hu), settings.side_px)[np.newaxis]
    else:
        pixels = _windowed(_cut(patterns, box), true_rescale or rescale, settings)
    return Rendered(pixels, pixel_digest(hu), flags, brain)


def without_padding(hu: NDArray[np.int16], padding_hu: NDArray[np.int16] | None = None) -> NDArray[np.int16]:
    """Return HU with air where there is padding: resizing would average it into tissue.

    Padding is what lies below `PADDING_BELOW_HU`, and the declared values below air: a value that tissue can have, such
    as 0 HU, may be declared by mistake.

    Args:
        hu: Shape (rows, cols).
        padding_hu: HU of Pixel Padding Value, and of Pixel Padding Range Limit if there is one; None: not declared.

    Source:
        DICOM PS3.3 C.7.5.1.1.2 (the range includes both limits).
    """
    kept = cv2.inRange(hu, PADDING_BELOW_HU, HU_LIMITS[1])
    if padding_hu is not None:
        declared = cv2.inRange(hu, int(padding_hu.min()), min(int(padding_hu.max()), AIR_HU - 1))
        kept = cv2.bitwise_and(kept, cv2.bitwise_not(declared))
    return np.asarray(cv2.copyTo(hu, kept, np.full_like(hu, AIR_HU)), np.int16)


def render_picture(stored: NDArray[Any], *, bits_stored: int, inverted: bool, settings: ImageSettings) -> Rendered:
    """Return the image of a screen capture: its luminance in every channel, since it has no HU.

    Args:
        stored: Shape (rows, cols) or, in colour, (rows, cols, 3), any integer dtype of 8 or 16 bits.
        bits_stored: Of a sample; its highest 8 are kept.
        inverted: Whether the lowest value is white.
        settings: Number of channels, and side.

    Raises:
        SliceError: `no_rescale` where Hounsfield units are to be stored.

    Source:
        ITU-R BT.601 (luminance).
    """
    if settings.pixels == "hu16":
        raise SliceError("no_rescale", "a capture or colour image has no Hounsfield units")
    if stored.dtype.kind == "u":
        stored = stored & ((1 << bits_stored) - 1)  # overlays of old files are in the bits above
    grey = np.rint(stored @ np.array([0.299, 0.587, 0.114])) if stored.ndim == 3 else stored
    shown = np.clip(grey / 2.0 ** (bits_stored - 8), 0, 255).astype(np.uint8)
    square = to_square((255 - shown if inverted else shown)[..., np.newaxis], settings.side_px)
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


def head_box(hu: NDArray[np.int16]) -> Box | None:
    """Return the square around the head with a small margin, or None where there is no head.

    The head is the largest connected part above -500 HU of a reduced image, after everything
    thinner than some 10 mm is removed: the shell of a headrest, a blanket, a tube.

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
    """Return the start of a span of `side` with the centre of another, moved to lie within `whole`."""
    return max(0, min(at + (length - side) // 2, whole - side))


def brain_fraction(hu: NDArray[np.int16]) -> float:
    """Return the part of the pixels with 0 < HU < 80. `hu` has shape (rows, cols)."""
    return cv2.countNonZero(cv2.inRange(hu, 1, 79)) / hu.size


def hounsfield_flags(hu: NDArray[np.int16], *, brain: float) -> list[str]:
    """Return the flags that the pixels themselves show, in the order of `FLAGS`.

    Args:
        hu: One slice, shape (rows, cols), int16.
        brain: Its `brain_fraction`.
    """
    sample = np.ascontiguousarray(hu[::STRIDE, ::STRIDE])
    shown = {
        "blank": is_blank(sample, padding_below=PADDING_BELOW_HU),
        "little_brain": brain < LITTLE_BRAIN_FRACTION,
        "noise": _noisy_rows(hu) > NOISE_ROW_FRACTION,
        "padded": np.count_nonzero(sample < PADDING_BELOW_HU) > PADDED_FRACTION * sample.size,
    }
    return [flag for flag in FLAGS if shown.get(flag)]


def is_blank(sample: NDArray[np.int16 | np.uint8], *, padding_below: float | None = None) -> bool:
    """Tell whether values, shape (rows, cols), are constant or nearly so; those below `padding_below` are ignored."""
    mask = None if padding_below is None else (sample >= padding_below).astype(np.uint8)
    _, deviation = cv2.meanStdDev(sample, mask=mask)
    return bool(deviation[0, 0] < BLANK_BELOW_STD_HU)  # 0 where nothing counts


def _noisy_rows(hu: NDArray[np.int16]) -> float:
    """Return the part of the rows, of every eighth, whose mean step between neighbours no anatomy can have."""
    rows = hu[::STRIDE]
    if rows.shape[1] < 2:
        return 0.0
    steps = np.minimum(cv2.absdiff(rows[:, 1:], rows[:, :-1]), LARGEST_STEP_HU)  # the difference saturates, too
    means = cv2.reduce(steps, 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F)
    return cv2.countNonZero(cv2.inRange(means, NOISE_STEP_HU, float("inf"))) / len(rows)
