"""An output folder belongs to one run at a time, and nothing of a killed run's half-written files stays in it."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hemo.errors import OutputError
from hemo.storage import is_local, is_temporary

LOCKLESS = (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""How network disks say that they know no locks on folders."""


@contextmanager
def claimed(out: str) -> Iterator[None]:
    """Keep an output folder to this process while it writes there; take away temporary files before and after.

    The lock is the system's and ends with the process, however that ends. Object stores and some network disks have
    none: there two runs at once do the same work twice.

    Args:
        out: Output folder; it exists.

    Raises:
        OutputError: If another run has it.
    """
    if not is_local(out):
        yield
        return
    folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(folder, out)
        _remove_temporaries(out)
        yield
        _remove_temporaries(out)  # a worker may outlive its driver by a moment
    finally:
        os.close(folder)


def _lock(folder: int, out: str) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(
            f"out: another run is writing in {out}; wait until it has ended, or give another folder"
        ) from None
    except OSError as error:
        if error.errno not in LOCKLESS:
            raise


def _remove_temporaries(out: str) -> None:
    for folder in (Path(out), Path(out, "shards")):
        for file in folder.iterdir() if folder.is_dir() else ():
            if is_temporary(file.name):
                file.unlink(missing_ok=True)
