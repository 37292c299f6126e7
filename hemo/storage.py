"""Read, write and list files by path or URI; a file is written completely or not at all.

Every location is a string that fsspec understands: a path (`/data/rsna`) or a URI (`s3://bucket/rsna`).
fsspec is imported where it is used: `import hemo.imaging.dicom.read` loads none of it.
"""

import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hemo.errors import HemoError, OutputError, SourceError, StorageError, is_disk_full

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

S3_CONNECTIONS = 64
"""Requests of one process in flight at most; botocore's own limit is 10, too few for files of half a megabyte."""

SEEN_WITHIN_S = 90.0
"""After so long at most a network disk shows what another machine wrote; an NFS mount keeps listings for up to 60 s."""

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")

_MARKS = ("mtime", "created", "ino", "LastModified", "ETag", "generation", "size")
"""What storages list of a file that differs after a write: mounted ones, S3, Google Cloud Storage."""

_NUMBERS = re.compile(r"\[\n([-+.\deE,\s]+)\]")
"""A list of numbers in indented JSON: no text in it has a line break."""

ENVIRONMENT = "env:"
"""Begins a secret's location that names an environment variable of the process, not a file."""


def absolute(location: str | os.PathLike[str]) -> str:
    """Return a URI unchanged and a path made absolute, `~` expanded, so that it is the same in every process.

    Of a chain (`zip://labels.csv::data/rsna.zip`) the last link is such a location.
    """
    text = os.fspath(location)
    chain, separator, last = text.rpartition("::")
    return f"{chain}{separator}{_absolute(last)}" if "://" in chain else _absolute(text)


def _absolute(location: str) -> str:
    from fsspec.core import split_protocol

    protocol, path = split_protocol(location)
    if protocol in (None, "file"):
        return os.path.normpath(Path(path).expanduser().absolute())
    return location.rstrip("/")


def join(location: str, *parts: str) -> str:
    """Return `location` with `parts` below it, separated by slashes."""
    return "/".join([location.rstrip("/"), *parts])


def is_local(location: str) -> bool:
    """Return whether `location` is in a mounted file system."""
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(filesystem(location)[0], LocalFileSystem)


def filesystem(location: str) -> "tuple[AbstractFileSystem, str]":
    """Return the fsspec filesystem of `location` and the path within it."""
    from fsspec.core import url_to_fs

    try:
        fs, path = url_to_fs(location, use_listings_cache=False, **_options(location))  # other processes write too
    except ImportError as error:
        raise SourceError(f"{location}: {error} (for s3://: pip install 'hemo[s3]')") from error
    except ValueError as error:
        raise SourceError(
            f"{location}: {error}; give a folder or a URI that fsspec supports, such as s3://bucket/folder"
        ) from error
    return fs, path


def _options(location: str) -> dict[str, Any]:
    """Return the fsspec options of a location."""
    from fsspec.core import split_protocol

    if split_protocol(location)[0] in ("s3", "s3a"):
        return {"config_kwargs": {"max_pool_connections": S3_CONNECTIONS}}
    return {}


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Turn the exceptions of single storages, such as those of botocore, into one of hemo.

    Raises:
        StorageError: In its place.
    """
    try:
        yield
    except (OSError, HemoError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise StorageError(f"the storage cannot be accessed ({type(error).__name__}: {reason})") from error


def exists(location: str) -> bool:
    """Return whether there is a file or folder at `location`."""
    fs, path = filesystem(location)
    with _storage_errors():
        return bool(fs.exists(path))


def read_bytes(location: str) -> bytes:
    """Return the whole file at `location`.

    Raises:
        FileNotFoundError, OSError: As the filesystem raises them.
    """
    fs, path = filesystem(location)
    with _storage_errors():
        return bytes(fs.cat_file(path))


def read_range(location: str, start: int, stop: int) -> bytes:
    """Return bytes `start` to `stop` of the file at `location`, by one request.

    Raises:
        FileNotFoundError, OSError: As the filesystem raises them.
    """
    fs, path = filesystem(location)
    with _storage_errors():
        return bytes(fs.cat_file(path, start=start, end=stop))


def write_bytes(location: str, data: bytes | memoryview) -> None:
    """Write `data` at `location`, completely or not at all.

    On a mounted disk under a temporary name beside it, flushed, then renamed; on an object store as one PUT.

    Raises:
        OSError: As the filesystem raises it; that of a full disk names the file, which the system's own does not.
    """
    fs, path = filesystem(location)
    if not is_local(location):
        with _storage_errors():
            fs.pipe_file(path, bytes(data))  # botocore takes no memoryview
        return
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(final)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if is_disk_full(error):
            raise OSError(error.errno, f"{location}: {error.strerror}") from error
        raise


def create_object(location: str, data: bytes) -> None:
    """Write `data` at `location` on an object store, where nothing is yet: of several writers one succeeds.

    S3 and Google Cloud Storage decide it themselves; other storages are asked first, and two writers within moments may
    both succeed.

    Raises:
        FileExistsError: If there is something already.
    """
    fs, path = filesystem(location)
    with _storage_errors():
        fs.pipe_file(path, data, mode="create")


def is_temporary(name: str) -> bool:
    """Return whether a file name is a temporary one of `write_bytes`, left behind by a killed process."""
    return _TEMPORARY.fullmatch(name) is not None


def read_json(location: str) -> Any:
    """Return the parsed JSON file at `location`.

    Raises:
        SourceError: If it is missing, unreadable or no JSON.
    """
    try:
        return json.loads(read_bytes(location))
    except FileNotFoundError as error:
        raise SourceError(f"{location} does not exist") from error
    except OSError as error:
        raise SourceError(f"{location} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise SourceError(f"{location} is no JSON: {error}") from error


def write_json(location: str, value: Any) -> None:
    """Write `value` as indented JSON with a final newline, completely or not at all. NaN and infinity are refused.

    A list of numbers has one line, so that a matrix has one a row.
    """
    text = json.dumps(value, indent=2, allow_nan=False)
    on_lines = _NUMBERS.sub(lambda match: f"[{' '.join(match[1].split())}]", text)
    write_bytes(location, (on_lines + "\n").encode())


def list_files(location: str) -> list[str]:
    """Return the paths of all files below `location`, relative to it, sorted; empty if there is no such folder."""
    fs, path = filesystem(location)
    root = path.rstrip("/") + "/"
    with _storage_errors():
        found = (file.removeprefix(root) for file in fs.find(path) if file.startswith(root))
        return sorted(file for file in found if not file.endswith("/"))  # an empty object that stands for a folder


def list_changes(location: str) -> dict[str, str]:
    """Return each file below `location`, relative to it, and a mark that differs once the file was written again.

    The mark is made of what the storage lists (time, size, inode or ETag): no file is read. Empty if there is no such
    folder; temporary files of `write_bytes` are left out.
    """
    fs, path = filesystem(location)
    root = path.rstrip("/") + "/"
    with _storage_errors():
        found = fs.find(path, detail=True)
    return {
        file.removeprefix(root): " ".join(str(entry.get(name, "")) for name in _MARKS)
        for file, entry in found.items()
        if file.startswith(root) and not file.endswith("/") and not is_temporary(file.rsplit("/", 1)[-1])
    }


def list_folders(location: str) -> list[str]:
    """Return the names of the folders directly in `location`, sorted; empty if there is no such folder."""
    fs, path = filesystem(location)
    with _storage_errors():
        entries = fs.ls(path, detail=True) if fs.isdir(path) else []
    return sorted(entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry["type"] == "directory")


def remove(location: str) -> None:
    """Remove the file or folder at `location`; nothing happens if there is none."""
    fs, path = filesystem(location)
    with _storage_errors():
        if fs.exists(path):
            fs.rm(path, recursive=True)


def size_text(size_bytes: int) -> str:
    """Return a size in the largest unit that leaves at least one of it: `512 B`, `20.5 kB`; 1 kB is 1,000 B."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    size, units = size_bytes / 1000, iter(("kB", "MB", "GB", "TB"))
    unit = next(units)
    for larger in units:
        if size < 999.95:  # else it would be printed as 1000.0
            break
        size, unit = size / 1000, larger
    return f"{size:,.1f} {unit}"


def require_writable(location: str) -> None:
    """Refuse an output folder before any work is done for it.

    Raises:
        OutputError: If a file cannot be written below `location`.
    """
    probe = join(
        location, f".hemo-write-test.{secrets.token_hex(8)}.tmp"
    )  # unique: several trials may check at the same time
    try:
        write_bytes(probe, b"")
        remove(probe)
    except OSError as error:
        raise unwritable(location, error) from error


def unwritable(location: str, error: OSError) -> OutputError:
    """Return the error of an output folder in which nothing can be written."""
    missing = isinstance(error, FileNotFoundError)  # raised for a folder that cannot be created
    reason = "the folder may not be created" if missing else error.strerror or str(error)
    return OutputError(f"out: cannot write in {location} ({reason}); give a folder you may write to")


class WrittenFiles:
    """Files that workers wrote to an output folder and this process does not see yet: its disk may be another one."""

    def __init__(self) -> None:
        """Start with none."""
        self._until: dict[str, float] = {}  # location -> by when it must be seen, by `time.monotonic`

    def add(self, location: str) -> None:
        """Add a file that was just written; on a bucket all processes see it."""
        if is_local(location):
            self._until[location] = time.monotonic() + SEEN_WITHIN_S

    def check(self) -> None:
        """Forget the files that are seen by now.

        Raises:
            OutputError: If one is not seen `SEEN_WITHIN_S` after it was added.
        """
        for location, until in tuple(self._until.items()):
            if exists(location):
                del self._until[location]
            elif time.monotonic() > until:
                raise OutputError(
                    f"out: a worker wrote {location}, which this process does not see: it is on another disk, that of "
                    "its node; give a folder that all nodes share, such as s3://bucket/folder"
                )

    def wait(self) -> None:
        """Return when all files are seen; raises what `check` raises."""
        self.check()
        while self._until:
            time.sleep(0.1)
            self.check()
