"""The central directory of a zip: every member's name, sizes and place, without touching the members.

The standard library reads it too, at three times the time and memory, and gives up on a zip for one bad entry.
Section numbers are those of APPNOTE.TXT 6.3.10, the specification of the format.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

Fetch = Callable[[Sequence[tuple[int, int]]], list[bytes]]
"""Returns byte ranges of one file, each first byte and the one behind the last; short where the file ends."""

_END = struct.Struct("<4s4H2LH")  # 4.3.16: signature, disks, counts, size and offset of the directory, comment length
_END64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14: size and offset of the directory are the last two
_LOCATOR_BYTES = 20  # 4.3.15
_ENTRY = struct.Struct("<4s4B4HL2L5H2L")  # 4.3.12
_LONGEST_COMMENT = 0xFFFF
_IN_EXTRA = 0xFFFFFFFF
"""Stands for a size or offset of more than 32 bits: it lies in the extra field, 4.5.3."""

_UTF8 = 0x800  # 4.4.4, bit 11


class Entry(NamedTuple):
    """What the directory says of a member."""

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
    shift: int  # bytes before the zip's own first one: a program that unpacks it, for instance


def read_directory(fetch: Fetch, size_bytes: int) -> Directory:
    """Return the directory of a zip of this size, in two or three reads.

    Raises:
        ValueError: Saying why this is no whole zip.
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
    data, at, found = directory.data, 0, 0
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
        text = _text(name, flags)
        yield Entry(text, system, flags, method, crc, compressed, size, attributes, offset + directory.shift)
        at = names_end + extra_bytes + comment_bytes
        found += 1
    if at > len(data) or (found - directory.members) % (1 << 16):
        raise ValueError(f"its directory promises {directory.members} members and has {found}")


def _text(name: bytes, flags: int) -> str:
    """Return a name; bytes that are no UTF-8 where it should be as backslashes, by which the member is refused."""
    return name.decode("utf-8", "backslashreplace") if flags & _UTF8 or name.isascii() else name.decode("cp437")


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
