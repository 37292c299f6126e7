"""How every job ends: 0 done, 1 failed in the middle and safe to run again, 2 the user's input is wrong."""

import functools
import sys
from collections.abc import Sequence
from typing import Protocol

from hemo.errors import HemoError, UserError

DONE, FAILED, WRONG_INPUT = 0, 1, 2


class Job(Protocol):
    """What stands behind a door."""

    def __call__(self, argv: Sequence[str] | None = None) -> None:
        """Run with these arguments after the program name; None for the process's own."""


def door(job: Job) -> Job:
    """Turn errors raised on purpose into one line on standard error and an exit code. Others keep their traceback."""

    @functools.wraps(job)
    def main(argv: Sequence[str] | None = None) -> None:
        try:
            job(argv)
        except KeyboardInterrupt:
            _leave("interrupted; run the same command again: finished work is kept", FAILED)
        except Exception as error:
            known = _hemo_error(error)
            if known is None:
                raise
            message = "; ".join([str(known), *getattr(known, "__notes__", [])])
            _leave(message, WRONG_INPUT if isinstance(known, UserError) else FAILED)

    return main


def _leave(message: str, code: int) -> None:
    for line in message.splitlines():
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
