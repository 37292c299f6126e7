"""A zip read in place, on a disk or in a bucket: which members it has, and which of them are refused."""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from hemo.corpus.bucket import mark_of, read_ranges, unreachable
from hemo.corpus.source_file import Member, Refusal, SourceFile
from hemo.corpus.zip.central_directory import Entry, Fetch, entries, read_directory
from hemo.errors import SourceError
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


def is_archive(source: str) -> bool:
    """Tell whether a source is named as a zip."""
    return source.lower().endswith(".zip")


def list_archive(source: str) -> list[SourceFile]:
    """Return every member of a zip that is no folder; those that may not be read say why.

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
        raise SourceError(f"source: {source} is no whole zip: {error}; download or copy it again") from error
    except Exception as error:  # every storage has errors of its own
        raise unreachable(source, error) from error
    for place in _overlapping(files, directory.start):
        refused = files[place].refused or Refusal("unsafe_member", "it shares bytes with another member")
        files[place] = files[place]._replace(refused=refused)
    return files


@contextmanager
def ranges_of(source: str) -> Iterator[Fetch]:
    """Give what reads byte ranges of a file, on a disk or in a bucket.

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
    """Return what changes when a zip does: its size in bytes, a space, its time or ETag.

    Raises:
        OSError: If it is gone or cannot be asked for.
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
    """Return why a member may not be read, by what the directory of the zip says of it; None if it may."""
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
    """Return what is wrong with a member's name; empty if nothing is."""
    if name.startswith("/") or _DRIVE.match(name):
        return "an absolute name"
    if "\\" in name or "\0" in name:
        return "a backslash or zero byte in the name; zip it again with a tool that writes slashes"
    suspect = name.startswith(".") or "/." in name or "//" in name or not name
    if suspect and _ODD_PART.search(name):
        return "a name with empty, `.` or `..` parts"
    return ""


def _overlapping(files: Sequence[SourceFile], end: int) -> Iterator[int]:
    """Yield which members reach into the next one, or past `end`, where the directory begins."""
    members = [file.member for file in files if file.member is not None]
    starts = np.array([min(member.header_offset, end) for member in members], np.int64)  # a lie may exceed 64 bits
    lengths = np.array([LOCAL_HEADER_BYTES + min(member.compressed_bytes, end) for member in members], np.int64)
    order = np.argsort(starts, kind="stable")
    following = np.append(starts[order][1:], end)
    yield from order[(starts + lengths)[order] > following].tolist()
