"""Check the header of a CT file, and read the functional groups of a multi-frame one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import sqrt
from typing import Any, NamedTuple

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
LARGEST_MM = 1e6  # of a position or a length
LONGEST_SCANNER = 80  # characters; the two elements may have 64 each
UNIT_TOLERANCE = 0.1  # of direction cosines and the normal's length: cosines written with few decimals are a little off
CT_CLASSES = {"1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"}  # PS3.4 B.5
CAPTURE_CLASS = "1.2.840.10008.5.1.4.1.1.7"  # secondary capture and its multi-frame kinds, PS3.4 B.5
DIGITISED = frozenset({"DV", "DF", "SD", "SI", "DRW"})
"""Conversion Types (0008,0064) of what was a picture before: video, film, scanned documents and images, drawings
(PS3.3 C.8.6.1). Others, such as WSD for a workstation, say nothing about the pixels."""

CAPTURE_TERMS = frozenset({"SCREEN SAVE", "CT_SOM5 PROT", "DOSE_INFO", "PATIENT_INFO"})
"""Values of Image Type by which GE, Siemens and Philips name screens and pages of text, in whatever SOP class."""

HU_TYPES = frozenset({"", "HU"})
UNCERTAIN_TYPES = frozenset({"US", "HU_MOD"})  # unspecified; modified Hounsfield units
RESCALE_TYPES = HU_TYPES | UNCERTAIN_TYPES | {"OD", "MGML", "Z_EFF", "ED", "EDW", "PCT"}
"""Defined terms of Rescale Type (0028,1054), PS3.3 C.11.1.1.2. A CT image without one holds HU (PS3.3 C.8.2.1)."""

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


class Geometry(NamedTuple):
    """Where a slice lies, and its size; None: not known."""

    position_mm: float | None  # along the normal of its plane
    orientation: tuple[float, ...] | None  # 6 direction cosines, of a row and of a column; None without a position
    spacing_mm: float | None  # between rows
    slice_thickness_mm: float | None


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
    rescale_type: str
    padding: tuple[int, ...]  # bit patterns: Pixel Padding Value, and Pixel Padding Range Limit if there is one
    patient: str
    study: str
    series: str
    geometry: Geometry
    flags: tuple[str, ...]
    is_capture: bool

    @property
    def is_picture(self) -> bool:
        """Whether the pixels are colours or grey levels of a capture, not measured values.

        The rescale of a multi-frame capture is the identity, of type US (PS3.3 C.8.6.3).
        """
        return self.samples == 3 or (self.is_capture and (self.intercept is None or self.rescale_type == "US"))

    @property
    def is_inverted(self) -> bool:
        """Whether the lowest value is displayed as white (PS3.3 C.7.6.3.1.2)."""
        return self.photometric == "MONOCHROME1"

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
    image_type = texts(elements, dicom.IMAGE_TYPE)
    is_capture = samples == 3 or _is_capture(elements, image_type)
    flags = {
        "secondary_capture": is_capture,
        "localizer": "LOCALIZER" in image_type,
        "derived": image_type[:1] == ["DERIVED"] and not is_capture,
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
        rescale_type=text(elements, dicom.RESCALE_TYPE),
        padding=_padding(elements),
        patient=identifier(elements, dicom.PATIENT_ID),
        study=identifier(elements, dicom.STUDY_UID),
        series=identifier(elements, dicom.SERIES_UID),
        geometry=_geometry(elements),
        flags=tuple(flag for flag, holds in flags.items() if holds),
        is_capture=is_capture,
    )


def _is_capture(elements: Elements, image_type: list[str]) -> bool:
    """Tell whether a grey image shows a screen or a picture, not what a scanner measured.

    A reformat calls itself DERIVED, SECONDARY, even converted at a workstation: with the SOP class of CT it is a slice.
    Without that, as in de-identified archives, what has a Conversion Type is a slice only if it is ORIGINAL: names may
    be drawn into the others.

    Args:
        elements: Of the file.
        image_type: Values of Image Type (PS3.3 C.7.6.1.1.2).
    """
    sop_class, conversion = text(elements, dicom.SOP_CLASS), text(elements, dicom.CONVERSION_TYPE)
    return (
        text(elements, dicom.BURNED_IN_ANNOTATION) == "YES"
        or (sop_class or text(elements, dicom.STORAGE_CLASS)).startswith(CAPTURE_CLASS)
        or conversion in DIGITISED
        or not CAPTURE_TERMS.isdisjoint(image_type)
        or (bool(conversion) and sop_class not in CT_CLASSES and image_type[:1] != ["ORIGINAL"])
    )


def scanner_of(elements: Elements) -> str:
    """Return Manufacturer and Manufacturer's Model Name in one line, whatever they hold; empty without either."""
    named = f"{text(elements, dicom.MANUFACTURER)} {text(elements, dicom.MODEL_NAME)}"
    return " ".join(named.split())[:LONGEST_SCANNER].strip()


def _padding(elements: Elements) -> tuple[int, ...]:
    """Return the declared padding as bit patterns of 16 bits; what is no such number is left out."""
    tags = (dicom.PIXEL_PADDING_VALUE, dicom.PIXEL_PADDING_RANGE_LIMIT)
    values = [value for tag in tags if (value := elements.numbers.get(tag)) is not None]
    return tuple(value & 0xFFFF for value in values if -0x8000 <= value <= 0xFFFF)


def _geometry(elements: Elements) -> Geometry:
    cosines = decimals(elements, dicom.IMAGE_ORIENTATION)
    try:
        thickness_mm = length(decimals(elements, dicom.SLICE_THICKNESS))
    except ValueError:  # no image is lost for it: it only helps to tell gaps
        thickness_mm = None
    return _placed(
        decimals(elements, dicom.IMAGE_POSITION), cosines, length(decimals(elements, dicom.PIXEL_SPACING)), thickness_mm
    )


def _placed(
    origin: list[float], cosines: list[float], spacing_mm: float | None, thickness_mm: float | None
) -> Geometry:
    position_mm = position_along_normal(origin, cosines)
    return Geometry(position_mm, None if position_mm is None else tuple(cosines), spacing_mm, thickness_mm)


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


def length(values_mm: list[float]) -> float | None:
    """Return the first length in mm, of Pixel Spacing the distance of two rows; None if it is absent or no length."""
    return values_mm[0] if values_mm and 0 < values_mm[0] <= LARGEST_MM else None


def position_along_normal(origin: list[float], cosines: list[float]) -> float | None:
    """Return the slice's position in mm along the normal of its plane, or None if it is absent.

    Direction cosines that span no plane, such as six zeros, give none: those of a row and of a column are unit vectors
    at a right angle.

    Args:
        origin: Image Position (Patient), 3 numbers, mm.
        cosines: Image Orientation (Patient), 6 direction cosines.

    Source:
        DICOM PS3.3 C.7.6.2.1.1.
    """
    if len(origin) != 3 or len(cosines) != 6 or not max(map(abs, cosines)) <= 1 + UNIT_TOLERANCE:
        return None
    x, y, z = origin
    a, b, c, d, e, f = cosines
    normal_x, normal_y, normal_z = b * f - c * e, c * d - a * f, a * e - b * d
    if not abs(sqrt(normal_x**2 + normal_y**2 + normal_z**2) - 1) <= UNIT_TOLERANCE:
        return None
    position = x * normal_x + y * normal_y + z * normal_z
    return position if abs(position) <= LARGEST_MM else None


def rescale_of_frame(elements: Elements, header: CtHeader, frame: int) -> tuple[Rescale, list[str]]:
    """Return how a frame stores HU, and the flags that its units give.

    Slope, intercept and type are those of the file, else of the frame's functional group (Pixel Value Transformation,
    PS3.3 C.8.15.3.10).

    Raises:
        SliceError: `no_rescale` if there is none; `not_hu` if it gives other units; `bad_header` if slope or intercept
            is no usable number.
    """
    slope, intercept, rescale_type = header.slope, header.intercept, header.rescale_type
    if intercept is None:
        with _damage_as_reject():
            values = _group(elements, header, "PixelValueTransformationSequence", frame)
            if values is None:
                raise SliceError("no_rescale", "no rescale intercept (0028,1052)")
            slope, intercept = float(values.RescaleSlope), float(values.RescaleIntercept)
            rescale_type = str(values.get("RescaleType") or "").strip()
    slope = 1.0 if slope is None else slope
    is_uncertain = rescale_type in UNCERTAIN_TYPES
    if not is_uncertain and rescale_type not in HU_TYPES:
        named = rescale_type if rescale_type in RESCALE_TYPES else "another than the standard's"
        raise SliceError("not_hu", f"rescale type (0028,1054): {named}")
    if slope == 0 or not (abs(slope) <= LARGEST_RESCALE and abs(intercept) <= LARGEST_RESCALE):
        raise SliceError("bad_header", f"rescale slope {slope}, intercept {intercept}")
    return Rescale(slope, intercept, header.bits_stored, header.signed), ["uncertain_units"] if is_uncertain else []


def geometry_of_frame(elements: Elements, header: CtHeader, frame: int) -> Geometry:
    """Return where a frame lies: as the file says, else the frame's functional groups.

    Raises:
        SliceError: `bad_header` if a group holds no usable numbers.
    """
    own = header.geometry
    if own.position_mm is not None and own.spacing_mm is not None:
        return own
    with _damage_as_reject():
        plane = _values(_group(elements, header, "PlanePositionSequence", frame), "ImagePositionPatient")
        axes = _values(_group(elements, header, "PlaneOrientationSequence", frame), "ImageOrientationPatient")
        measures = _group(elements, header, "PixelMeasuresSequence", frame)
        spacing_mm, thickness_mm = (length(_values(measures, name)) for name in ("PixelSpacing", "SliceThickness"))
    of_frame = _placed(plane, axes, spacing_mm, thickness_mm)
    if own.position_mm is not None:  # position and orientation belong together
        of_frame = of_frame._replace(position_mm=own.position_mm, orientation=own.orientation)
    return of_frame._replace(
        spacing_mm=own.spacing_mm or of_frame.spacing_mm,
        slice_thickness_mm=own.slice_thickness_mm or of_frame.slice_thickness_mm,
    )


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
