"""Check the header of a CT file, and read the functional groups of a multi-frame one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID

from hemo.errors import SliceError
from hemo.imaging.dicom import elements as dicom
from hemo.imaging.dicom.elements import Elements, decimals, identifier, short, text, texts
from hemo.imaging.hounsfield import Rescale

LARGEST_SIDE_PX = 4096  # of a frame; it becomes a square of its longer side
LARGEST_FRAMES = 1 << 14
LARGEST_FILE_PIXELS = 1 << 30  # of all frames together
LARGEST_MM = 1e6  # of a position or a spacing
CT_CLASSES = {"1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"}  # PS3.4 B.5
CAPTURE_CLASS = "1.2.840.10008.5.1.4.1.1.7"  # secondary capture and its multi-frame kinds, PS3.4 B.5
PER_FRAME_GROUPS, SHARED_GROUPS = 0x52009230, 0x52009229
LARGEST_GROUP_BYTES = 1 << 16  # a frame: pydicom reads all groups to find one
LARGEST_RESCALE = 1e6  # of slope and intercept: HU are 16-bit numbers
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


def read_header(elements: Elements) -> CtHeader:
    """Check that a data set is a CT slice hemo can store, and return its header.

    Raises:
        SliceError: `not_ct`, `no_pixels`, `bad_header`, `too_large` or `unsupported_pixels`.
    """
    try:
        _require_ct(elements)
        header = _read(elements)
    except (SliceError, MemoryError):
        raise
    except Exception as error:  # values are converted on access, and pydicom raises over a dozen kinds on damaged ones
        raise SliceError("bad_header", f"{type(error).__name__} in a header value") from error
    _require_sane(header)
    return header


def _require_ct(elements: Elements) -> None:
    modality, sop_class = text(elements, dicom.MODALITY), text(elements, dicom.SOP_CLASS)
    if modality != "CT" and not (modality == "" and sop_class in CT_CLASSES):
        named = f"modality {modality}" if modality in MODALITIES else "another modality" if modality else "no modality"
        known = UID(sop_class).name if UID(sop_class).type else ""  # UID.name of any other UID is its text
        raise SliceError("not_ct", f"{named}, {known}" if known else named)
    if dicom.ROWS not in elements.numbers or elements.pixel_data is None:
        raise SliceError("no_pixels", "no pixel data (7FE0,0010)")


def _read(elements: Elements) -> CtHeader:
    samples = short(elements, dicom.SAMPLES_PER_PIXEL, 1)
    photometric = text(elements, dicom.PHOTOMETRIC_INTERPRETATION)
    if photometric == "PALETTE COLOR":
        raise SliceError("unsupported_pixels", "palette colour")
    is_capture = (
        samples == 3
        or text(elements, dicom.SOP_CLASS).startswith(CAPTURE_CLASS)
        or bool(text(elements, dicom.CONVERSION_TYPE))
        or text(elements, dicom.BURNED_IN_ANNOTATION) == "YES"
    )
    flags = {
        "secondary_capture": is_capture,
        "localizer": "LOCALIZER" in texts(elements, dicom.IMAGE_TYPE),
        "monochrome1": photometric == "MONOCHROME1",
    }
    bits_allocated = short(elements, dicom.BITS_ALLOCATED, 0)
    bits_stored = short(elements, dicom.BITS_STORED, bits_allocated)
    return CtHeader(
        rows=short(elements, dicom.ROWS, 0),
        cols=short(elements, dicom.COLUMNS, 0),
        frames=int(text(elements, dicom.NUMBER_OF_FRAMES) or 1) or 1,
        samples=samples,
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=short(elements, dicom.HIGH_BIT, bits_stored - 1),
        signed=bool(short(elements, dicom.PIXEL_REPRESENTATION, 0)),
        photometric=photometric,
        transfer_syntax=text(elements, dicom.TRANSFER_SYNTAX),
        slope=_first(decimals(elements, dicom.RESCALE_SLOPE)),
        intercept=_first(decimals(elements, dicom.RESCALE_INTERCEPT)),
        patient=identifier(elements, dicom.PATIENT_ID),
        study=identifier(elements, dicom.STUDY_UID),
        series=identifier(elements, dicom.SERIES_UID),
        position_mm=position_along_normal(
            decimals(elements, dicom.IMAGE_POSITION), decimals(elements, dicom.IMAGE_ORIENTATION)
        ),
        spacing_mm=spacing(decimals(elements, dicom.PIXEL_SPACING)),
        flags=tuple(flag for flag, holds in flags.items() if holds),
        is_capture=is_capture,
    )


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
    """Return the distance of two rows in mm, the first of Pixel Spacing's two numbers; None if it is absent."""
    return between_mm[0] if between_mm and 0 < between_mm[0] <= LARGEST_MM else None


def position_along_normal(origin: list[float], orientation: list[float]) -> float | None:
    """Return the slice's position in mm along the normal of its plane (PS3.3 C.7.6.2.1.1), or None if it is absent.

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


def rescale_of_frame(elements: Elements, header: CtHeader, frame: int) -> Rescale:
    """Return how a frame stores HU: as the file does, else its functional group (Pixel Value Transformation).

    Raises:
        SliceError: `no_rescale` if there is none; `bad_header` if slope or intercept is no usable number.
    """
    slope, intercept = header.slope, header.intercept
    if intercept is None:
        with _damage_as_reject():
            values = _group(elements, header, "PixelValueTransformationSequence", frame)
            if values is None:
                raise SliceError("no_rescale", "no rescale intercept (0028,1052)")
            slope, intercept = float(values.RescaleSlope), float(values.RescaleIntercept)
    slope = 1.0 if slope is None else slope
    if slope == 0 or not (abs(slope) <= LARGEST_RESCALE and abs(intercept) <= LARGEST_RESCALE):
        raise SliceError("bad_header", f"rescale slope {slope}, intercept {intercept}")
    return Rescale(slope, intercept, header.bits_stored, header.signed)


def position_of_frame(elements: Elements, header: CtHeader, frame: int) -> tuple[float | None, float | None]:
    """Return position along the normal and spacing in mm: of the file, else of the frame's groups; None where absent.

    Raises:
        SliceError: `bad_header` if a group holds no usable numbers.
    """
    position_mm, spacing_mm = header.position_mm, header.spacing_mm
    if position_mm is not None and spacing_mm is not None:
        return position_mm, spacing_mm
    with _damage_as_reject():
        if position_mm is None:
            plane = _values(_group(elements, header, "PlanePositionSequence", frame), "ImagePositionPatient")
            axes = _values(_group(elements, header, "PlaneOrientationSequence", frame), "ImageOrientationPatient")
            position_mm = position_along_normal(plane, axes)
        if spacing_mm is None:
            spacing_mm = spacing(_values(_group(elements, header, "PixelMeasuresSequence", frame), "PixelSpacing"))
    return position_mm, spacing_mm


def _group(elements: Elements, header: CtHeader, keyword: str, frame: int) -> Dataset | None:
    """Return a functional group of a frame: its own, else the one shared by all; None where there is neither."""
    for sequence, item in ((PER_FRAME_GROUPS, frame), (SHARED_GROUPS, 0)):
        if sequence in elements.dataset:
            raw: Any = elements.dataset.get_item(sequence)
            if isinstance(raw.value, bytes) and len(raw.value) > LARGEST_GROUP_BYTES * (header.frames + 1):
                raise SliceError("bad_header", f"{len(raw.value)} bytes of functional groups")
            values = elements.dataset[sequence].value[item].get(keyword)
            if values:
                return values[0]  # type: ignore[no-any-return]
    return None


def _values(group: Dataset | None, keyword: str) -> list[float]:
    values: Any = None if group is None else group.get(keyword)
    return [] if values is None else [float(value) for value in np.atleast_1d(values)]


@contextmanager
def _damage_as_reject() -> Iterator[None]:
    """Turn what pydicom raises on damaged values, over a dozen kinds, into a reject."""
    try:
        yield
    except (SliceError, MemoryError):
        raise
    except Exception as error:
        raise SliceError("bad_header", f"{type(error).__name__} in a functional group") from error
