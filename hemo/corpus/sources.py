"""The files of a corpus, wherever they lie: list them, read their bytes."""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from fsspec.core import split_protocol

from hemo.config.convert import MEDIA, Corpus, Media
from hemo.corpus.files import list_bucket, list_folder, read_from_folder, read_objects
from hemo.corpus.source_file import ENDINGS, Listing, SourceFile, belongs, first_clash, image_stem
from hemo.corpus.user_manifest import list_table, location_in_table, media_of_table
from hemo.corpus.zip import is_archive, list_archive, read_members
from hemo.errors import SliceError, SourceError
from hemo.storage import filesystem, is_local, join

_IMAGES = re.compile(r"images([-.])idx3-ubyte(?:\.gz)?$", re.IGNORECASE)


def list_corpus(source: str, corpus: Corpus) -> Listing:
    """List a corpus.

    Args:
        source: Folder, zip or URI; for `manifest` a table. Links are followed.
        corpus: Decides which file endings count; for `dicom` every file does.

    Raises:
        SourceError: If the source is missing, cannot be read, holds no such files, a link to nothing or a name that is
            no text, or two files of one name or whose images would have the same id.
    """
    if corpus == "manifest":
        return list_table(source)
    found = list(_found(source))
    files = [file for file in found if belongs(file.path, corpus)]
    files.sort(key=lambda file: file.path)
    if not found:
        raise SourceError(f"source: {source} is empty; give the folder, zip or bucket of the corpus")
    if not files:
        wanted = " or ".join(sorted(ENDINGS[corpus])) or "such"
        raise SourceError(
            f"source: {source} holds no {wanted} files ({len(found)} others); is --corpus {corpus} right?"
        )
    _require_distinct(source, corpus, files)
    if corpus == "idx":
        files = with_labels(files, found)
    used = len(files) + sum(file.labels is not None for file in files)
    return Listing(tuple(files), len(found) - used)


def read_files(source: str, files: Sequence[SourceFile]) -> list[bytes | SliceError]:
    """Return some files of a corpus, each whole, in order; in the place of one that is refused or damaged, why.

    From a bucket all are requested at once.

    Raises:
        SourceChangedError: If one is not what was listed.
        OSError: As storage raises it. A passing fault must not become a reject.
    """
    readable = [file for file in files if file.refused is None]
    members = [file for file in readable if file.member is not None]
    read = iter(read_members(source, members) if members else _read_places(source, readable))
    return [next(read) if file.refused is None else SliceError(*file.refused) for file in files]


def media_of(source: str, corpus: Corpus) -> Media:
    """Return what the files of a corpus are; for `manifest` the table says, by the endings of the names in it.

    Raises:
        SourceError: If that table cannot be read, or names both DICOM and pictures.
    """
    return media_of_table(source) if corpus == "manifest" else MEDIA[corpus]


def _found(source: str) -> Iterable[SourceFile]:
    if not is_local(source):
        return list_archive(source) if is_archive(source) else list_bucket(source)
    fs, path = filesystem(source)
    if fs.isdir(path):
        return list_folder(path)
    if is_archive(source):
        return list_archive(source)
    what = "is no folder and no .zip" if fs.exists(path) else "does not exist"
    raise SourceError(f"source: {source} {what}; give the folder or zip of the corpus")


def _read_places(source: str, files: Sequence[SourceFile]) -> list[bytes | SliceError]:
    """Return files that lie by themselves; a table may name them in several places."""
    read: list[bytes | SliceError] = []
    placed = [(_place_of(source, file), file) for file in files]
    for protocol, group in groupby(placed, key=lambda pair: split_protocol(pair[0])[0]):
        alike = list(group)
        if protocol is None:
            read += [read_from_folder(place, file) for place, file in alike]
        else:
            read += read_objects([place for place, _ in alike], [file for _, file in alike])
    return read


def _place_of(source: str, file: SourceFile) -> str:
    return join(source, file.path) if file.given is None else location_in_table(source, file.path)


def _require_distinct(source: str, corpus: Corpus, files: Sequence[SourceFile]) -> None:
    """Refuse two files that would give one `image_id`, before hours are spent on them."""
    if clash := first_clash(file.path for file in files):
        raise SourceError(f"source: {source} holds {files[clash[0]].path} twice; zip it again")
    read = [file.path for file in files if file.refused is None]
    if clash := first_clash(image_stem(path, corpus) for path in read):
        one, other = (read[position] for position in clash)
        raise SourceError(
            f"source: {source}: {one} and {other} would both be image {image_stem(one, corpus)}; "
            "remove one of them, or convert their folders apart"
        )


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
