"""A file in the listing of a corpus, and the class, split, patient and image id that follow from its path."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from hemo.config.convert import Corpus

PICTURE_ENDINGS = frozenset({".jpeg", ".jpg", ".png"})

ENDINGS: dict[Corpus, tuple[str, ...]] = {
    "rsna": (".dcm",),
    "dicom": (),  # any file: scanners export names without ending
    "image_folder": tuple(sorted(PICTURE_ENDINGS)),
    "manifest": (),  # the table lists them
}
"""Endings of the files that count, in lower case; none: every file does."""

STRIPPED_ENDINGS = frozenset({".dcm", ".dicom", ".dic", ".ima"}) | PICTURE_ENDINGS
"""Endings that are no part of an id. Others stay: UIDs used as names have dots in them."""

SPLIT_FOLDERS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


class Member(NamedTuple):
    """Position of a zip member: enough to read it in one piece without the zip's directory."""

    header_offset: int
    compressed_bytes: int
    method: int  # 0 stored, 8 deflated
    crc: int
    archive_mark: str  # of the zip itself: distinguishes a replaced zip from a damaged one


class Refusal(NamedTuple):
    """Why a listed file is not read: it becomes a reject of its unit."""

    code: str  # see hemo.imaging.image.REASONS
    detail: str  # without identifiers


class ManifestRow(NamedTuple):
    """The columns of a user's manifest for one file; they take precedence over header and folders. None: empty."""

    image_id: str | None = None
    patient: str | None = None
    study: str | None = None
    series: str | None = None
    source_class: str | None = None
    source_split: str | None = None


class SourceFile(NamedTuple):
    """One file of a corpus. A tuple: a corpus has some 750,000 of them."""

    path: str  # relative to the source, with slashes; in a user's manifest also absolute or a URI
    size_bytes: int
    mark: str  # changes when the file does: mtime in ns on a disk, ETag on a bucket, CRC in a zip
    member: Member | None = None
    refused: Refusal | None = None
    manifest_row: ManifestRow | None = None


@dataclass(frozen=True)
class Listing:
    """The files a corpus consists of, sorted by path."""

    files: tuple[SourceFile, ...]
    ignored: int  # other files of the source, not part of such a corpus
    unused_columns: tuple[str, ...] = ()  # of a user's manifest
    table_sha256: str = ""  # of a user's manifest


def ending_of(path: str) -> str:
    """Return the ending of a file's name with its dot, in lower case; empty if it has none, as for `.hidden`."""
    name = path[path.rfind("/") + 1 :]
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""


def first_clash(names: Iterable[str]) -> tuple[int, int] | None:
    """Return the positions of the first name that occurs again, and of its second occurrence; None if all differ."""
    first: dict[str, int] = {}
    for position, name in enumerate(names):
        if first.setdefault(name, position) != position:
            return first[name], position
    return None


def belongs(path: str, corpus: Corpus) -> bool:
    """Return whether a file is part of such a corpus, by its ending; `._NAME` files of macOS never are."""
    endings = ENDINGS[corpus]
    name = path[path.rfind("/") + 1 :].lower()
    counts = not endings or (name.endswith(endings) and name not in endings)
    return counts and not path.startswith("._") and "/._" not in path


def image_stem(path: str, corpus: Corpus) -> str:
    """Return the image id that follows from a path: the stem for `rsna`, else the relative path without its ending."""
    ending = ending_of(path)
    named = path[: -len(ending)] if ending in STRIPPED_ENDINGS else path
    return named[named.rfind("/") + 1 :] if corpus == "rsna" else named


def class_and_split(path: str) -> tuple[str | None, str | None]:
    """Return class and split of `split/CLASS/name.jpeg` or `CLASS/name.jpeg`, each None where there is none."""
    folders = PurePosixPath(path).parts[:-1]
    return (folders[-1] if folders else None), (folders[-2] if len(folders) > 1 else None)


def patient_in_name(path: str, pattern: str) -> str | None:
    """Return the first group of `pattern` that matches in the file's name, or None."""
    match = re.search(pattern, PurePosixPath(path).name)
    return next((group for group in match.groups() if group and group.strip()), None) if match else None
