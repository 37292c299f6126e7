"""What one frame of a source file becomes: an image, or a reject with its reason."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from hemo.errors import SliceError


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One frame, ready to be stored. Identifiers are already pseudonyms where they have to be."""

    pixels: NDArray[np.uint8 | np.int16]  # (channels, height_px, width_px), C-contiguous; int16: Hounsfield units
    source_rows: int
    source_cols: int
    pixel_format: str  # u12, i16, ... for DICOM; rgb8, grey8 for pictures; multi_hot for texts
    pixel_digest: bytes  # 16 bytes
    flags: tuple[str, ...]
    frame: int = 0
    frames: int = 1
    patient: str | None = None
    study: str | None = None
    series: str | None = None
    position_mm: float | None = None
    spacing_mm: float | None = None
    brain_fraction: float | None = None
    source_class: str | None = None  # where the file itself, or the labels beside it, say it


@dataclass(frozen=True, slots=True)
class Reject:
    """One file or frame that is no image."""

    code: str
    detail: str
    frame: int = 0

    @classmethod
    def of(cls, error: SliceError, frame: int = 0) -> Self:
        """Make a reject of the error that a slice raised."""
        code, detail = error.args
        return cls(code, detail, frame)


def pixel_digest(pixels: NDArray[Any]) -> bytes:
    """Return 16 bytes that are equal for equal pixels: xxh3-128 of the values in C order."""
    return xxhash.xxh3_128_digest(np.ascontiguousarray(pixels).data)
