"""How hemo runs Ray Data: quiet, with retries, its errors unwrapped, and processes set up to decode images."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import ray
from ray.data import DataContext
from ray.data.exceptions import SystemException
from ray.exceptions import OutOfMemoryError

from hemo.errors import HemoError

PASSING_ERRORS = [
    r"OSError(?!: \[Errno)",
    "ConnectionError",
    "StorageError",
    "TimeoutError",
    r"\[Errno (?!(2|13|21|27|28|30|122)\])",
]
"""Patterns on `ClassName: message`. Not what is missing (2), forbidden (13, 30), a folder (21), full (27, 28, 122)."""

RETRIES = 3

LOST_WORKERS = 8
"""How often the process that runs a task may die before the job stops; Ray itself would go on for ever."""

GOES_ON = ("convert",)
"""Jobs that, run again, do only what is not done yet; others begin anew."""

_RAY_ADVICE = "Failed to apply UDF transform"
"""Begins the lines on its own retry settings that Ray adds to the text of what a task raised."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc

KEPT_BYTES = 1 << 26
LARGEST_KEPT_BYTES = 1 << 25


@contextmanager
def data_context(job: str) -> Iterator[DataContext]:
    """Give Ray Data hemo's settings for a while: passing I/O errors are retried, progress is shown by the job itself.

    Raises:
        HemoError: What a task raised on purpose; or that `job` stopped, and why, when a task failed for good.
    """
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.retried_map_errors = PASSING_ERRORS
    context.max_map_retries = RETRIES
    with DataContext.current(context):
        try:
            yield context
        except ray.exceptions.RayError as error:
            cause = _innermost(error)
            if isinstance(cause, HemoError):
                cause.args = (_told(cause),)
                raise cause from error
            raise HemoError(stopped(job, _told(cause))) from error


def stopped(job: str, why: str) -> str:
    """Return the line that tells the user that a job stopped in the middle."""
    kept = ", finished work is kept" if job in GOES_ON else ""
    return f"{job} stopped: {why}; run it again{kept}"


def _innermost(error: BaseException) -> BaseException:
    """Return what a task raised, or what it raised on purpose because of that: Ray wraps it several times over."""
    while (cause := getattr(error, "cause", None)) or not isinstance(error, HemoError):
        inner = cause or error.__cause__
        if inner is None or isinstance(inner, SystemException):  # it says only that the fault was not the user's
            break
        error = inner
    return error


def _told(error: BaseException) -> str:
    """Return what an error says of itself, in one line.

    Of an OSError only the system's words: Ray puts its advice in the place of the file name.
    """
    if isinstance(error, MemoryError | OutOfMemoryError):
        return "a worker ran out of memory, use fewer CPUs or nodes with more memory"
    kind = "" if isinstance(error, HemoError) else type(error).__name__
    text = (isinstance(error, OSError) and error.strerror) or str(error.args[0] if len(error.args) == 1 else error)
    said = text.split(_RAY_ADVICE)[0]
    return ": ".join(part for part in (kind, " ".join(said.split())) if part)


def set_up_decoding() -> None:
    """Set up this process, which Ray gave one CPU. May be called often."""
    cv2.setNumThreads(1)
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Let this process keep small and middling blocks it frees; return whether its C library could.

    A slice needs some buffers of a few megabytes. glibc hands such blocks back to the system each time, which has to
    clear them for the next slice: at 224 px that took four fifths of the time (measured, see
    benchmarks/results/2026-11-20-image-path.md).
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    options = {M_TRIM_THRESHOLD: KEPT_BYTES, M_MMAP_THRESHOLD: LARGEST_KEPT_BYTES}
    taken = [set_option(option, value) for option, value in options.items()]  # 1 each
    return all(taken)
