"""List the files of a corpus and read them, from a folder, a zip, a bucket or a user's manifest."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from fsspec.core import split_protocol

from hemo.config.convert import MEDIA, Corpus, Media
from hemo.corpus.files import list_bucket, list_folder, read_from_folder, read_objects
from hemo.corpus.source_file import ENDINGS, Listing, SourceFile, belongs, first_clash, image_stem
from hemo.corpus.user_manifest import list_table, location_in_table, media_of_table
from hemo.corpus.zip import is_archive, list_archive, read_members
from hemo.errors import SliceError, SourceError
from hemo.job_log import is_job_log
from hemo.storage import filesystem, is_local, join


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
    every_file = [file for file in _every_file(source) if not is_job_log(file.path)]
    files = [file for file in every_file if belongs(file.path, corpus)]
    files.sort(key=lambda file: file.path)
    if not every_file:
        raise SourceError(f"source: {source} is empty; give the folder, zip or bucket of the corpus")
    if not files:
        endings = " or ".join(sorted(ENDINGS[corpus])) or "such"
        raise SourceError(
            f"source: {source} holds no {endings} files ({len(every_file)} others); is --corpus {corpus} right?"
        )
    _require_distinct(source, corpus, files)
    return Listing(tuple(files), len(every_file) - len(files))


def read_files(source: str, files: Sequence[SourceFile]) -> list[bytes | SliceError]:
    """Return the bytes of some files of a corpus, in order; an error in the place of a refused or damaged file.

    From a bucket all are requested at once.

    Raises:
        SourceChangedError: If one has changed since it was listed.
        OSError: As storage raises it. A temporary error must not become a reject.
    """
    readable = [file for file in files if file.refused is None]
    members = [file for file in readable if file.member is not None]
    read = iter(read_members(source, members) if members else _read_in_place(source, readable))
    return [next(read) if file.refused is None else SliceError(*file.refused) for file in files]


def media_of(source: str, corpus: Corpus) -> Media:
    """Return what the files of a corpus are; for `manifest` the endings of the paths in it decide.

    Raises:
        SourceError: If that table cannot be read, or names both DICOM and pictures.
    """
    return media_of_table(source) if corpus == "manifest" else MEDIA[corpus]


def _every_file(source: str) -> Iterable[SourceFile]:
    if not is_local(source):
        return list_archive(source) if is_archive(source) else list_bucket(source)
    fs, path = filesystem(source)
    if fs.isdir(path):
        return list_folder(path)
    if is_archive(source):
        return list_archive(source)
    what = "is no folder and no .zip" if fs.exists(path) else "does not exist"
    raise SourceError(f"source: {source} {what}; give the folder or zip of the corpus")


def _read_in_place(source: str, files: Sequence[SourceFile]) -> list[bytes | SliceError]:
    """Read files that are not in a zip; those of a manifest may be on several storages."""
    read: list[bytes | SliceError] = []
    located = [(_location(source, file), file) for file in files]
    for protocol, group in groupby(located, key=lambda pair: split_protocol(pair[0])[0]):
        alike = list(group)
        if protocol is None:
            read += [read_from_folder(location, file) for location, file in alike]
        else:
            read += read_objects([location for location, _ in alike], [file for _, file in alike])
    return read


def _location(source: str, file: SourceFile) -> str:
    return join(source, file.path) if file.manifest_row is None else location_in_table(source, file.path)


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
