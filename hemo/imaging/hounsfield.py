"""Convert stored values to Hounsfield units, and these to 8-bit channels by intensity windows."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from hemo.config.convert import WindowConfig

PATTERNS = 1 << 16
REPAIR_OFFSET = 1000
HU_LIMITS = (-32768, 32767)

WINDOWS_A_TABLE = 4
"""8-bit channels that fit one 32-bit entry of a look-up table."""


class Rescale(NamedTuple):
    """How a file stores Hounsfield units; equal for whole series, so its look-up tables are cached."""

    slope: float  # (0028,1053), HU per stored unit, not zero
    intercept: float  # (0028,1052), HU
    bits_stored: int  # (0028,0101), 1 to 16
    signed: bool  # (0028,0103)
    wrapped: bool = False  # stored values lack REPAIR_OFFSET, modulo 2 ** bits_stored


def repaired(rescale: Rescale) -> Rescale | None:
    """Return the true rescale of an RSNA slice whose intercept is wrong, or None if it is right.

    Some 12-bit unsigned slices of the RSNA 2019 corpus store HU modulo 4096 with an intercept near 0: background is
    3096 = 4096 - 1000. Adding 1000 modulo 4096 makes the intercept -1000 (Howard, "Cleaning the data for rapid
    prototyping"; appian's and Anjum48's solutions).
    """
    broken = rescale.bits_stored == 12 and not rescale.signed and rescale.intercept > -100
    return rescale._replace(intercept=-float(REPAIR_OFFSET), wrapped=True) if broken else None


@lru_cache(maxsize=32)
def hounsfield_table(rescale: Rescale) -> NDArray[np.float32]:
    """Return the HU of each of the 65,536 bit patterns; bits above `bits_stored` (overlays in old files) are ignored.

    Source:
        DICOM PS3.3 C.11.1 (Modality LUT), PS3.5 8.1.1 (pixel cell).
    """
    mask = (1 << rescale.bits_stored) - 1
    stored = np.arange(PATTERNS, dtype=np.int64) & mask
    if rescale.wrapped:
        stored = (stored + REPAIR_OFFSET) & mask
    if rescale.signed:
        sign = 1 << (rescale.bits_stored - 1)
        stored = (stored ^ sign) - sign
    return (stored * rescale.slope + rescale.intercept).astype(np.float32)


def to_hounsfield(stored: NDArray[np.uint16], rescale: Rescale) -> NDArray[np.int16]:
    """Turn one slice of stored values into whole Hounsfield units.

    Args:
        stored: Bit patterns, shape (rows, cols), uint16 whatever the signedness.
        rescale: From stored values to HU.

    Returns:
        Array of shape (rows, cols), int16, rounded, clipped to `HU_LIMITS`: air is near -1000, water near 0.
    """
    by_arithmetic = _shifted(stored, rescale)
    return np.asarray(cv2.LUT(stored, _whole_table(rescale)), np.int16) if by_arithmetic is None else by_arithmetic


def _shifted(stored: NDArray[np.uint16], rescale: Rescale) -> NDArray[np.int16] | None:
    """Return stored + intercept, clipped, where no more is needed: a quarter of the time of a table."""
    slope, intercept, bits, signed, wrapped = rescale
    if slope != 1 or intercept % 1 or abs(intercept) > HU_LIMITS[1] or wrapped or (bits == 16 and not signed):
        return None
    if signed:
        spare = 16 - bits
        values = (stored << spare).view(np.int16) >> spare if spare else stored.view(np.int16)
    else:
        values = (stored & ((1 << bits) - 1)).view(np.int16)
    lowest, highest = (-1 << (bits - 1), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if lowest + intercept < HU_LIMITS[0]:
        values = np.maximum(values, np.int16(HU_LIMITS[0] - intercept))
    if highest + intercept > HU_LIMITS[1]:
        values = np.minimum(values, np.int16(HU_LIMITS[1] - intercept))
    return values + np.int16(intercept)


@lru_cache(maxsize=32)
def _whole_table(rescale: Rescale) -> NDArray[np.int16]:
    return np.clip(np.rint(hounsfield_table(rescale)), *HU_LIMITS).astype(np.int16)


def apply_windows(hu: NDArray[np.floating], windows: Sequence[WindowConfig]) -> NDArray[np.uint8]:
    """Map HU linearly to 0..255 in each window, clipped at its edges, rounded half to even.

    Args:
        hu: Hounsfield units, any shape.
        windows: One a channel.

    Returns:
        Array of shape (channels, *hu.shape): 0 at centre - width / 2 and below, 255 at centre + width / 2 and above.

    Source:
        DICOM PS3.3 C.11.2.1.3.2 (LINEAR_EXACT).
    """
    channels = [(hu - (window.centre_hu - window.width_hu / 2)) * 255 / window.width_hu for window in windows]
    rounded: NDArray[np.uint8] = np.rint(np.clip(np.stack(channels), 0, 255)).astype(np.uint8)
    return rounded


def packed_lookup(hu_of_stored: NDArray[np.float32], windows: Sequence[WindowConfig]) -> list[NDArray[np.int32]]:
    """Return lookup tables that apply up to four windows with one gather each.

    Args:
        hu_of_stored: HU of each of the 65,536 bit patterns of a stored value.
        windows: One a channel.

    Returns:
        One table of 65,536 entries for every four windows; the bytes of an entry, in memory order, are its channels.
    """
    channels = apply_windows(hu_of_stored, windows)
    tables = []
    for first in range(0, len(windows), WINDOWS_A_TABLE):
        packed = np.zeros((hu_of_stored.size, WINDOWS_A_TABLE), np.uint8)
        packed[:, : len(windows) - first] = channels[first : first + WINDOWS_A_TABLE].T
        tables.append(packed.view(np.int32).ravel())
    return tables
