"""The result of decoding one frame: an image with flags, or a reject with a reason code."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from hemo.errors import SliceError

REASONS = {
    "not_dicom": "no DICOM file: neither a DICM prefix nor a data set that begins with group 0002 or 0008",
    "dicomdir": "a DICOMDIR, which lists other files",
    "bad_header": "the header cannot be read, or a value in it is invalid",
    "not_ct": "another modality or SOP class than CT",
    "no_pixels": "a CT header without pixel data",
    "truncated": "fewer pixel bytes or frames than the header declares, or a compressed frame without its end",
    "too_large": "more pixels or frames than a slice or series can have, or a file that inflates without bounds",
    "unsupported_pixels": "a bit depth or photometric interpretation that is no CT slice",
    "no_rescale": "no rescale intercept: the stored values cannot be turned into Hounsfield units",
    "not_hu": "a Rescale Type (0028,1054) of other units than Hounsfield's, such as MGML or Z_EFF",
    "codec_missing": "a transfer syntax for which no decoder is installed; `hemo[codecs]` brings some",
    "decode_failed": "compressed pixel data that are damaged, or of another size than the header declares",
    "secondary_capture": "a screen capture, which may have names burned in: rejected unless ids are public",
    "not_image": "no JPEG or PNG that can be decoded",
    "unsafe_member": "a zip member whose path leads outside, that is a link, or that overlaps another",
    "encrypted_member": "an encrypted zip member",
    "unsupported_member": "a zip member compressed by another method than deflate",
    "oversized_member": "a zip member that would inflate to more bytes than an image can have",
    "damaged_member": "a zip member whose size or checksum differs from the zip's directory",
}
"""Reject code -> meaning. Codes are stored in shards and must not change."""

CURABLE_REASONS = frozenset({"codec_missing", "damaged_member"})
"""Reasons that may be gone in a later run although no path, size or change mark differs: a decoder was installed, or a
zip was downloaded again."""

FLAGS = {
    "blank": "constant or nearly so (standard deviation below 1 HU, padding apart)",
    "little_brain": "less than 2 % of the pixels lie between 0 and 80 HU",
    "secondary_capture": "a screen capture or colour image, no measured slice",
    "localizer": "a localizer (scout) image",
    "derived": "computed from other images, as a reformat is (Image Type DERIVED)",
    "uncertain_units": "Rescale Type US (unspecified) or HU_MOD (modified Hounsfield units)",
    "intercept_repaired": "a 12-bit slice whose intercept was wrong",
    "noise": "rows of garbled pixels",
    "padded": "part of the slice is below -1100 HU: padding outside the field of view",
    "monochrome1": "stored for inverted display: HU are kept as measured, a capture's grey levels are inverted",
}
"""Flag -> meaning. Flags are stored in shards and must not change."""


def pixel_digest(pixels: NDArray[Any]) -> bytes:
    """Return 16 bytes that are equal for equal pixels: xxh3-128 of the values in C order."""
    return xxhash.xxh3_128_digest(np.ascontiguousarray(pixels).data)


def displayed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return channels as a picture: three as red, green and blue, else the middle one as grey.

    Of a slice with neighbours, whose channels are several times three, the slice itself is in the middle.
    """
    channels = len(image)
    if channels % 3:
        grey: NDArray[np.uint8] = image[channels // 2]
        return grey
    first = channels // 2 - 1
    return image[first : first + 3].transpose(1, 2, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One frame, ready to be stored. Identifiers are pseudonyms already, unless they are public."""

    pixels: NDArray[np.uint8 | np.int16]  # (channels, height_px, width_px), C-contiguous; int16: Hounsfield units
    source_rows: int
    source_cols: int
    pixel_format: str  # u12, i16, ... for DICOM; rgb8, grey8 for pictures
    pixel_digest: bytes  # 16 bytes
    flags: tuple[str, ...]
    frame: int = 0
    frames: int = 1
    patient: str | None = None
    study: str | None = None
    series: str | None = None
    scanner: str | None = None
    position_mm: float | None = None
    orientation: tuple[float, ...] | None = None  # 6 direction cosines
    spacing_mm: float | None = None
    slice_thickness_mm: float | None = None
    brain_fraction: float | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """One file or frame that cannot become an image."""

    code: str
    detail: str
    frame: int = 0
    scanner: str | None = None

    @classmethod
    def of(cls, error: SliceError, frame: int = 0, scanner: str | None = None) -> Self:
        """Return the reject of an error."""
        code, detail = error.args
        return cls(code, detail, frame, scanner)
