"""Zips made for tests, whole and hostile."""

import io
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path


def zip_of(entries: Iterable[tuple[str | zipfile.ZipInfo, bytes]], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip of these members, in order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data, compress_type=method)
    return buffer.getvalue()


def zip_folder(folder: Path, archive: Path, *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a folder's files to a zip, under their relative paths, and return it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    archive.write_bytes(
        zip_of(((path.relative_to(folder).as_posix(), path.read_bytes()) for path in files), method=method)
    )
    return archive


def link(name: str) -> zipfile.ZipInfo:
    """Return the entry of a symbolic link made on Unix."""
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def changed_entry(data: bytes, at: int, new: bytes, *, entry: int = 0) -> bytes:
    """Return a zip with bytes of one directory entry replaced, `at` bytes behind the entry's beginning."""
    place = -1
    for _ in range(entry + 1):
        place = data.index(b"PK\1\2", place + 1)
    return data[: place + at] + new + data[place + at + len(new) :]
