"""List and read the members of a zip in place, on a disk or by range reads.

Only the central directory at the end of a zip is read to list it; a member costs one range read. The standard library
reads the directory at three times the time and memory, and gives up on a zip for one bad entry. Section numbers are
those of APPNOTE.TXT 6.3.10, the specification of the format.
"""

import os
import re
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from isal import isal_zlib

from hemo.corpus.files import mark_of, read_ranges, unreachable
from hemo.corpus.source_file import Member, Refusal, SourceFile
from hemo.errors import SliceError, SourceChangedError, SourceError
from hemo.storage import filesystem, is_local

STORED, DEFLATED = 0, 8
METHODS = (STORED, DEFLATED)
UNIX = 3
ENCRYPTED = 0x41  # plainly or strongly: APPNOTE.TXT 4.4.4, bits 0 and 6

MOST_BYTES = 1 << 30
"""Inflated size of a member above which it is refused: a CT series of 2,000 frames has half as much."""

RATIO_FROM_BYTES, MOST_RATIO = 1 << 24, 100
"""From 16 MiB on a member may inflate to 100 times its compressed bytes; smaller ones to any, as blank slices do."""

LOCAL_HEADER_BYTES = 30
"""APPNOTE.TXT 4.3.7; name and extra field follow."""

_DRIVE = re.compile(r"[A-Za-z]:")
_ODD_PART = re.compile(r"(?:^|/)\.{0,2}(?:/|$)")

SLACK_BYTES = 512
"""Read in addition, for the extra field of the local header; a longer one costs a second read."""

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, length of name, length of extra field: APPNOTE.TXT 4.3.7

_RAW_DEFLATE = -15

Fetch = Callable[[Sequence[tuple[int, int]]], list[bytes]]
"""Returns byte ranges of one file, each first byte and the one behind the last; short where the file ends."""

_END = struct.Struct("<4s4H2LH")  # 4.3.16: signature, disks, counts, size and offset of the directory, comment length
_END64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14: size and offset of the directory are the last two
_LOCATOR_BYTES = 20  # 4.3.15
_ENTRY = struct.Struct("<4s4B4HL2L5H2L")  # 4.3.12
_LONGEST_COMMENT = 0xFFFF
_IN_EXTRA = 0xFFFFFFFF
"""Value of a size or offset of more than 32 bits, which is in the extra field, 4.5.3."""

_UTF8 = 0x800  # 4.4.4, bit 11


class Entry(NamedTuple):
    """The entry of a member in the directory."""

    name: str
    system: int  # that it was made on: 3 is Unix, 4.4.2
    flags: int  # 4.4.4
    method: int  # 4.4.5
    crc: int
    compressed_bytes: int
    size_bytes: int
    attributes: int  # on Unix the mode, in the upper 16 bits
    header_offset: int


class Directory(NamedTuple):
    """The undecoded directory."""

    data: bytes
    members: int  # modulo 65,536 where the zip has no record for large directories
    start: int  # where it begins in the file
    shift: int  # bytes before the zip's first one, such as a program that unpacks it


def is_archive(source: str) -> bool:
    """Return whether a source is a zip, by its name."""
    return source.lower().endswith(".zip")


def list_archive(source: str) -> list[SourceFile]:
    """Return every member of a zip that is no folder; those that must not be read carry the reason.

    Only the directory at the end of the zip is read. Mark of a member: its CRC.

    Raises:
        SourceError: If there is no such zip, or its directory is damaged or cut off.
    """
    try:
        mark = archive_mark(source)
        with ranges_of(source) as fetch:
            directory = read_directory(fetch, int(mark.split()[0]))
        files = [_source_file(entry, mark) for entry in entries(directory) if not entry.name.endswith("/")]
    except FileNotFoundError as error:
        raise SourceError(f"source: {source} does not exist; give the zip the corpus was downloaded as") from error
    except ValueError as error:
        raise SourceError(f"source: {source} is no complete zip: {error}; download or copy it again") from error
    except Exception as error:  # each storage raises errors of its own
        raise unreachable(source, error) from error
    for index in _overlapping(files, directory.start):
        refused = files[index].refused or Refusal("unsafe_member", "it shares bytes with another member")
        files[index] = files[index]._replace(refused=refused)
    return files


@contextmanager
def ranges_of(source: str) -> Iterator[Fetch]:
    """Open a file for reading byte ranges, on a disk or in a bucket.

    Raises:
        OSError: If it is gone or cannot be read.
    """
    if is_local(source):
        with Path(source).open("rb", buffering=0) as opened:
            yield lambda ranges: [os.pread(opened.fileno(), end - start, start) for start, end in ranges]
    else:
        fs, path = filesystem(source)
        yield lambda ranges: read_ranges(fs, [path] * len(ranges), ranges)


def archive_mark(source: str) -> str:
    """Return the change mark of a zip: its size in bytes, a space, its time or ETag.

    Raises:
        OSError: If it is gone or cannot be reached.
    """
    fs, path = filesystem(source)
    if is_local(source):
        status = Path(path).stat()
        return f"{status.st_size} {status.st_mtime_ns}"
    entry = fs.info(path)
    return f"{entry['size']} {mark_of(entry)}"


def _source_file(entry: Entry, mark: str) -> SourceFile:
    member = Member(entry.header_offset, entry.compressed_bytes, entry.method, entry.crc, mark)
    return SourceFile(entry.name, entry.size_bytes, f"{entry.crc:08x}", member, refusal_of(entry))


def refusal_of(entry: Entry) -> Refusal | None:
    """Return why a member must not be read, by its entry in the directory; None if it may."""
    unsafe = _unsafe(entry.name)
    if unsafe:
        return Refusal("unsafe_member", unsafe)
    if entry.system == UNIX and stat.S_IFMT(entry.attributes >> 16) not in (0, stat.S_IFREG):
        return Refusal("unsafe_member", "it is a link or device, no file")
    if entry.flags & ENCRYPTED:
        return Refusal("encrypted_member", "it is encrypted; zip it again without a password")
    if entry.method not in METHODS:
        detail = f"compression method {entry.method}; stored (0) and deflated (8) members are read"
        return Refusal("unsupported_member", detail)
    return _oversized(entry)


def _oversized(entry: Entry) -> Refusal | None:
    size_bytes, compressed_bytes = entry.size_bytes, entry.compressed_bytes
    if size_bytes > MOST_BYTES:
        return Refusal("oversized_member", f"{size_bytes} bytes when inflated; at most {MOST_BYTES} are")
    if size_bytes > RATIO_FROM_BYTES and size_bytes > MOST_RATIO * compressed_bytes:
        return Refusal("oversized_member", f"{compressed_bytes} bytes would inflate to {size_bytes}")
    if compressed_bytes > 2 * size_bytes + LOCAL_HEADER_BYTES:
        return Refusal("oversized_member", f"{compressed_bytes} compressed bytes for {size_bytes}")
    return None


def _unsafe(name: str) -> str:
    """Return why a member's name is unsafe; empty if it is not."""
    if name.startswith("/") or _DRIVE.match(name):
        return "an absolute name"
    if "\\" in name or "\0" in name:
        return "a backslash or zero byte in the name; zip it again with a tool that writes slashes"
    suspect = name.startswith(".") or "/." in name or "//" in name or not name
    if suspect and _ODD_PART.search(name):
        return "a name with empty, `.` or `..` parts"
    return ""


def _overlapping(files: Sequence[SourceFile], end: int) -> Iterator[int]:
    """Yield which members reach into the next one, or past `end`, the start of the directory."""
    members = [file.member for file in files if file.member is not None]
    starts = np.array(
        [min(member.header_offset, end) for member in members], np.int64
    )  # a false offset may exceed 64 bits
    lengths = np.array([LOCAL_HEADER_BYTES + min(member.compressed_bytes, end) for member in members], np.int64)
    order = np.argsort(starts, kind="stable")
    following = np.append(starts[order][1:], end)
    yield from order[(starts + lengths)[order] > following].tolist()


def read_members(source: str, files: Sequence[SourceFile]) -> list[bytes | SliceError]:
    """Return the bytes of listed members of a zip, all requested at once; an error in the place of a damaged one.

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
        raise SourceChangedError("the zip changed after it was listed; run again to list it again")
    return read


def member_of(file: SourceFile) -> Member:
    """Return the position of a member."""
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
    """Return the content of a member, or why it is damaged."""
    member = member_of(file)
    if len(chunk) < LOCAL_HEADER_BYTES:
        return SliceError("damaged_member", "the zip ends before it")
    signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack_from(chunk)
    if signature != b"PK\3\4":
        return SliceError("damaged_member", "no local header at the offset in the zip's directory")
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
        size_bytes: Size they must inflate to; no more is inflated.

    Raises:
        SliceError: `damaged_member`.
    """
    content = bytes(data) if member.method == STORED else _inflated(data, size_bytes)
    if len(content) != size_bytes:
        raise SliceError("damaged_member", f"{len(content)} bytes, the zip's directory declares {size_bytes}")
    if isal_zlib.crc32(content) != member.crc:
        raise SliceError("damaged_member", "its bytes do not match its checksum")
    return content


def _inflated(data: memoryview | bytes, size_bytes: int) -> bytes:
    """Return deflated bytes inflated, up to a byte more than `size_bytes`, which shows that there is more."""
    inflater = isal_zlib.decompressobj(_RAW_DEFLATE)
    try:
        return bytes(inflater.decompress(data, size_bytes + 1))
    except isal_zlib.IsalError as error:  # type: ignore[misc]  # its stub calls the class an instance
        raise SliceError("damaged_member", "its compressed bytes cannot be inflated") from error


def read_directory(fetch: Fetch, size_bytes: int) -> Directory:
    """Return the directory of a zip of this size, in two or three reads.

    Raises:
        ValueError: If it is no complete zip; the message has the reason.
    """
    tail_start = max(0, size_bytes - _END.size - _LONGEST_COMMENT - _LOCATOR_BYTES - _END64.size)
    tail = fetch([(tail_start, size_bytes)])[0]
    end = tail.rfind(b"PK\5\6")
    if end < 0 or end + _END.size > len(tail):
        raise ValueError("it has no directory at its end")
    *_, members, length, offset, _ = _END.unpack_from(tail, end)
    behind = end
    if tail[max(0, end - _LOCATOR_BYTES) : end].startswith(b"PK\6\7") and end >= _LOCATOR_BYTES + _END64.size:
        behind = end - _LOCATOR_BYTES - _END64.size
        signature, *_, members, length, offset = _END64.unpack_from(tail, behind)
        if signature != b"PK\6\6":
            raise ValueError("the record of its large directory is damaged")
    start = tail_start + behind - length
    if start < 0 or start < offset:
        raise ValueError("its directory is cut off")
    data = tail[start - tail_start : behind] if start >= tail_start else fetch([(start, start + length)])[0]
    if len(data) != length:
        raise ValueError("its directory is cut off")
    return Directory(data, members, start, start - offset)


def entries(directory: Directory) -> Iterator[Entry]:
    """Yield the entries of a directory, in its order.

    Raises:
        ValueError: If it is damaged.
    """
    data, at, count = directory.data, 0, 0
    while at < len(data):
        if len(data) - at < _ENTRY.size:
            raise ValueError("its directory ends within an entry")
        (signature, _, system, _, _, flags, method, _, _, crc, compressed, size, name_bytes, extra_bytes, comment_bytes,
         _, _, attributes, offset) = _ENTRY.unpack_from(data, at)  # fmt: skip
        if signature != b"PK\1\2":
            raise ValueError("its directory is damaged")
        names_end = at + _ENTRY.size + name_bytes
        name = data[at + _ENTRY.size : names_end]
        if _IN_EXTRA in (compressed, size, offset):
            size, compressed, offset = _large(data[names_end : names_end + extra_bytes], size, compressed, offset)
        text = _text(name, flags, system)
        yield Entry(text, system, flags, method, crc, compressed, size, attributes, offset + directory.shift)
        at = names_end + extra_bytes + comment_bytes
        count += 1
    if at > len(data) or (count - directory.members) % (1 << 16):
        raise ValueError(f"its directory declares {directory.members} members and has {count}")


def _text(name: bytes, flags: int, system: int) -> str:
    """Return a name; bytes that are no UTF-8 where it should be as backslashes, by which the member is refused.

    Info-ZIP on Unix writes UTF-8 without the flag for it.
    """
    if flags & _UTF8 or name.isascii():
        return name.decode("utf-8", "backslashreplace")
    if system == UNIX:
        with suppress(UnicodeDecodeError):
            return name.decode("utf-8")
    return name.decode("cp437")


def _large(extra: bytes, *fields: int) -> list[int]:
    """Return size, compressed size and offset, those of more than 32 bits taken from the extra field, 4.5.3."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            values = iter(struct.unpack_from(f"<{length // 8}Q", extra[at + 4 : at + 4 + length].ljust(length, b"\0")))
            return [next(values, field) if field == _IN_EXTRA else field for field in fields]
        at += 4 + length
    return list(fields)
