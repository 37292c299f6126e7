"""`timed://`: files on a disk, each waited for as in a bucket, with the times of all recorded; for `bench_scaling.py`.

A module of its own, and a light one: workers load it before their first task.
"""

import os
import time
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem


class TimedStorage(LocalFileSystem):
    """Each file is waited for `$STORAGE_WAIT_S` seconds, and each request is recorded."""

    protocol = "timed"

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """Wait, then return a file or a part of it."""
        note_time("began")
        time.sleep(float(os.environ["STORAGE_WAIT_S"]))
        content: bytes = super().cat_file(path, start=start, end=end, **options)
        return content


def register() -> None:
    """Make `timed://` known in this process."""
    fsspec.register_implementation("timed", TimedStorage, clobber=True)


def note_time(what: str, moment: float | None = None) -> None:
    """Add a line to this process's file in the folder `$TIMES`: what happened, and when; by default now."""
    with Path(os.environ["TIMES"], f"{os.getpid()}.txt").open("a") as file:
        file.write(f"{what} {moment or time.time()}\n")


def forget_times() -> None:
    """Remove what all processes recorded so far."""
    for file in Path(os.environ["TIMES"]).iterdir():
        file.unlink()


def noted_span_s() -> float:
    """Return the seconds from the first `began` to the last `ended` of all processes."""
    lines = [line.split() for file in Path(os.environ["TIMES"]).iterdir() for line in file.read_text().splitlines()]
    times = {what: [float(moment) for name, moment in lines if name == what] for what in ("began", "ended")}
    return max(times["ended"]) - min(times["began"])
