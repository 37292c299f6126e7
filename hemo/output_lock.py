"""One output folder, one writing process: an advisory lock with the name of its holder.

`flock` on a file in the folder: the system releases it when the process ends, however that ends. On an object store,
and on a network disk without locks, there is none, which is printed once: two processes at once then do the same work
twice, each file is whole, and the one that was written last stays.
"""

import errno
import fcntl
import functools
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from hemo.console import print_line
from hemo.errors import LockedError
from hemo.storage import filesystem, is_local, is_temporary, require_writable, unwritable

LOCK_FILE = ".output-lock.json"
"""Exists while the folder is locked; one that a killed process left behind is locked by nobody."""

UNSUPPORTED = (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""Errors of network disks without file locks."""


@contextmanager
def output_lock(folder: str, subfolders: tuple[str, ...] = ()) -> Iterator[None]:
    """Lock an output folder while this process writes there; remove unfinished files of killed writers.

    The folder is made if it does not exist. Threads of one process exclude each other too.

    Args:
        folder: Path or URI.
        subfolders: Those of its folders in which unfinished files are removed as well.

    Raises:
        OutputError: If nothing can be written there.
        LockedError: If another run holds the lock: which process, where and since when.
    """
    if not is_local(folder):
        require_writable(folder)
        report_no_lock()
        yield
        return
    path = Path(filesystem(folder)[1])
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = _locked(path)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        _remove_unfinished(path, subfolders)
        yield
        _remove_unfinished(path, subfolders)  # a worker may outlive its driver by a moment
    finally:
        (path / LOCK_FILE).unlink(missing_ok=True)  # while it is locked: nobody else can have made it
        os.close(lock)


@functools.cache
def report_no_lock() -> None:
    """Print, once in a process, that an output folder has no lock."""
    print_line("out: this storage has no file locks, so a second run is not noticed: see to it that there is none")


def _locked(folder: Path) -> int:
    """Return the descriptor of the locked file; a file that its holder removed meanwhile locks nothing."""
    while True:
        lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_current(lock, folder):
                os.ftruncate(lock, 0)
                os.pwrite(lock, _holder(), 0)
                return lock
        except BlockingIOError:
            holder = _described(os.pread(lock, 1000, 0))
            os.close(lock)
            raise LockedError(
                f"out: another run is writing in {folder} ({holder}); wait until it has ended, end it, or give "
                "another folder"
            ) from None
        except OSError as error:
            if error.errno in UNSUPPORTED:
                report_no_lock()
                return lock
            os.close(lock)
            raise
        os.close(lock)


def _is_current(lock: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), (folder / LOCK_FILE).stat())
    except FileNotFoundError:
        return False


def _holder() -> bytes:
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": since}).encode()


def _described(content: bytes) -> str:
    """Return the holder in words; between locking and writing there is no content yet."""
    try:
        holder = json.loads(content)
        return f"process {holder['process']} on {holder['host']}, since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "it has just begun"


def _remove_unfinished(folder: Path, subfolders: tuple[str, ...]) -> None:
    for path in (folder, *(folder / name for name in subfolders)):
        for file in path.iterdir() if path.is_dir() else ():
            if is_temporary(file.name):
                file.unlink(missing_ok=True)
