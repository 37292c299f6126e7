"""A listed file of a corpus: its name, change mark and place, and what its name tells of kind and ids."""

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
    "manifest": (),  # the table says
    "idx": tuple(f"images{mark}idx3-ubyte{packed}" for mark in "-." for packed in ("", ".gz")),
    "word_indices": (".npz",),
}
"""Endings of the files that count, in lower case; none: every file does."""

STRIPPED_ENDINGS = frozenset({".dcm", ".dicom", ".dic", ".ima"}) | PICTURE_ENDINGS
"""Endings that are no part of an id. Others stay: UIDs used as names have dots in them."""

PACKED_ENDINGS = frozenset({".gz", ".npz"})
"""The same for `idx` and `word_indices`."""

SPLIT_FOLDERS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


class Member(NamedTuple):
    """Where a member of a zip lies: enough to read it in one piece without the zip's directory."""

    header_offset: int
    compressed_bytes: int
    method: int  # 0 stored, 8 deflated
    crc: int
    archive_mark: str  # of the zip itself: tells a zip that was replaced from one that is damaged


class Refusal(NamedTuple):
    """Why a listed file is not read: it becomes a reject of its unit."""

    code: str  # see hemo.imaging.image.REASONS
    detail: str  # without identifiers


class Given(NamedTuple):
    """What a table of the user's own says of a file; it goes before what header and folders say. None: not said."""

    image_id: str | None = None
    patient: str | None = None
    study: str | None = None
    series: str | None = None
    source_class: str | None = None
    source_split: str | None = None


class SourceFile(NamedTuple):
    """One file of a corpus. A tuple: a corpus has some 750,000 of them."""

    path: str  # relative to the source, with slashes; in a table of the user's own also absolute
    size_bytes: int
    mark: str  # changes when the file does: mtime in ns on a disk, ETag on a bucket, CRC in a zip
    member: Member | None = None
    refused: Refusal | None = None
    given: Given | None = None
    labels: "SourceFile | None" = None  # file beside it with the class of each of its images


@dataclass(frozen=True)
class Listing:
    """The files a corpus consists of, sorted by path."""

    files: tuple[SourceFile, ...]
    ignored: int  # files beside them that are no part of such a corpus
    unused_columns: tuple[str, ...] = ()  # of a table of the user's own


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
    """Tell whether a file is part of such a corpus, by its ending; `._NAME`, which macOS puts beside NAME, never is."""
    endings = ENDINGS[corpus]
    name = path[path.rfind("/") + 1 :].lower()
    counts = not endings or (name.endswith(endings) and name not in endings)
    return counts and not path.startswith("._") and "/._" not in path


def image_stem(path: str, corpus: Corpus) -> str:
    """Return what names a file's images: the stem for `rsna`, else the relative path without its ending."""
    ending = ending_of(path)
    stripped = PACKED_ENDINGS if corpus in ("idx", "word_indices") else STRIPPED_ENDINGS
    named = path[: -len(ending)] if ending in stripped else path
    return named[named.rfind("/") + 1 :] if corpus == "rsna" else named


def class_and_split(path: str) -> tuple[str | None, str | None]:
    """Return class and split of `split/CLASS/name.jpeg` or `CLASS/name.jpeg`, each None where there is none."""
    folders = PurePosixPath(path).parts[:-1]
    return (folders[-1] if folders else None), (folders[-2] if len(folders) > 1 else None)


def split_in_name(path: str) -> str | None:
    """Return `train` or `test`, as the published names of IDX files say it; `t10k` is MNIST's word for test."""
    match = re.search(r"(?:^|[-_.])(train|test|t10k)[-_.]", PurePosixPath(path).name.lower())
    return None if match is None else {"t10k": "test"}.get(match[1], match[1])


def patient_in_name(path: str, pattern: str) -> str | None:
    """Return the first group of `pattern` that matches in the file's name, or None."""
    match = re.search(pattern, PurePosixPath(path).name)
    return next((group for group in match.groups() if group), None) if match else None
