"""Ctrl-C and SIGTERM, by which schedulers end jobs, end a job alike: by KeyboardInterrupt."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[None]:
    """Make both signals raise KeyboardInterrupt in the main thread; afterwards their handlers are what they were."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    raise_on_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: set by C code, and not by Python to be set again
                signal.signal(number, handler)


def raise_on_signals() -> None:
    """Make both signals raise KeyboardInterrupt, in Ray's processes too, if this is the main thread.

    A shell ignores SIGINT for what it runs in the background; Ray's workers would inherit that, and Ray calls the
    handler it finds, which is then no function.
    """
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            signal.signal(number, signal.default_int_handler)
