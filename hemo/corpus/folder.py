"""A folder tree as a corpus: list it, read its files."""

import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISREG

from hemo.corpus.source_file import SourceFile
from hemo.errors import SourceChangedError, SourceError


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
