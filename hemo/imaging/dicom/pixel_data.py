"""Decode the pixel data to the stored values of each frame; compressed frames are checked before."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.uid import UID, RLELossless

from hemo.errors import SliceError
from hemo.imaging.dicom.elements import BIG_ENDIAN, EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, Elements
from hemo.imaging.dicom.header import CtHeader

UNCOMPRESSED = {IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN, BIG_ENDIAN}
"""PS3.5 A.1 to A.3; a deflated file has been inflated before."""

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


def stored_frames(elements: Elements, header: CtHeader) -> Sequence[NDArray[Any]] | Iterator[NDArray[Any] | SliceError]:
    """Return the stored values of each frame, decoded one at a time.

    Returns:
        A frame each, (rows, cols) for grey and (rows, cols, 3) for colour, RGB; of a compressed frame that cannot be
        decoded, the error.

    Raises:
        SliceError: If no frame can be read: `no_pixels`, `truncated`, `codec_missing`, `decode_failed`.
    """
    raw: Any = elements.pixel_data  # a memoryview is read like bytes
    if not raw:
        raise SliceError("no_pixels", "no pixel data (7FE0,0010)")
    if header.transfer_syntax not in UNCOMPRESSED:
        return _compressed(elements, header, raw)
    needed = header.frames * header.rows * header.cols * _cell_bytes(header)
    if len(raw) < needed:
        raise SliceError("truncated", f"{len(raw)} of {needed} pixel bytes")
    if header.samples == 3 or (header.bits_allocated == 8 and header.transfer_syntax == BIG_ENDIAN):
        return _decoded(elements, header, get_decoder(UID(header.transfer_syntax)), {})
    cells = np.dtype("u1" if header.bits_allocated == 8 else ">u2" if header.transfer_syntax == BIG_ENDIAN else "<u2")
    values: NDArray[Any] = np.frombuffer(raw, cells, count=needed // cells.itemsize)
    values = values.reshape(header.frames, header.rows, header.cols).astype(cells.newbyteorder("="), copy=False)
    return values >> header.low_bit if header.low_bit else values  # type: ignore[return-value]  # iterates over frames


def _cell_bytes(header: CtHeader) -> int:
    """Return the bytes of a pixel; of YBR_FULL_422 two pixels have one colour (PS3.3 C.7.6.3.1.2)."""
    samples = 2 if header.photometric == "YBR_FULL_422" else header.samples
    return samples * header.bits_allocated // 8


def _compressed(elements: Elements, header: CtHeader, raw: bytes) -> Iterator[NDArray[Any] | SliceError]:
    """Check what can be checked without decoding: the decoders are C libraries that do not check their input."""
    syntax = UID(header.transfer_syntax)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise SliceError("codec_missing", f"transfer syntax {_name(syntax)}") from error
    if not decoder.is_available:
        raise SliceError("codec_missing", f"transfer syntax {_name(syntax)}")
    if header.low_bit and syntax != RLELossless:
        raise SliceError("unsupported_pixels", f"values from bit {header.low_bit} on in {_name(syntax)}")
    try:
        frames = list(generate_frames(raw, number_of_frames=header.frames))
    except MemoryError:
        raise
    except Exception as error:  # pydicom raises ValueError, struct.error, EOFError, ...
        raise SliceError("decode_failed", f"{type(error).__name__} between the frames of {_name(syntax)}") from error
    if len(frames) < header.frames:
        raise SliceError("truncated", f"{len(frames)} of {header.frames} encoded frames")
    declared = None if syntax == RLELossless else FrameSize(header.rows, header.cols, header.samples)
    checked = {number: _fault(frame, declared) for number, frame in enumerate(frames[: header.frames])}
    return _decoded(elements, header, decoder, {number: fault for number, fault in checked.items() if fault})


def _fault(frame: bytes, declared: FrameSize | None) -> SliceError | None:
    """Return why a frame must not be decoded: decoders invent what is missing, or access memory out of bounds."""
    if declared is None:
        return None
    encoded = encoded_size(frame)
    if encoded is None:
        return SliceError("decode_failed", "no frame header in the encoded pixel data")
    if encoded != declared:
        sizes = [" x ".join(map(str, size)) for size in (encoded, declared)]
        return SliceError("decode_failed", f"encoded frame of {sizes[0]}, the header declares {sizes[1]}")
    return None if is_whole(frame) else SliceError("truncated", f"encoded frame without an end, {len(frame)} bytes")


def _decoded(
    elements: Elements, header: CtHeader, decoder: Decoder, faults: Mapping[int, SliceError]
) -> Iterator[NDArray[Any] | SliceError]:
    """Decode by pydicom, a frame at a time; an error in the place of one that cannot be decoded.

    pydicom clears the bits above those stored, whichever bit is the highest: where it matters, all count as stored.

    Args:
        elements: Of the file, with pydicom's data set.
        header: Its header.
        decoder: For its transfer syntax.
        faults: Frames that must not be decoded.
    """
    options: dict[str, Any] = {"bits_stored": header.bits_allocated} if header.low_bit else {}
    at = 0
    while at < header.frames:
        stop = min((number for number in faults if number >= at), default=header.frames)
        if at == stop:
            yield faults[at]
            at += 1
            continue
        try:
            for pixels, _ in decoder.iter_array(elements.dataset, indices=range(at, stop), **options):
                at += 1
                yield pixels >> header.low_bit if header.low_bit else pixels
        except (MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # over a dozen kinds on damaged data; a panic of a Rust decoder is no Exception
            at += 1
            yield _refusal(error, _name(UID(header.transfer_syntax)))


def _refusal(error: BaseException, syntax: str) -> SliceError:
    unknown = isinstance(error, NotImplementedError) or "not supported" in str(error)
    if unknown or "missing dependencies" in str(error):
        return SliceError("codec_missing", f"transfer syntax {syntax}")
    code = "truncated" if isinstance(error, ValueError) and "expected" in str(error) else "decode_failed"
    return SliceError(code, f"{type(error).__name__} while decoding {syntax}")


def _name(syntax: UID) -> str:
    return str(syntax.name) if syntax.type else "unknown"


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
    """Tell whether a JPEG, JPEG-LS or JPEG 2000 codestream has its end: decoders invent what is missing."""
    return frame.rstrip(PADDING).endswith(END)


def _after_boxes(frame: bytes) -> int:
    """Return where a JPEG 2000 codestream starts: behind the boxes of a JP2 file, else at 0.

    Boxes without a length are refused: pydicom's search would loop at them.

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
