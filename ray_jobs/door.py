"""How every job ends: 0 done, 1 failed in the middle and safe to run again, 2 the user's input is wrong."""

import functools
import sys
from collections.abc import Callable, Sequence

from hemo.errors import HemoError, UserError

DONE, FAILED, WRONG_INPUT = 0, 1, 2

Job = Callable[[Sequence[str] | None], None]


def door(job: Job) -> Job:
    """Turn errors raised on purpose into one line on standard error and an exit code. Others keep their traceback."""

    @functools.wraps(job)
    def main(argv: Sequence[str] | None = None) -> None:
        try:
            job(argv)
        except KeyboardInterrupt:
            _leave("interrupted; run the same command again to go on: what is finished is kept", FAILED)
        except Exception as error:
            known = _hemo_error(error)
            if known is None:
                raise
            _leave(
                "\n".join([str(known), *getattr(known, "__notes__", [])]),
                WRONG_INPUT if isinstance(known, UserError) else FAILED,
            )

    return main


def _leave(message: str, code: int) -> None:
    for line in message.splitlines():
        print(f"hemo: {line}", file=sys.stderr)
    sys.exit(code)


def _hemo_error(error: BaseException | None) -> HemoError | None:
    """Return the error raised on purpose behind `error`: Ray wraps what a task raised, several times over."""
    while error is not None:
        if isinstance(error, HemoError):
            return error
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__
    return None
