"""What the path of a file says: the id of its images, their class, split and patient."""

import re
from pathlib import PurePosixPath

from hemo.corpus.listing import Corpus

PICTURE_ENDINGS = frozenset({".jpeg", ".jpg", ".png"})

ENDINGS: dict[Corpus, frozenset[str]] = {
    "rsna": frozenset({".dcm"}),
    "dicom": frozenset(),  # any file: scanners export names without ending
    "image_folder": PICTURE_ENDINGS,
    "manifest": frozenset(),  # the table says
}
"""Endings of the files that count, in lower case; none: every file does."""

STRIPPED_ENDINGS = frozenset({".dcm", ".dicom", ".dic", ".ima"}) | PICTURE_ENDINGS
"""Endings that are no part of an id. Others stay: UIDs used as names have dots in them."""

SPLIT_FOLDERS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


def ending_of(path: str) -> str:
    """Return the ending of a file's name with its dot, in lower case; empty if it has none, as for `.hidden`."""
    name = path[path.rfind("/") + 1 :]
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""


def belongs(path: str, corpus: Corpus) -> bool:
    """Tell whether a file is part of such a corpus, by its ending; `._NAME`, which macOS puts beside NAME, never is."""
    endings = ENDINGS[corpus]
    return (not endings or ending_of(path) in endings) and not path.startswith("._") and "/._" not in path


def image_stem(path: str, corpus: Corpus) -> str:
    """Return what names a file's images: the stem for `rsna`, else the relative path without its ending."""
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
    return next((group for group in match.groups() if group), None) if match else None
