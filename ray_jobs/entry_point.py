"""Decorator of entry points: parse the command line into a config, print an error in one line, set the exit code.

Exit codes: 0 done, 1 failed in the middle and safe to run again, 2 the user's input is wrong.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from hemo.config.load import load_config
from hemo.config.types import Config
from hemo.errors import HemoError, UserError, without_passwords

C = TypeVar("C", bound=Config)

DONE, FAILED, WRONG_INPUT = 0, 1, 2


class Main(Protocol):
    """The `main` of a job's module."""

    def __call__(self, argv: Sequence[str] | None = None) -> None:
        """Run with these arguments after the program name; None for the process's own."""


def entry_point(config_type: type[C]) -> Callable[[Callable[[C], None]], Main]:
    """Make the `main` of a job's module from a function of its config.

    The module's name is the job's name, and its docstring what `--help` prints. The function imports what it runs:
    so `--help` and wrong flags load neither Ray nor torch.
    """

    def decorate(run: Callable[[C], None]) -> Main:
        job, doc = Path(inspect.getfile(run)).stem, run.__globals__["__doc__"] or ""

        @functools.wraps(run)
        def main(argv: Sequence[str] | None = None) -> None:
            with errors_as_exit_codes():
                run(load_config(config_type, argv, job=job, doc=doc))

        return main

    return decorate


@contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """Turn an error raised on purpose into one line on standard error and an exit code; others keep their traceback."""
    try:
        yield
    except KeyboardInterrupt:
        _exit("interrupted; run the same command again: finished work is kept", FAILED)
    except Exception as error:
        intended = _hemo_error(error)
        if intended is None:
            raise
        message = "; ".join([str(intended), *getattr(intended, "__notes__", [])])
        _exit(message, WRONG_INPUT if isinstance(intended, UserError) else FAILED)


def _exit(message: str, code: int) -> None:
    for line in without_passwords(message).splitlines():
        print(f"hemo: {line}", file=sys.stderr)
    sys.exit(code)


def _hemo_error(error: BaseException | None) -> HemoError | None:
    """Return the error raised on purpose behind `error`: Ray wraps what a task raised, several times over.

    Ray's wrapper is an instance of what it wraps, with the worker's traceback as its text, so `cause` comes first.
    """
    while error is not None:
        wrapped = getattr(error, "cause", None)
        if wrapped is None and isinstance(error, HemoError):
            return error
        error = wrapped or error.__cause__
    return None
