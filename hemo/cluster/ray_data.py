"""Settings of Ray Data for all jobs: retries, no progress bars, plain errors; and of processes that decode images."""

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import cv2
import ray
from ray.data import DataContext, ExecutionResources
from ray.data._internal.execution.streaming_executor import StreamingExecutor
from ray.data.exceptions import SystemException
from ray.exceptions import ActorDiedError, ObjectStoreFullError, OutOfDiskError, OutOfMemoryError, WorkerCrashedError

from hemo.errors import DISK_FULL, HemoError, is_disk_full
from hemo.freed_memory import keep_buffers_of_images

TRANSIENT_ERRORS = [
    r"OSError(?!: \[Errno)",
    "ConnectionError",
    "StorageError",
    "TimeoutError",
    r"\[Errno (?!(2|13|21|27|28|30|122)\])",
]
"""Patterns on `ClassName: message`. Not what is missing (2), forbidden (13, 30), a folder (21), full (27, 28, 122)."""

RETRIES = 3

LOST_WORKERS = 8
"""How often the process of a task, or workers of a trial, may die before the job stops, or the trial has failed.

Nodes that come and go end processes too. Ray itself would retry a task for ever.
"""

RESUMABLE_JOBS = ("convert", "embed")
"""Jobs that, run again, do only what is left; others start from the beginning."""

OUT_OF_MEMORY = (
    "a worker ran out of memory; lower cluster.cpus (on a cluster num-cpus of its nodes), so that fewer work at once, "
    "or take nodes with more memory"
)
STORE_FULL = (
    "Ray's object store is full; start Ray with a larger --object-store-memory, or lower cluster.cpus, so that fewer "
    "results wait in it"
)

CURES: dict[tuple[type[BaseException], ...], str] = {
    (MemoryError, OutOfMemoryError): OUT_OF_MEMORY,
    (WorkerCrashedError, ActorDiedError): "a worker was killed, for its memory or by a fault in a decoder; lower "
    "cluster.cpus, so that fewer work at once, take nodes with more memory, and look at Ray's logs",
    (ObjectStoreFullError,): STORE_FULL,
    (OutOfDiskError,): f"the disk of Ray's own files, to which it spills, is full (cluster.temp_dir); {DISK_FULL}",
}
"""What failed, of the errors that name no file and whose own text has many lines, and the way out."""

_RAY_ADVICE = "Failed to apply UDF transform"
"""Begins the advice on retry settings that Ray adds to the text of an error."""

EXECUTOR_END_S = 30.0
"""How long to wait for the thread of an interrupted execution, which ends within a second or two on an idle machine."""


@contextmanager
def data_context(job: str) -> Iterator[DataContext]:
    """Use these settings of Ray Data: transient I/O errors are retried, the job itself shows progress.

    Raises:
        HemoError: That of a task; or that `job` stopped, and why, when a task failed for good.
    """
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.retried_map_errors = TRANSIENT_ERRORS
    context.max_map_retries = RETRIES
    running_before = set(threading.enumerate())
    with DataContext.current(context):
        try:
            yield context
        except KeyboardInterrupt:
            end_executions(running_before)
            raise
        except ray.exceptions.RayError as error:
            cause = _innermost(error)
            if isinstance(cause, HemoError):
                cause.args = (_one_line(cause),)
                raise cause from error
            raise HemoError(stopped(job, _one_line(cause))) from error


def limit_growth(context: DataContext, *, tasks: int) -> None:
    """Ask an autoscaling cluster for no more CPUs than a job has tasks, each on one CPU."""
    context.execution_options.resource_limits = ExecutionResources.for_limits(cpu=tasks)


def end_executions(running_before: Collection[threading.Thread]) -> None:
    """End the executions of Ray Data whose threads are not among `running_before`.

    Ctrl-C ends only the loop that consumes their rows. A thread that outlives the connection uses it in the middle of
    its shutdown, and Ray then ends the process, at times by a segmentation fault.
    """
    for thread in set(threading.enumerate()).difference(running_before):
        if isinstance(thread, StreamingExecutor):
            thread.shutdown(force=True)
            thread.join(EXECUTOR_END_S)


def stopped(job: str, why: str) -> str:
    """Return the error message of a job that stopped in the middle."""
    kept = ", finished work is kept" if job in RESUMABLE_JOBS else ""
    return f"{job} stopped: {why}; run it again{kept}"


def _innermost(error: BaseException) -> BaseException:
    """Return what a task raised, or the HemoError it raised because of that: Ray wraps it several times over."""
    while (cause := getattr(error, "cause", None)) or not isinstance(error, HemoError):
        inner = cause or error.__cause__
        if inner is None or isinstance(inner, SystemException):  # Ray's own, about the cause of another
            break
        error = inner
    return error


def _one_line(error: BaseException) -> str:
    """Return class and text of an error in one line.

    Of an OSError only the system's text: Ray puts its advice in the place of the file name.
    """
    for kinds, cure in CURES.items():
        if isinstance(error, kinds) and not getattr(error, "actor_init_failed", False):  # that has a reason of its own
            return cure
    kind = "" if isinstance(error, HemoError) else type(error).__name__
    text = (isinstance(error, OSError) and error.strerror) or str(error.args[0] if len(error.args) == 1 else error)
    text = text.split(_RAY_ADVICE)[0]
    line = ": ".join(part for part in (kind, " ".join(text.split())) if part)
    return f"{line}; {DISK_FULL}" if is_disk_full(error) else line


def set_up_decoding() -> None:
    """Set up this process, which has one CPU, to decode images. May be called often."""
    cv2.setNumThreads(1)
    keep_buffers_of_images()
