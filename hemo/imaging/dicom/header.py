"""What a CT slice's header must say, checked once."""

from dataclasses import dataclass

from pydicom.uid import UID

from hemo.errors import SliceError
from hemo.imaging.dicom import tags
from hemo.imaging.dicom.tags import Elements, identifier, numbers, text, texts, whole

LARGEST_SIDE_PX = 4096  # of a frame; it becomes a square of its longer side
LARGEST_FRAMES = 1 << 14
LARGEST_FILE_PIXELS = 1 << 30  # of all frames together
LARGEST_MM = 1e6  # of a position or a spacing
CT_CLASSES = {"1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"}  # PS3.4 B.5
IMPLICIT_LITTLE_ENDIAN, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
CAPTURE_CLASS = "1.2.840.10008.5.1.4.1.1.7"  # secondary capture and its multi-frame kinds, PS3.4 B.5
# fmt: off
MODALITIES = frozenset({
    "CR", "DOC", "DX", "ECG", "EPS", "ES", "HD", "IO", "IVOCT", "IVUS", "KO", "MG", "MR", "NM", "OCT", "OP", "OPT",
    "OT", "PLAN", "PR", "PT", "PX", "REG", "RF", "RTDOSE", "RTIMAGE", "RTPLAN", "RTRECORD", "RTSTRUCT", "RWV", "SEG",
    "SM", "SR", "US", "XA", "XC",
})
# fmt: on
"""Common terms of (0008,0060), PS3.3 C.7.3.1.1.1: rejects repeat only these, since a tag may hold anything."""


@dataclass(frozen=True, slots=True)
class CtHeader:
    """The header of one file, in plain types."""

    rows: int
    cols: int
    frames: int
    samples: int  # 1 grey, 3 colour
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str
    transfer_syntax: str
    slope: float | None
    intercept: float | None
    patient: str
    study: str
    series: str
    position_mm: float | None
    spacing_mm: float | None
    flags: tuple[str, ...]
    is_capture: bool

    @property
    def is_picture(self) -> bool:
        """Whether the pixels are colours or grey levels of a capture, not measured values."""
        return self.samples == 3 or (self.is_capture and self.intercept is None)

    @property
    def low_bit(self) -> int:
        """Lowest bit of a stored value within its cell; 0 but in old files (DICOM PS3.5 8.1.1)."""
        return self.high_bit + 1 - self.bits_stored

    @property
    def pixel_format(self) -> str:
        """Format group: `u12`, `i16`, ..., `rgb8` for colour."""
        return f"rgb{self.bits_stored}" if self.samples == 3 else f"{'i' if self.signed else 'u'}{self.bits_stored}"


def read_header(dataset: Elements) -> CtHeader:
    """Check that a data set is a CT slice hemo can store, and return its header.

    Raises:
        SliceError: `not_ct`, `no_pixels`, `bad_header`, `too_large` or `unsupported_pixels`.
    """
    try:
        _require_ct(dataset)
        header = _read(dataset)
    except (SliceError, MemoryError):
        raise
    except Exception as error:  # values are converted on access, and pydicom raises over a dozen kinds on damaged ones
        raise SliceError("bad_header", f"{type(error).__name__} in a header value") from error
    _require_sane(header)
    return header


def _require_ct(dataset: Elements) -> None:
    modality, sop_class = text(dataset, tags.MODALITY), text(dataset, tags.SOP_CLASS)
    if modality != "CT" and not (modality == "" and sop_class in CT_CLASSES):
        named = f"modality {modality}" if modality in MODALITIES else "another modality" if modality else "no modality"
        known = UID(sop_class).name if UID(sop_class).type else ""  # the name of any other UID is its text
        raise SliceError("not_ct", f"{named}, {known}" if known else named)
    if tags.ROWS not in dataset or tags.PIXEL_DATA not in dataset:
        raise SliceError("no_pixels", "no pixel data (7FE0,0010)")


def _read(dataset: Elements) -> CtHeader:
    samples = whole(dataset, tags.SAMPLES_PER_PIXEL, 1)
    photometric = text(dataset, tags.PHOTOMETRIC_INTERPRETATION)
    if photometric == "PALETTE COLOR":
        raise SliceError("unsupported_pixels", "palette colour")
    is_capture = (
        samples == 3
        or text(dataset, tags.SOP_CLASS).startswith(CAPTURE_CLASS)
        or bool(text(dataset, tags.CONVERSION_TYPE))
        or text(dataset, tags.BURNED_IN_ANNOTATION) == "YES"
    )
    flags = {
        "secondary_capture": is_capture,
        "localizer": "LOCALIZER" in texts(dataset, tags.IMAGE_TYPE),
        "monochrome1": photometric == "MONOCHROME1",
    }
    bits_allocated = whole(dataset, tags.BITS_ALLOCATED, 0)
    bits_stored = whole(dataset, tags.BITS_STORED, bits_allocated)
    return CtHeader(
        rows=whole(dataset, tags.ROWS, 0),
        cols=whole(dataset, tags.COLUMNS, 0),
        frames=int(text(dataset, tags.NUMBER_OF_FRAMES) or 1) or 1,
        samples=samples,
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=whole(dataset, tags.HIGH_BIT, bits_stored - 1),
        signed=bool(whole(dataset, tags.PIXEL_REPRESENTATION, 0)),
        photometric=photometric,
        transfer_syntax=_transfer_syntax(dataset),
        slope=_first(numbers(dataset, tags.RESCALE_SLOPE)),
        intercept=_first(numbers(dataset, tags.RESCALE_INTERCEPT)),
        patient=identifier(dataset, tags.PATIENT_ID),
        study=identifier(dataset, tags.STUDY_UID),
        series=identifier(dataset, tags.SERIES_UID),
        position_mm=position_along_normal(
            numbers(dataset, tags.IMAGE_POSITION), numbers(dataset, tags.IMAGE_ORIENTATION)
        ),
        spacing_mm=spacing(numbers(dataset, tags.PIXEL_SPACING)),
        flags=tuple(flag for flag, holds in flags.items() if holds),
        is_capture=is_capture,
    )


def _transfer_syntax(dataset: Elements) -> str:
    """Return the transfer syntax; where the file does not say, the uncompressed one of its byte order."""
    if isinstance(dataset, dict):
        return text(dataset, tags.TRANSFER_SYNTAX)
    _, is_little_endian = dataset.original_encoding
    return text(dataset.file_meta, tags.TRANSFER_SYNTAX) or (IMPLICIT_LITTLE_ENDIAN if is_little_endian else BIG_ENDIAN)


def _require_sane(header: CtHeader) -> None:
    if header.rows < 1 or header.cols < 1 or header.frames < 1:
        raise SliceError("bad_header", "no rows, no columns or no frames")
    if header.frames > LARGEST_FRAMES:
        raise SliceError("too_large", f"more than {LARGEST_FRAMES} frames")
    too_long = max(header.rows, header.cols) > LARGEST_SIDE_PX
    if too_long or header.rows * header.cols * header.frames > LARGEST_FILE_PIXELS:
        raise SliceError("too_large", f"{header.frames} frames of {header.rows} x {header.cols} pixels")
    bits_fit = header.bits_allocated in (8, 16) and 1 <= header.bits_stored <= header.bits_allocated
    if header.samples not in (1, 3) or not bits_fit:
        raise SliceError(
            "unsupported_pixels",
            f"{header.samples} samples of {header.bits_stored} bits stored in {header.bits_allocated}",
        )
    if not header.bits_stored - 1 <= header.high_bit < header.bits_allocated:
        raise SliceError(
            "unsupported_pixels",
            f"{header.bits_stored} bits stored up to bit {header.high_bit} of {header.bits_allocated}",
        )


def _first(values: list[float]) -> float | None:
    return values[0] if values else None


def spacing(between_mm: list[float]) -> float | None:
    """Return the distance of two rows in mm, the first of Pixel Spacing's two numbers; None if it is not given."""
    return between_mm[0] if between_mm and 0 < between_mm[0] <= LARGEST_MM else None


def position_along_normal(origin: list[float], orientation: list[float]) -> float | None:
    """Return the slice's position in mm along the normal of its plane (PS3.3 C.7.6.2.1.1), or None if it is not given.

    Args:
        origin: Image Position (Patient), 3 numbers, mm.
        orientation: Image Orientation (Patient), 6 direction cosines.
    """
    if len(origin) != 3 or len(orientation) != 6:
        return None
    x, y, z = origin
    a, b, c, d, e, f = orientation
    position = x * (b * f - c * e) + y * (c * d - a * f) + z * (a * e - b * d)
    return position if abs(position) <= LARGEST_MM else None
