"""List and read the files of a folder or a bucket."""

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
    """Yield every file below a folder, following links; a folder that is reached twice is listed once.

    Links are followed last, so that a folder is listed by its own name rather than by that of a link to it.

    Raises:
        SourceError: On a folder that cannot be read, a broken link, a name that is not UTF-8, or a device or pipe.
    """
    folders, links, seen = [root], list[str](), set()
    while folders or links:
        folder = (folders or links).pop()
        try:
            identity = (status := Path(folder).stat()).st_dev, status.st_ino
            if identity in seen:
                continue
            seen.add(identity)
            with os.scandir(folder) as entries:
                inner, linked, files = _split(entries, len(root.rstrip("/")) + 1)
        except OSError as error:
            raise SourceError(f"source: {folder} cannot be read ({error.strerror}); grant access or move it") from error
        folders += sorted(inner)
        links += sorted(linked)
        yield from files


def file_on_disk(location: str, path: str) -> SourceFile:
    """Return the entry of one file in a listing.

    Args:
        location: Its path on the disk.
        path: Its path in the corpus.

    Raises:
        SourceError: If it is missing, no file, or its name is not UTF-8.
    """
    try:
        path.encode()
        status = os.stat(location)  # noqa: PTH116 (a Path for each of 750,000 files costs seconds)
    except UnicodeEncodeError:
        raise SourceError(f"source: {os.fsencode(location)!r} is no UTF-8 name; rename the file") from None
    except ValueError:
        raise SourceError(f"source: {location!r} has a zero byte in it, which no file name can have") from None
    except OSError as error:
        raise SourceError(f"source: {location}: {error.strerror}; repair the link or remove it") from error
    if not S_ISREG(status.st_mode):
        raise SourceError(f"source: {location} is a folder, device or pipe, not a file; leave it out")
    return SourceFile(path, status.st_size, str(status.st_mtime_ns))


def read_from_folder(location: str, file: SourceFile) -> bytes:
    """Return the bytes of a listed file.

    Args:
        location: Its path on the disk.
        file: Its entry in the listing.

    Raises:
        SourceChangedError: If its size or modification time differs from the listing.
        OSError: If it is gone or cannot be read.
    """
    with open(location, "rb", buffering=0) as opened:  # noqa: PTH123 (as above)
        data = opened.read()
        status = os.fstat(opened.fileno())  # after reading: a change before or meanwhile shows in it
    if (len(data), str(status.st_mtime_ns)) != (file.size_bytes, file.mark):
        raise SourceChangedError(f"{file.path} changed after the corpus was listed; run again to list it again")
    return data


def _split(entries: Iterator["os.DirEntry[str]"], prefix: int) -> tuple[list[str], list[str], list[SourceFile]]:
    """Return folders, links to folders and files of a folder; the first `prefix` characters of a path are the root."""
    folders, links, files = list[str](), list[str](), list[SourceFile]()
    for entry in entries:
        if entry.is_dir():
            (links if entry.is_symlink() else folders).append(entry.path)
        else:
            files.append(file_on_disk(entry.path, entry.path[prefix:]))
    return folders, links, files


def list_bucket(source: str) -> Iterator[SourceFile]:
    """Yield every object below a URI.

    Raises:
        SourceError: If the storage cannot be reached, or refuses to list them.
    """
    fs, path = filesystem(source)
    root = path.rstrip("/") + "/"
    try:
        entries = fs.find(path, detail=True)
    except FileNotFoundError:
        return
    except Exception as error:  # each storage raises errors of its own: no credentials, no such host, ...
        raise unreachable(source, error) from error
    for name, entry in entries.items():
        if entry["type"] == "file" and not name.endswith("/"):  # some tools store folders as empty objects
            yield SourceFile(name.removeprefix(root), int(entry["size"] or 0), mark_of(entry))


def mark_of(entry: Mapping[str, Any]) -> str:
    """Return the change mark of an object from fsspec's description of it: its ETag, else its time."""
    known = (entry.get(name) for name in ("ETag", "etag", "mtime", "LastModified", "created"))
    return str(next((mark for mark in known if mark), "")).strip('"')


def unreachable(source: str, error: Exception) -> SourceError:
    """Return the error for a storage that cannot be listed."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return SourceError(
        f"source: {source} cannot be listed ({reason}); for s3:// AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY in the environment give host and credentials"
    )


def read_objects(locations: Sequence[str], files: Sequence[SourceFile]) -> list[bytes]:
    """Return the bytes of listed objects, all requested at once.

    Changed bytes of the same length are not detected here, but by the change mark in the next run.

    Args:
        locations: URI of each, all of one filesystem.
        files: The entry of each in the listing.

    Raises:
        SourceChangedError: If the size of one differs from the listing.
        OSError: If one is gone or cannot be read.
    """
    located = [filesystem(location) for location in locations]
    # a byte more than listed, so that a larger object is detected; a range, so that fsspec does not request the size
    ranges = [(0, file.size_bytes + 1) for file in files]
    answers = read_ranges(located[0][0], [path for _, path in located], ranges)
    for file, answer in zip(files, answers, strict=True):
        if len(answer) != file.size_bytes:
            raise SourceChangedError(f"{file.path} changed after the corpus was listed; run again to list it again")
    return answers


def read_ranges(fs: fsspec.AbstractFileSystem, paths: Sequence[str], ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Return byte ranges of files of one filesystem, all requested at once; each ends early where its file does.

    Raises:
        OSError: If one cannot be read; a StorageError where the filesystem raised another exception.
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
