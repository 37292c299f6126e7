"""The header of a plain DICOM file in one pass over its bytes.

Most files of a CT archive are little endian, uncompressed and flat where it matters. Of those the values hemo asks for
are sliced out at a tenth of what a general reader costs; every other file is left to pydicom, which reads them all.
"""

import struct

from hemo.imaging.dicom.tags import (
    ESCAPE,
    PIXEL_DATA,
    SAMPLES_PER_PIXEL,
    TEXT_TAGS,
    TRANSFER_SYNTAX,
    WHOLE_TAGS,
    ScannedElements,
)

DATA_SET_AT = 132
"""Bytes of the preamble and the DICM prefix (PS3.10 7.1)."""

HEAD_BYTES = 8

EXPLICIT, IMPLICIT = b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2"  # little endian both, PS3.5 A.1 and A.2
WANTED = TEXT_TAGS | WHOLE_TAGS | {PIXEL_DATA}
FILE_META = 0x0002FFFF
FUNCTIONAL_GROUPS = range(0x52000000, 0x53000000)
UNDEFINED_LENGTH = 0xFFFFFFFF

LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""Value representations with two reserved bytes and a length of four (PS3.5 table 7.1-1)."""

SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
"""Those with a length of two bytes (PS3.5 table 7.1-2)."""

_explicit_head = struct.Struct("<HH2sH").unpack_from
_implicit_head = struct.Struct("<HHL").unpack_from
_long_length = struct.Struct("<L").unpack_from


class _NotPlainError(Exception):
    """The file is none that can be read in one pass."""


def scan(data: bytes) -> ScannedElements | None:
    """Return the values hemo asks for, by tag, or None for a file that pydicom has to read.

    Args:
        data: The whole file.

    Returns:
        Values as stored, of `TEXT_TAGS` (ASCII, without escapes) and `WHOLE_TAGS`; of (7FE0,0010) a view, shorter than
        the header promises where the file is cut.
    """
    if data[DATA_SET_AT - 4 : DATA_SET_AT] != b"DICM":
        return None
    values: ScannedElements = {}
    try:
        at = _read_elements(data, DATA_SET_AT, values, explicit=True, last=FILE_META)
        syntax = values.get(TRANSFER_SYNTAX, b"").rstrip(b"\0 ")
        if syntax in (EXPLICIT, IMPLICIT):
            _read_elements(data, at, values, explicit=syntax == EXPLICIT, last=PIXEL_DATA)
            return values if values.get(SAMPLES_PER_PIXEL, b"\1\0") == b"\1\0" else None
    except (_NotPlainError, struct.error):  # struct.error: the file ends within the head of an element
        pass
    return None


def _read_elements(data: bytes, at: int, values: ScannedElements, *, explicit: bool, last: int) -> int:
    """Read elements up to the tag `last` into `values`; return where the first one after it starts."""
    previous = 0
    head = _explicit_head if explicit else _implicit_head
    while at < len(data):
        group, number, *kind, length = head(data, at)
        tag = group << 16 | number
        if tag > last:
            break
        start = at + HEAD_BYTES
        if explicit and kind[0] in LONG:
            (length,) = _long_length(data, start)
            start += 4
        elif explicit and kind[0] not in SHORT:
            raise _NotPlainError
        at = start + length
        if tag <= previous or length == UNDEFINED_LENGTH or tag in FUNCTIONAL_GROUPS:
            raise _NotPlainError
        if at > len(data) and tag != PIXEL_DATA:
            raise _NotPlainError
        if tag in WANTED:
            values[tag] = _value(data, tag, start, at)
        previous = tag
    return at


def _value(data: bytes, tag: int, start: int, stop: int) -> bytes | memoryview:
    if tag == PIXEL_DATA:
        return memoryview(data)[start:stop]
    value = data[start:stop]
    if tag in TEXT_TAGS and not (value.isascii() and ESCAPE not in value):
        raise _NotPlainError
    return value
