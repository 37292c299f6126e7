"""IDX files as they are published: images in one file, the class of each in another beside it."""

import re
from collections.abc import Iterable, Sequence

from hemo.corpus.source_file import SourceFile

_IMAGES = re.compile(r"images([-.])idx3-ubyte(?:\.gz)?$", re.IGNORECASE)


def with_labels(images: Sequence[SourceFile], found: Iterable[SourceFile]) -> list[SourceFile]:
    """Return files of images, each with the file of its labels where that lies beside it.

    `train-images-idx3-ubyte` belongs to `train-labels-idx1-ubyte`; either may be packed, with `.gz` at its end.

    Args:
        images: Files that `hemo.corpus.source_file.belongs` to `idx`.
        found: All files of the source.
    """
    there = {file.path: file for file in found}
    return [file._replace(labels=_labels_of(file.path, there)) for file in images]


def _labels_of(path: str, there: dict[str, SourceFile]) -> SourceFile | None:
    plain = _IMAGES.sub(r"labels\1idx1-ubyte", path)
    return there.get(plain) or there.get(f"{plain}.gz")
