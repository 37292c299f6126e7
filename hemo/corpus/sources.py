"""Which files a corpus consists of, and what their paths say."""

import os
import re
from collections.abc import Iterator, Sequence
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
        source: Folder or URI. Links are followed.
        corpus: Decides which file endings count; for `dicom` every file does.

    Raises:
        SourceError: If the folder is missing, cannot be read, holds no such files, a link to nothing or a name that is
            no text, or two files whose images would have the same id.
    """
    fs, path = filesystem(source)
    if not fs.isdir(path):
        raise SourceError(f"source: {source} is no folder; give the folder the corpus was unpacked to")
    found = list(_walk_disk(path) if is_local(source) else _walk_store(source))
    endings = ENDINGS[corpus]
    files = sorted(file for file in found if not endings or PurePosixPath(file.path).suffix.lower() in endings)
    if not found:
        raise SourceError(f"source: {source} is empty; give the folder the corpus was unpacked to")
    if not files:
        wanted = " or ".join(sorted(endings))
        raise SourceError(
            f"source: {source} holds no {wanted} files ({len(found)} others); is --corpus {corpus} right?"
        )
    _require_distinct_stems(source, corpus, files)
    return Listing(tuple(files), len(found) - len(files))


def _require_distinct_stems(source: str, corpus: Corpus, files: Sequence[SourceFile]) -> None:
    """Refuse two files that would give one `image_id`, before hours are spent on them."""
    first: dict[str, str] = {}
    for file in files:
        stem = image_stem(file.path, corpus)
        if stem in first:
            raise SourceError(
                f"source: {source}: {first[stem]} and {file.path} would both be image {stem}; "
                "remove one of them, or convert their folders apart"
            )
        first[stem] = file.path


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


SPLIT_FOLDERS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


def class_and_split(path: str) -> tuple[str | None, str | None]:
    """Return class and split of `split/CLASS/name.jpeg` or `CLASS/name.jpeg`, each None where there is none."""
    folders = PurePosixPath(path).parts[:-1]
    return (folders[-1] if folders else None), (folders[-2] if len(folders) > 1 else None)


def patient_in_name(path: str, pattern: str) -> str | None:
    """Return the first group of `pattern` that matches in the file's name, or None."""
    match = re.search(pattern, PurePosixPath(path).name)
    return next((group for group in match.groups() if group), None) if match else None


def _walk_disk(root: str) -> Iterator[SourceFile]:
    """Yield every file below a folder, through links as well; a folder that is reached twice is walked once."""
    folders, seen = [root], set()
    while folders:
        folder = folders.pop()
        identity = (status := Path(folder).stat()).st_dev, status.st_ino
        if identity in seen:
            continue
        seen.add(identity)
        try:
            entries = sorted(((entry, entry.is_dir()) for entry in os.scandir(folder)), key=lambda pair: pair[0].name)
        except OSError as error:
            raise SourceError(f"source: {folder} cannot be read ({error.strerror}); grant access or move it") from error
        for entry, is_folder in entries:
            if is_folder:
                folders.append(entry.path)
            else:
                yield _source_file(entry, root)


def _source_file(entry: "os.DirEntry[str]", root: str) -> SourceFile:
    try:
        relative = os.path.relpath(entry.path, root).replace(os.sep, "/")
        relative.encode()
        status = entry.stat()
    except UnicodeEncodeError:
        raise SourceError(f"source: {os.fsencode(entry.path)!r} is no UTF-8 name; rename the file") from None
    except OSError as error:
        raise SourceError(f"source: {entry.path}: {error.strerror}; mend the link or remove it") from error
    return SourceFile(relative, status.st_size, str(status.st_mtime_ns))


def _walk_store(source: str) -> Iterator[SourceFile]:
    fs, path = filesystem(source)
    root = path.rstrip("/") + "/"
    for name, entry in fs.find(path, detail=True).items():
        mark = entry.get("ETag") or entry.get("etag") or entry.get("mtime") or entry.get("LastModified") or ""
        yield SourceFile(name.removeprefix(root), int(entry.get("size") or 0), str(mark))
