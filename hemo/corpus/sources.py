"""Which files a corpus consists of, and what their paths say."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from hemo.errors import SourceError
from hemo.storage import filesystem, is_local

Corpus = Literal["rsna", "dicom", "image_folder"]

ENDINGS: dict[str, frozenset[str]] = {
    "rsna": frozenset({".dcm"}),
    "dicom": frozenset(),  # any file: scanners export names without ending
    "image_folder": frozenset({".jpeg", ".jpg", ".png"}),
}
STRIPPED_ENDINGS = frozenset({".dcm", ".dicom", ".dic", ".ima", ".jpeg", ".jpg", ".png"})
"""Endings that are no part of an id. Others stay: UIDs used as names have dots in them."""


@dataclass(frozen=True, slots=True, order=True)
class SourceFile:
    """One file of a corpus."""

    path: str  # relative to the source, with slashes
    size_bytes: int
    mark: str  # changes when the file does: mtime in ns on a disk, ETag on a bucket


@dataclass(frozen=True)
class Listing:
    """The files a corpus consists of, sorted by path."""

    files: tuple[SourceFile, ...]
    ignored: int  # files beside them that are no part of such a corpus


def list_corpus(source: str, corpus: Corpus) -> Listing:
    """List a corpus.

    Args:
        source: Folder or URI.
        corpus: Decides which file endings count; for `dicom` every file does.

    Raises:
        SourceError: If the folder is missing, cannot be read, or holds no such files.
    """
    fs, path = filesystem(source)
    if not fs.isdir(path):
        raise SourceError(f"source: {source} is no folder; give the folder the corpus was unpacked to")
    found = list(_walk_disk(path) if is_local(source) else _walk_store(source))
    endings = ENDINGS[corpus]
    files = sorted(file for file in found if not endings or PurePosixPath(file.path).suffix.lower() in endings)
    if not files:
        wanted = " or ".join(sorted(endings)) or "any"
        raise SourceError(
            f"source: {source} holds no {wanted} files ({len(found)} others); is --corpus {corpus} right?"
        )
    return Listing(tuple(files), len(found) - len(files))


def read_file(source: str, path: str) -> bytes:
    """Return one file of a corpus, whole.

    Raises:
        OSError: As storage raises it. A passing fault must not become a reject.
    """
    if is_local(source):
        return Path(source, path).read_bytes()
    fs, root = filesystem(source)
    return bytes(fs.cat_file(f"{root.rstrip('/')}/{path}"))


def image_stem(path: str, corpus: Corpus) -> str:
    """Return what names a file's images: the stem for `rsna`, else the relative path without its ending."""
    pure = PurePosixPath(path)
    named = pure.with_suffix("") if pure.suffix.lower() in STRIPPED_ENDINGS else pure
    return named.name if corpus == "rsna" else str(named)


def class_and_split(path: str) -> tuple[str | None, str | None]:
    """Return class and split of `split/CLASS/name.jpeg` or `CLASS/name.jpeg`, each None where there is none."""
    folders = PurePosixPath(path).parts[:-1]
    return (folders[-1] if folders else None), (folders[-2] if len(folders) > 1 else None)


def patient_in_name(path: str, pattern: str) -> str | None:
    """Return the first group of `pattern` that matches in the file's name, or None."""
    match = re.search(pattern, PurePosixPath(path).name)
    return next((group for group in match.groups() if group), None) if match else None


def _walk_disk(root: str) -> Iterator[SourceFile]:
    """Yield every file below a folder. Links to folders are not followed: they may lead in circles."""
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            raise SourceError(
                f"source: {folder} cannot be read ({error.strerror}); grant access or move it away"
            ) from error
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_file():
                status = entry.stat()
                relative = os.path.relpath(entry.path, root).replace(os.sep, "/")
                yield SourceFile(relative, status.st_size, str(status.st_mtime_ns))


def _walk_store(source: str) -> Iterator[SourceFile]:
    fs, path = filesystem(source)
    root = path.rstrip("/") + "/"
    for name, entry in fs.find(path, detail=True).items():
        mark = entry.get("ETag") or entry.get("etag") or entry.get("mtime") or entry.get("LastModified") or ""
        yield SourceFile(name.removeprefix(root), int(entry.get("size") or 0), str(mark))
