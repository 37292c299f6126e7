"""Folders and buckets as a corpus: list their files, read them."""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from stat import S_ISREG
from typing import Any

import fsspec

from hemo.corpus.source_file import SourceFile
from hemo.errors import SourceChangedError, SourceError, StorageError
from hemo.storage import filesystem


def list_folder(root: str) -> Iterator[SourceFile]:
    """Yield every file below a folder, through links as well; a folder that is reached twice is walked once.

    Raises:
        SourceError: On a folder that cannot be read, a link to nothing, a name that is no text, or a device or pipe.
    """
    folders, seen = [root], set()
    while folders:
        folder = folders.pop()
        try:
            identity = (status := Path(folder).stat()).st_dev, status.st_ino
            if identity in seen:
                continue
            seen.add(identity)
            with os.scandir(folder) as entries:
                inner, files = _split(entries, len(root.rstrip("/")) + 1)
        except OSError as error:
            raise SourceError(f"source: {folder} cannot be read ({error.strerror}); grant access or move it") from error
        folders += sorted(inner)
        yield from files


def file_on_disk(place: str, path: str) -> SourceFile:
    """Return what a listing says of one file.

    Args:
        place: Where it lies.
        path: What the corpus calls it.

    Raises:
        SourceError: If it is missing, no file, or its name is no text.
    """
    try:
        path.encode()
        status = os.stat(place)  # noqa: PTH116 (a Path for each of 750,000 files costs seconds)
    except UnicodeEncodeError:
        raise SourceError(f"source: {os.fsencode(place)!r} is no UTF-8 name; rename the file") from None
    except ValueError:
        raise SourceError(f"source: {place!r} has a zero byte in it; no file is called so") from None
    except OSError as error:
        raise SourceError(f"source: {place}: {error.strerror}; mend the link or remove it") from error
    if not S_ISREG(status.st_mode):
        raise SourceError(f"source: {place} is a folder, device or pipe, no file; leave it out")
    return SourceFile(path, status.st_size, str(status.st_mtime_ns))


def read_from_folder(place: str, file: SourceFile) -> bytes:
    """Return the bytes of a listed file.

    Args:
        place: Where it lies.
        file: What the listing said of it.

    Raises:
        SourceChangedError: If its size or time is not what was listed.
        OSError: If it is gone or cannot be read.
    """
    with open(place, "rb", buffering=0) as opened:  # noqa: PTH123 (as above)
        data = opened.read()
        status = os.fstat(opened.fileno())  # after reading: a change before or meanwhile shows in it
    if (len(data), str(status.st_mtime_ns)) != (file.size_bytes, file.mark):
        raise SourceChangedError(f"{file.path} changed after the corpus was listed; run again: it is listed anew")
    return data


def _split(entries: Iterator["os.DirEntry[str]"], prefix: int) -> tuple[list[str], list[SourceFile]]:
    """Return the folders and the files of one folder; `prefix` characters of each path are the root's."""
    folders, files = [], []
    for entry in entries:
        if entry.is_dir():
            folders.append(entry.path)
        else:
            files.append(file_on_disk(entry.path, entry.path[prefix:]))
    return folders, files


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
