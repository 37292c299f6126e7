"""One output folder, one writing process: an advisory lock with the name of its holder.

On a mounted disk `flock` on a file in the folder: the system releases it when the process ends, however that ends. On
an object store an object that its holder renews: one that is not renewed for `LEASE_S` belongs to a process that has
died, and the next one takes it over. No clock is compared with another. A holder that stood still for longer goes on
afterwards, so it checks that it still holds the folder before what must not happen twice. A network disk without locks
has none, which is printed once: two processes at once then do the same work twice, each file is whole, and the one
written last stays.
"""

import errno
import fcntl
import functools
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hemo.console import print_line
from hemo.errors import LockedError
from hemo.storage import (
    create_object,
    filesystem,
    is_local,
    is_temporary,
    join,
    read_bytes,
    remove,
    unwritable,
    write_bytes,
)

LOCK_FILE = ".output-lock.json"
"""Exists while the folder is locked; one that a killed process left behind is locked by nobody."""

RENEWAL_S = 5.0
"""Between two renewals of an object on a bucket."""

LEASE_S = 30.0
"""After so long without a renewal its holder has died: several renewals in a row were missed."""

UNSUPPORTED = (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""Errors of network disks without file locks."""


Seen = dict[str, tuple[bytes, float]]
"""Lock on a bucket -> its content, and since when it is known to be this, by `time.monotonic`."""


RequireHeld = Callable[[], None]
"""Raises `LockedError` if the folder is another run's by now."""


@contextmanager
def output_lock(folder: str, subfolders: tuple[str, ...] = (), seen: Seen | None = None) -> Iterator[RequireHeld]:
    """Lock an output folder while this process writes there; remove unfinished files of killed writers.

    The folder is made if it does not exist, and removed again if nothing was written there. Threads of one
    process exclude each other too. On a bucket a run that was killed still holds it for `LEASE_S`: the next one waits.

    Args:
        folder: Path or URI.
        subfolders: Those of its folders in which unfinished files are removed as well.
        seen: On a bucket, what earlier attempts of this process saw: a holder that may live is then not waited for, and
            an attempt after `LEASE_S` takes the place of one that has died.

    Yields:
        A function to call directly before a card is written or files of another run are removed. On a bucket it reads
        the lock, and raises `LockedError` if this run has lost it; on a disk, where that cannot be, it does nothing.
        What remains: a run that stands still for `LEASE_S` between this check and the write that follows it, or within
        a renewal between reading the lock and writing it, writes all the same.

    Raises:
        OutputError: If nothing can be written there.
        LockedError: If another run holds the lock: which process, where and since when; at the end as well, if another
            one has taken it over.
    """
    if not is_local(folder):
        with _leased(folder, seen) as require_held:
            yield require_held
        return
    path = Path(filesystem(folder)[1])
    try:
        made = [place for place in (path, *path.parents) if not place.exists()]
        lock = _locked(path)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        _remove_unfinished(path, subfolders)
        yield _always_held
        _remove_unfinished(path, subfolders)  # a worker may outlive its driver by a moment
    finally:
        (path / LOCK_FILE).unlink(missing_ok=True)  # while it is locked: nobody else can have made it
        os.close(lock)
        with suppress(OSError):  # not empty
            for place in made:
                place.rmdir()


@functools.cache
def report_no_lock() -> None:
    """Print, once in a process, that an output folder has no lock."""
    print_line("out: this storage has no file locks, so a second run is not noticed: see to it that there is none")


def _locked(folder: Path) -> int:
    """Return the descriptor of the locked file; a file that its holder removed meanwhile locks nothing.

    Its holder may also have removed the folder, as an empty one.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_current(lock, folder):
                os.ftruncate(lock, 0)
                os.pwrite(lock, json.dumps(_holder()).encode(), 0)
                return lock
        except BlockingIOError:
            holder = os.pread(lock, 1000, 0)
            os.close(lock)
            raise _locked_error(str(folder), holder) from None
        except OSError as error:
            if error.errno in UNSUPPORTED:
                report_no_lock()
                return lock
            os.close(lock)
            raise
        os.close(lock)


def _always_held() -> None:
    pass


@contextmanager
def _leased(folder: str, seen: Seen | None) -> Iterator[RequireHeld]:
    """Hold a folder of an object store; its object says who holds it, and how often that was renewed."""
    location, holder, ended = join(folder, LOCK_FILE), _holder(), threading.Event()
    lost = threading.Event()

    def require_held() -> None:
        if lost.is_set() or not _is_held(location, holder):
            lost.set()
            raise LockedError(
                f"out: another run has taken {folder} over, while this one could not reach it for {LEASE_S:.0f} s; run "
                "the same command again when that one has ended"
            )

    _take(location, _renewed(holder, 0), folder, seen)
    renewing = threading.Thread(target=_renew, args=(location, holder, ended, lost), daemon=True)
    renewing.start()
    try:
        yield require_held
    finally:
        ended.set()
        renewing.join()
        with suppress(OSError, LockedError):
            require_held()
            remove(location)
    if lost.is_set():
        require_held()


def _is_held(location: str, holder: dict[str, Any]) -> bool:
    """Return whether the object is there and of this run."""
    run: str = holder["run"]
    return run.encode() in _content(location)


def _take(location: str, content: bytes, folder: str, seen: Seen | None) -> None:
    """Create the object, if need be after its holder has shown no sign of life for `LEASE_S`.

    Raises:
        LockedError: If its holder lives.
        OutputError: If nothing can be written there.
    """
    while True:
        try:
            create_object(location, content)
            return
        except FileExistsError:
            if seen is None:
                _wait_for_a_dead_holder(location, folder)
            else:
                _require_dead_holder(location, folder, seen)
        except OSError as error:
            raise unwritable(folder, error) from error


def _wait_for_a_dead_holder(location: str, folder: str) -> None:
    """Return when the object is gone, or was not renewed for `LEASE_S` and is removed.

    Raises:
        LockedError: If it was renewed.
    """
    seen = _content(location)
    if seen:
        who = _described(seen)
        print_line(f"out: {folder} was in use by another run ({who}); up to {LEASE_S:.0f} s show whether it still runs")
    end = time.monotonic() + LEASE_S
    while seen and time.monotonic() < end:
        time.sleep(min(RENEWAL_S / 4, LEASE_S / 20))
        now = _content(location)
        if now and now != seen:
            raise _locked_error(folder, now)
        seen = now
    if seen and _content(location) == seen:
        remove(location)


def _require_dead_holder(location: str, folder: str, seen: Seen) -> None:
    """Return if the object is gone, or is as it was `LEASE_S` ago and is removed.

    Raises:
        LockedError: If its holder lives, or may.
    """
    now, content = time.monotonic(), _content(location)
    before, since = seen.get(location, (b"", now))
    seen[location] = content, since if content == before else now
    if content and (content != before or now - since < LEASE_S):
        raise _locked_error(folder, content)
    del seen[location]
    if content:
        remove(location)


def _renew(location: str, holder: dict[str, Any], ended: threading.Event, lost: threading.Event) -> None:
    """Renew the object until the run has `ended`; set `lost` and stop if it is gone or another's."""
    renewals = 0
    while not ended.wait(RENEWAL_S):
        try:
            if not _is_held(location, holder):
                lost.set()
                return
            renewals += 1
            write_bytes(location, _renewed(holder, renewals))
        except OSError:
            continue  # it is tried again soon, and who takes the folder over is seen then


def _renewed(holder: dict[str, Any], renewals: int) -> bytes:
    return json.dumps({**holder, "renewals": renewals}).encode()


def _content(location: str) -> bytes:
    try:
        return read_bytes(location)
    except FileNotFoundError:
        return b""


def _is_current(lock: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), (folder / LOCK_FILE).stat())
    except FileNotFoundError:
        return False


def _holder() -> dict[str, Any]:
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return {"process": os.getpid(), "host": socket.gethostname(), "since": since, "run": secrets.token_hex(8)}


def _locked_error(folder: str, holder: bytes) -> LockedError:
    return LockedError(
        f"out: another run is writing in {folder} ({_described(holder)}); wait until it has ended, end it, or give "
        "another folder"
    )


def _described(content: bytes) -> str:
    """Return the holder in words; between locking a file and writing it there is no content yet."""
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
