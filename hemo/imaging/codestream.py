"""What a compressed frame says about its own size, read before a decoder believes it."""

import struct
from typing import NamedTuple

JPEG_START = b"\xff\xd8"
JPEG_2000_START = b"\xff\x4f\xff\x51"  # SOC and SIZ
JP2_START = b"\0\0\0\x0cjP  "
CODESTREAM_BOX = b"jp2c"
FRAME_HEADERS = {*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7}
END = b"\xff\xd9"  # EOI of JPEG, EOC of JPEG 2000
PADDING = b"\x00\xff"
STANDALONE = {0x01, *range(0xD0, 0xD8)}


class FrameSize(NamedTuple):
    """Size of an encoded frame."""

    rows: int
    cols: int
    samples: int


def encoded_size(frame: bytes) -> FrameSize | None:
    """Return the size in the header of a JPEG, JPEG-LS or JPEG 2000 codestream; None where it has no such header.

    Source:
        ITU-T T.81 B.2.2 (frame header), T.87 C.2.2 (SOF55), T.800 A.5.1 (SIZ).
    """
    if frame[:2] == JPEG_START:
        return _jpeg_size(frame)
    start = _after_boxes(frame)
    if frame[start : start + 4] != JPEG_2000_START or len(frame) < start + 42:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", frame, start + 8)
    (samples,) = struct.unpack_from(">H", frame, start + 40)
    return FrameSize(bottom - top, right - left, samples)


def is_whole(frame: bytes) -> bool:
    """Tell whether a JPEG, JPEG-LS or JPEG 2000 codestream has its end: decoders make up what is missing."""
    return frame.rstrip(PADDING).endswith(END)


def _after_boxes(frame: bytes) -> int:
    """Return where a JPEG 2000 codestream starts: behind the boxes of a JP2 file, else at once.

    Boxes without length are passed over by nobody: pydicom's own search stands still before them.

    Source:
        ITU-T T.800 annex I.
    """
    at = len(JP2_START) + 4 if frame.startswith(JP2_START) else 0
    while at and frame[at + 4 : at + 8] != CODESTREAM_BOX:
        length = int.from_bytes(frame[at : at + 4], "big")
        if length < 8 or at + length >= len(frame):
            return len(frame)
        at += length
    return at + 8 if at else 0


def _jpeg_size(frame: bytes) -> FrameSize | None:
    """Walk the marker segments up to the frame header."""
    at = 2
    while at + 4 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in STANDALONE:
            at += 2
        elif marker in FRAME_HEADERS:
            return FrameSize(*struct.unpack_from(">HHB", frame, at + 5)) if at + 10 <= len(frame) else None
        else:
            at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None
