"""Cheap passes over a slice that say what is suspect about it. Curation decides what to do with the answer."""

import cv2
import numpy as np
from numpy.typing import NDArray

FLAGS = {
    "blank": "constant or nearly so (standard deviation below 1 HU, padding apart)",
    "little_brain": "less than 2 % of the pixels lie between 0 and 80 HU",
    "secondary_capture": "a screen capture or colour image, no measured slice",
    "localizer": "a localizer (scout) image",
    "intercept_repaired": "a 12-bit slice whose intercept was wrong",
    "noise": "rows of garbled pixels",
    "padded": "part of the slice lies below air: padding outside the field of view",
    "monochrome1": "stored for inverted display; the HU are as measured",
}
"""Flag -> meaning. Flags are stored in shards and must not change."""

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
    found = {
        "blank": is_blank(sample, padding_below=PADDING_BELOW_HU),
        "little_brain": brain < LITTLE_BRAIN_FRACTION,
        "noise": _noisy_rows(hu) > NOISE_ROW_FRACTION,
        "padded": np.count_nonzero(sample < PADDING_BELOW_HU) > PADDED_FRACTION * sample.size,
    }
    return [flag for flag in FLAGS if found.get(flag)]


def is_blank(sample: NDArray[np.int16], *, padding_below: float = float("-inf")) -> bool:
    """Tell whether values, shape (rows, cols), are constant or nearly so; those below `padding_below` do not count."""
    _, deviation = cv2.meanStdDev(sample, mask=(sample >= padding_below).astype(np.uint8))
    return bool(deviation[0, 0] < BLANK_BELOW_STD_HU)  # 0 where nothing counts


def _noisy_rows(hu: NDArray[np.int16]) -> float:
    """Return the part of the rows, of every eighth, whose mean step between neighbours no anatomy can have."""
    rows = hu[::STRIDE]
    if rows.shape[1] < 2:
        return 0.0
    steps = np.minimum(cv2.absdiff(rows[:, 1:], rows[:, :-1]), LARGEST_STEP_HU)  # the difference saturates, too
    means = cv2.reduce(steps, 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F)
    return cv2.countNonZero(cv2.inRange(means, NOISE_STEP_HU, float("inf"))) / len(rows)
