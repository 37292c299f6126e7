"""A zip read in place, on a disk or in a bucket: which members it has, and which of them are refused."""

import os
import posixpath
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hemo.corpus.bucket import mark_of, unreachable
from hemo.corpus.listing import Member, Refusal, SourceFile
from hemo.errors import SourceError
from hemo.storage import filesystem, is_local

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

MOST_BYTES = 1 << 30
"""Inflated size of a member above which it is refused: a CT series of 2,000 frames has half as much."""

RATIO_FROM_BYTES, MOST_RATIO = 1 << 24, 100
"""Inflated members from 16 MiB on may be 100 times as large as their compressed bytes; a blank slice is 400 times."""

LOCAL_HEADER_BYTES = 30
"""APPNOTE.TXT 4.3.7; name and extra field follow."""

_DRIVE = re.compile(r"[A-Za-z]:")


def is_archive(source: str) -> bool:
    """Tell whether a source is named as a zip."""
    return source.lower().endswith(".zip")


def list_archive(source: str) -> Iterator[SourceFile]:
    """Yield every member of a zip that is no folder; those that may not be read say why.

    Only the directory at the end of the zip is read. Mark of a member: its CRC.

    Raises:
        SourceError: If there is no such zip, or its directory is damaged or cut off.
    """
    fs, path = filesystem(source)
    options = {} if is_local(source) else {"cache_type": "none"}  # the directory is read once, in one piece
    try:
        mark = archive_mark(source)
        with fs.open(path, "rb", **options) as opened, zipfile.ZipFile(opened) as archive:
            members, end = archive.infolist(), archive.start_dir
    except FileNotFoundError as error:
        raise SourceError(f"source: {source} does not exist; give the zip the corpus was downloaded as") from error
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise SourceError(f"source: {source} is no whole zip ({error}); download or copy it again") from error
    except Exception as error:  # every storage has errors of its own
        raise unreachable(source, error) from error
    overlapping = _overlapping(members, end)
    for place, info in enumerate(members):
        if not info.orig_filename.endswith("/"):
            yield _source_file(info, mark, overlaps=bool(overlapping[place]))


def archive_mark(source: str) -> str:
    """Return what changes when the zip does: its size with its time, or with its ETag.

    Raises:
        OSError: If it is gone or cannot be asked for.
    """
    fs, path = filesystem(source)
    if is_local(source):
        return mark_on_disk(Path(path).stat())
    entry = fs.info(path)
    return f"{entry['size']} {mark_of(entry)}"


def mark_on_disk(status: os.stat_result) -> str:
    """Return the mark of a zip on a disk."""
    return f"{status.st_size} {status.st_mtime_ns}"


def _source_file(info: zipfile.ZipInfo, mark: str, *, overlaps: bool) -> SourceFile:
    member = Member(info.header_offset, info.compress_size, info.compress_type, info.CRC, mark)
    refused = refusal_of(info) or (
        Refusal("unsafe_member", "it shares bytes with another member") if overlaps else None
    )
    return SourceFile(info.orig_filename, info.file_size, f"{info.CRC:08x}", member, refused)


def refusal_of(info: zipfile.ZipInfo) -> Refusal | None:
    """Return why a member may not be read, by what the directory of the zip says of it; None if it may."""
    unsafe = _unsafe(info.orig_filename)
    if unsafe:
        return Refusal("unsafe_member", unsafe)
    if info.create_system == 3 and stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):  # 3: Unix
        return Refusal("unsafe_member", "it is a link or device, no file")
    if info.flag_bits & 0x41:  # encrypted, strongly encrypted: APPNOTE.TXT 4.4.4
        return Refusal("encrypted_member", "it is encrypted; zip it again without a password")
    if info.compress_type not in METHODS:
        detail = f"compression method {info.compress_type}; stored (0) and deflated (8) members are read"
        return Refusal("unsupported_member", detail)
    if info.file_size > MOST_BYTES:
        return Refusal("oversized_member", f"{info.file_size} bytes when inflated; at most {MOST_BYTES} are")
    if info.compress_size > 2 * info.file_size + LOCAL_HEADER_BYTES:
        return Refusal("oversized_member", f"{info.compress_size} compressed bytes for {info.file_size}")
    if info.file_size > RATIO_FROM_BYTES and info.file_size > MOST_RATIO * info.compress_size:
        return Refusal("oversized_member", f"{info.compress_size} bytes would inflate to {info.file_size}")
    return None


def _unsafe(name: str) -> str:
    """Return what is wrong with a member's name; empty if nothing is."""
    if name.startswith("/") or _DRIVE.match(name):
        return "an absolute name"
    if "\\" in name or "\0" in name:
        return "a backslash or zero byte in the name; zip it again with a tool that writes slashes"
    if ".." in name.split("/") or posixpath.normpath(name) != name:
        return "a name with empty, `.` or `..` parts"
    return ""


def _overlapping(members: list[zipfile.ZipInfo], end: int) -> NDArray[np.bool_]:
    """Tell which members reach into the next one, or past `end`, where the directory begins; shape (members,), bool."""
    starts = np.array([min(info.header_offset, end) for info in members], np.int64)  # a lie may exceed 64 bits
    lengths = np.array([LOCAL_HEADER_BYTES + min(info.compress_size, end) for info in members], np.int64)
    order = np.argsort(starts, kind="stable")
    following = np.append(starts[order][1:], end)
    overlapping = np.zeros(len(members), bool)
    overlapping[order] = (starts + lengths)[order] > following
    return overlapping
