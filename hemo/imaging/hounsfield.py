"""Stored values to Hounsfield units."""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

PATTERNS = 1 << 16
REPAIR_OFFSET = 1000
HU_LIMITS = (-32768, 32767)


class Rescale(NamedTuple):
    """How a file stores Hounsfield units; equal for whole series, so tables made for it are kept."""

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
    """Return the HU of each of the 65,536 bit patterns, bits above `bits_stored` ignored (old overlays lie there).

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
        rescale: How to read them.

    Returns:
        Array of shape (rows, cols), int16, rounded, clipped to `HU_LIMITS`: air is near -1000, water near 0.
    """
    shifted = _shifted(stored.view(np.int16), rescale)
    return np.asarray(cv2.LUT(stored, _whole_table(rescale)), np.int16) if shifted is None else shifted


def _shifted(values: NDArray[np.int16], rescale: Rescale) -> NDArray[np.int16] | None:
    """Return values + intercept where that is all there is to do and nothing overflows: quicker than any table."""
    low, high = int(values.min()), int(values.max())
    half = 1 << (rescale.bits_stored - 1)
    lowest, highest = (-half, half - 1) if rescale.signed else (0, min(2 * half - 1, HU_LIMITS[1]))
    if rescale.slope != 1 or rescale.intercept % 1 or rescale.wrapped or abs(rescale.intercept) > HU_LIMITS[1]:
        return None
    if low < max(lowest, HU_LIMITS[0] - rescale.intercept) or high > min(highest, HU_LIMITS[1] - rescale.intercept):
        return None
    return values + np.int16(rescale.intercept)


@lru_cache(maxsize=32)
def _whole_table(rescale: Rescale) -> NDArray[np.int16]:
    return np.clip(np.rint(hounsfield_table(rescale)), *HU_LIMITS).astype(np.int16)
