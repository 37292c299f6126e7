"""Members of a zip to bytes: one range read each, inflated to the declared size and no further, CRC verified."""

import struct
from collections.abc import Sequence

from isal import isal_zlib

from hemo.corpus.source_file import Member, SourceFile
from hemo.corpus.zip.archive import LOCAL_HEADER_BYTES, STORED, archive_mark, ranges_of
from hemo.corpus.zip.central_directory import Fetch
from hemo.errors import SliceError, SourceChangedError
from hemo.storage import is_local

SLACK_BYTES = 512
"""Read beyond what the directory says, for the local header's extra field; a longer one costs a second read."""

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, length of name, length of extra field: APPNOTE.TXT 4.3.7

_RAW_DEFLATE = -15


def read_members(source: str, files: Sequence[SourceFile]) -> list[bytes | SliceError]:
    """Return the bytes of listed members of a zip, all requested at once; `damaged_member` in the place of a damaged.

    Args:
        source: The zip, on a disk or a URI.
        files: Members, none of them refused.

    Raises:
        SourceChangedError: If the zip is not the one that was listed.
        OSError: If it is gone or cannot be read.
    """
    with ranges_of(source) as fetch:
        read = _read(fetch, files)
    damaged = any(isinstance(data, SliceError) for data in read)
    if (damaged or is_local(source)) and archive_mark(source) != member_of(files[0]).archive_mark:
        raise SourceChangedError("the zip changed after it was listed; run again: it is listed anew")
    return read


def member_of(file: SourceFile) -> Member:
    """Return where a member lies."""
    if file.member is None:
        raise ValueError("this file is no member of a zip")
    return file.member


def _read(fetch: Fetch, files: Sequence[SourceFile]) -> list[bytes | SliceError]:
    spans = [_span(file) for file in files]
    chunks = fetch(spans)
    return [_whole(fetch, file, chunk) for file, chunk in zip(files, chunks, strict=True)]


def _span(file: SourceFile) -> tuple[int, int]:
    """Return which bytes hold a member's header, name, extra field and data, and some more."""
    member = member_of(file)
    around = LOCAL_HEADER_BYTES + len(file.path.encode()) + SLACK_BYTES
    return member.header_offset, member.header_offset + around + member.compressed_bytes


def _whole(fetch: Fetch, file: SourceFile, chunk: bytes) -> bytes | SliceError:
    """Return what a member holds, or what is wrong with it."""
    member = member_of(file)
    if len(chunk) < LOCAL_HEADER_BYTES:
        return SliceError("damaged_member", "the zip ends before it")
    signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack_from(chunk)
    if signature != b"PK\3\4":
        return SliceError("damaged_member", "no local header where the zip's directory says")
    start = LOCAL_HEADER_BYTES + name_bytes + extra_bytes
    end = start + member.compressed_bytes
    if end > len(chunk):  # a longer extra field, or the end of the zip
        chunk, start, end = fetch([(member.header_offset + start, member.header_offset + end)])[0], 0, end - start
    try:
        return unpacked(memoryview(chunk)[start:end], member, file.size_bytes)
    except SliceError as error:
        return error


def unpacked(data: memoryview | bytes, member: Member, size_bytes: int) -> bytes:
    """Return the content of a member.

    Args:
        data: Its compressed bytes.
        member: How they are compressed, and their CRC.
        size_bytes: What they must inflate to; no more is ever made of them.

    Raises:
        SliceError: `damaged_member`.
    """
    content = bytes(data) if member.method == STORED else _inflated(data, size_bytes)
    if len(content) != size_bytes:
        raise SliceError("damaged_member", f"{len(content)} bytes, the zip's directory says {size_bytes}")
    if isal_zlib.crc32(content) != member.crc:
        raise SliceError("damaged_member", "its bytes do not fit its checksum")
    return content


def _inflated(data: memoryview | bytes, size_bytes: int) -> bytes:
    """Return deflated bytes inflated, up to a byte more than `size_bytes`, which shows that there is more."""
    inflater = isal_zlib.decompressobj(_RAW_DEFLATE)
    try:
        return bytes(inflater.decompress(data, size_bytes + 1))
    except isal_zlib.IsalError as error:  # type: ignore[misc]  # its stub calls the class an instance
        raise SliceError("damaged_member", "its compressed bytes cannot be inflated") from error
