"""Which files a corpus consists of, and their bytes."""

from collections.abc import Iterator, Sequence

from hemo.corpus.folder import list_folder, read_from_folder
from hemo.corpus.listing import Corpus, Listing, SourceFile
from hemo.corpus.names import ENDINGS, ending_of, image_stem
from hemo.errors import SliceError, SourceError
from hemo.storage import filesystem, is_local, join


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
    found = list(list_folder(path) if is_local(source) else _walk_store(source))
    endings = ENDINGS[corpus]
    files = [file for file in found if not endings or ending_of(file.path) in endings]
    files.sort(key=lambda file: file.path)
    if not found:
        raise SourceError(f"source: {source} is empty; give the folder the corpus was unpacked to")
    if not files:
        wanted = " or ".join(sorted(endings))
        raise SourceError(
            f"source: {source} holds no {wanted} files ({len(found)} others); is --corpus {corpus} right?"
        )
    _require_distinct_stems(source, corpus, files)
    return Listing(tuple(files), len(found) - len(files))


def read_files(source: str, files: Sequence[SourceFile]) -> list[bytes | SliceError]:
    """Return some files of a corpus, each whole, in order; in the place of one that is refused or damaged, why.

    Raises:
        OSError: As storage raises it. A passing fault must not become a reject.
    """
    if is_local(source):
        return [read_from_folder(join(source, file.path), file) for file in files]
    fs, root = filesystem(source)
    return [bytes(fs.cat_file(f"{root.rstrip('/')}/{file.path}")) for file in files]


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


def _walk_store(source: str) -> Iterator[SourceFile]:
    fs, path = filesystem(source)
    root = path.rstrip("/") + "/"
    for name, entry in fs.find(path, detail=True).items():
        mark = entry.get("ETag") or entry.get("etag") or entry.get("mtime") or entry.get("LastModified") or ""
        yield SourceFile(name.removeprefix(root), int(entry.get("size") or 0), str(mark))
