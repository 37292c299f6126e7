"""Values of data elements, decoded from their bytes: what every slice has, without the cost of pydicom's conversion.

They come from `scan` or from pydicom; then text that is not ASCII, and elements it has converted already, go through
it. Tags and value representations are those of DICOM PS3.6 and PS3.5 6.2.
"""

from typing import Any

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

TRANSFER_SYNTAX = 0x00020010
STORAGE_CLASS = 0x00020002
IMAGE_TYPE = 0x00080008
SOP_CLASS = 0x00080016
MODALITY = 0x00080060
CONVERSION_TYPE = 0x00080064
PATIENT_ID = 0x00100020
STUDY_UID = 0x0020000D
SERIES_UID = 0x0020000E
IMAGE_POSITION = 0x00200032
IMAGE_ORIENTATION = 0x00200037
SAMPLES_PER_PIXEL = 0x00280002
PHOTOMETRIC_INTERPRETATION = 0x00280004
NUMBER_OF_FRAMES = 0x00280008
ROWS = 0x00280010
COLUMNS = 0x00280011
PIXEL_SPACING = 0x00280030
BITS_ALLOCATED = 0x00280100
BITS_STORED = 0x00280101
HIGH_BIT = 0x00280102
PIXEL_REPRESENTATION = 0x00280103
RESCALE_INTERCEPT = 0x00281052
RESCALE_SLOPE = 0x00281053
BURNED_IN_ANNOTATION = 0x00280301
PIXEL_DATA = 0x7FE00010

TEXT_TAGS = frozenset(
    {
        *(TRANSFER_SYNTAX, STORAGE_CLASS, IMAGE_TYPE, SOP_CLASS, MODALITY, CONVERSION_TYPE, PATIENT_ID),
        *(STUDY_UID, SERIES_UID, IMAGE_POSITION, IMAGE_ORIENTATION, PHOTOMETRIC_INTERPRETATION, NUMBER_OF_FRAMES),
        *(PIXEL_SPACING, RESCALE_INTERCEPT, RESCALE_SLOPE, BURNED_IN_ANNOTATION),
    }
)
WHOLE_TAGS = frozenset({SAMPLES_PER_PIXEL, ROWS, COLUMNS, BITS_ALLOCATED, BITS_STORED, HIGH_BIT, PIXEL_REPRESENTATION})

ScannedElements = dict[int, Any]
"""Tag -> value as `scan` found it: bytes of ASCII text or a little endian number; a view of the pixel data."""

Elements = Dataset | ScannedElements

LARGEST_SHORT = 0xFFFF

ESCAPE = b"\x1b"
"""Starts a change of character set (PS3.5 6.1.2.5.3), within which a backslash may be half a character."""


def texts(elements: Elements, tag: int) -> list[str]:
    """Return the values of a text element without padding; an empty list where it is missing or empty."""
    if isinstance(elements, dict):
        plain = elements.get(tag, b"")
    else:
        element: Any = elements.get_item(tag)
        plain = element.value if element is not None else b""
        if not isinstance(element, RawDataElement) or (plain and (not plain.isascii() or ESCAPE in plain)):
            return _texts_by_pydicom(elements, tag) if plain else []
    return [value.strip(" \0") for value in plain.decode("ascii").split("\\")] if plain else []


def _texts_by_pydicom(dataset: Dataset, tag: int) -> list[str]:
    value = dataset[tag].value
    return [str(value)] if isinstance(value, str | int | float) else [str(each) for each in value]


def text(elements: Elements, tag: int) -> str:
    """Return the first value of a text element, empty where there is none."""
    return next(iter(texts(elements, tag)), "")


def identifier(elements: Elements, tag: int) -> str:
    """Return the whole text of an element that names something, whatever is in it; empty where there is none."""
    return "\\".join(texts(elements, tag))


def numbers(elements: Elements, tag: int) -> list[float]:
    """Return the values of a decimal string (DS).

    Raises:
        ValueError: If one is no number.
    """
    return [float(value) for value in texts(elements, tag) if value]


def whole(elements: Elements, tag: int, default: int) -> int:
    """Return an unsigned short (US), `default` where it is missing or empty.

    Raises:
        ValueError, TypeError: If it is none. A text in its place is never told as a number: it may be a name.
    """
    value = _number(elements, tag)
    if value is not None and not 0 <= value <= LARGEST_SHORT:
        raise ValueError("more than an unsigned short holds")
    return default if value is None else value


def _number(elements: Elements, tag: int) -> int | None:
    if isinstance(elements, dict):
        plain = elements.get(tag)
        return int.from_bytes(plain, "little") if plain else None
    element: Any = elements.get_item(tag)
    if element is None or not element.value:
        return None
    if isinstance(element, RawDataElement):
        return int.from_bytes(element.value, "little" if element.is_little_endian else "big")
    return int(element.value)
