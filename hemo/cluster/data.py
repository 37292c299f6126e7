"""How hemo runs Ray Data: quiet, in retries, without touching the process's own settings."""

from collections.abc import Iterator
from contextlib import contextmanager

from ray.data import DataContext

PASSING_ERRORS = ["OSError", "ConnectionError", "TimeoutError", r"\[Errno"]
RETRIES = 3


@contextmanager
def data_context() -> Iterator[DataContext]:
    """Give Ray Data hemo's settings for a while: passing I/O errors are retried, progress bars are ours."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.retried_map_errors = PASSING_ERRORS
    context.max_map_retries = RETRIES
    with DataContext.current(context):
        yield context
