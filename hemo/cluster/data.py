"""How hemo runs Ray Data: quiet, with retries, one task an item, its errors unwrapped."""

from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.data import DataContext

from hemo.errors import HemoError

PASSING_ERRORS = ["OSError", "ConnectionError", "TimeoutError", r"\[Errno"]
RETRIES = 3


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
                raise cause from error
            told = f"{type(cause).__name__}: {cause}"
            raise HemoError(f"{job} stopped: {told}; run it again to go on, what is finished is kept") from error


def _innermost(error: BaseException) -> BaseException:
    """Return what a task raised, or what it raised on purpose because of that: Ray wraps it several times over."""
    while (cause := getattr(error, "cause", None)) or not isinstance(error, HemoError):
        inner = cause or error.__cause__
        if inner is None:
            break
        error = inner
    return error
