"""Storage with faults, for tests: files on disk behind a URI that every process can open which unpickles it.

A fault of `FILE` stands in `FILE.fault`: what happens, and how often: `EIO 2` fails its first two uses.
"""

import errno
import os
import time
from pathlib import Path
from typing import Any

import fsspec
from fsspec import AbstractFileSystem

ALWAYS = 1000
WAIT_AT_MOST_S = 60.0


class FaultyStorage(AbstractFileSystem):
    """Reads and writes whole files on disk, and fails where it is told to."""

    protocol = "faulty"

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        _fail_if_told(path)
        return Path(path).read_bytes()[start:end]

    def pipe_file(self, path: str, value: bytes, **_: Any) -> None:
        _fail_if_told(path)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(value)


class FaultyUri(str):
    """A URI of such storage, which is known wherever the URI arrives."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return faulty_uri, (self.removeprefix("faulty://"),)


def faulty_uri(folder: str | Path) -> FaultyUri:
    """Return the URI of a folder on disk with faults."""
    fsspec.register_implementation("faulty", FaultyStorage, clobber=True)
    return FaultyUri(f"faulty://{folder}")


def plan_fault(file: Path, what: str, times: int = ALWAYS) -> None:
    """Let the next uses of a file fail: `what` is a name of `errno`, `MemoryError`, `exit` (it dies) or `wait`.

    See `end_wait` for the last.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{file}.fault").write_text(f"{what} {times}")


def end_wait(file: Path) -> None:
    """Let a file be read that waits."""
    Path(f"{file}.ended").touch()


def _await_end(path: str) -> None:
    deadline = time.monotonic() + WAIT_AT_MOST_S
    while not Path(f"{path}.ended").exists():
        if time.monotonic() > deadline:
            raise ValueError(f"{path}: nobody ended the wait")
        time.sleep(0.02)


def _fail_if_told(path: str) -> None:
    plan = Path(f"{path}.fault")
    if not plan.exists():
        return
    what, times = plan.read_text().split()
    if int(times) > 1:
        plan.write_text(f"{what} {int(times) - 1}")
    else:
        plan.unlink()
    if what == "exit":
        os._exit(1)
    if what == "wait":
        return _await_end(path)
    if what == "MemoryError":
        raise MemoryError
    number = getattr(errno, what)
    raise OSError(number, os.strerror(number), path)
