"""A bucket, or any other place that fsspec reaches, as a corpus: list it, read many objects at once."""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import fsspec

from hemo.corpus.source_file import SourceFile
from hemo.errors import SourceChangedError, SourceError, StorageError
from hemo.storage import filesystem


def list_bucket(source: str) -> Iterator[SourceFile]:
    """Yield every object below a URI.

    Raises:
        SourceError: If the storage cannot be reached, or refuses to list them.
    """
    fs, path = filesystem(source)
    root = path.rstrip("/") + "/"
    try:
        found = fs.find(path, detail=True)
    except FileNotFoundError:
        return
    except Exception as error:  # every storage has errors of its own: no credentials, no such host, ...
        raise unreachable(source, error) from error
    for name, entry in found.items():
        if entry["type"] == "file" and not name.endswith("/"):  # some tools make empty objects to stand for folders
            yield SourceFile(name.removeprefix(root), int(entry["size"] or 0), mark_of(entry))


def mark_of(entry: Mapping[str, Any]) -> str:
    """Return what changes when an object does, of what fsspec says of it: its ETag, else its time."""
    known = (entry.get(name) for name in ("ETag", "etag", "mtime", "LastModified", "created"))
    return str(next((mark for mark in known if mark), "")).strip('"')


def unreachable(source: str, error: Exception) -> SourceError:
    """Return the error that tells the user that a storage did not answer."""
    said = " ".join(str(error).split()) or type(error).__name__
    return SourceError(
        f"source: {source} cannot be listed ({said}); for s3:// AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY in the environment say where and as whom"
    )


def read_objects(places: Sequence[str], files: Sequence[SourceFile]) -> list[bytes]:
    """Return the bytes of listed objects, all requested at once.

    Other bytes of the same length are not noticed here: the mark tells the next run, which converts the unit again.

    Args:
        places: URI of each, all of one filesystem.
        files: What the listing said of each.

    Raises:
        SourceChangedError: If the size of one is not what was listed.
        OSError: If one is gone or cannot be read.
    """
    located = [filesystem(place) for place in places]
    # a byte more than listed, so that one that has grown is noticed; a range, so that no request asks for the size
    ranges = [(0, file.size_bytes + 1) for file in files]
    answers = read_ranges(located[0][0], [path for _, path in located], ranges)
    for file, answer in zip(files, answers, strict=True):
        if len(answer) != file.size_bytes:
            raise SourceChangedError(f"{file.path} changed after the corpus was listed; run again: it is listed anew")
    return answers


def read_ranges(fs: fsspec.AbstractFileSystem, paths: Sequence[str], ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Return byte ranges of files of one filesystem, all requested at once; each ends early where its file does.

    Raises:
        OSError: If one cannot be read; a StorageError where the filesystem raised something of its own.
    """
    answers = fs.cat_ranges(list(paths), [start for start, _ in ranges], [end for _, end in ranges])
    return [_bytes_of(answer, path) for answer, path in zip(answers, paths, strict=True)]


def _bytes_of(answer: bytes | Exception, path: str) -> bytes:
    if not isinstance(answer, Exception):
        return bytes(answer)
    if not isinstance(answer, OSError):
        raise StorageError(f"{type(answer).__name__}: {answer}") from answer
    for kind, number in ((FileNotFoundError, errno.ENOENT), (PermissionError, errno.EACCES)):
        if isinstance(answer, kind):
            raise kind(number, os.strerror(number), path) from answer
    if answer.errno == errno.EINVAL and "range" in str(answer).lower():  # 416: an empty object has none
        return b""
    raise answer
