"""Decorator of entry points: parse the command line into a config, keep a log, print an error in one line, exit.

Exit codes: 0 done, 1 failed in the middle and safe to run again, 2 the user's input is wrong.
"""

import functools
import inspect
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Protocol, TypeVar

import hemo
from hemo.config.load import load_config
from hemo.config.types import Config
from hemo.console import hours
from hemo.errors import DISK_FULL, HemoError, UserError, is_disk_full, without_passwords
from hemo.interrupts import interruptible
from hemo.job_log import JobLog

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
                config = load_config(config_type, argv, job=job, doc=doc)
                out = getattr(config, "out", "")
                with logged(job, out, public=not _has_key(config)) if out else nullcontext():
                    run(config)

        return main

    return decorate


@contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """Turn an error raised on purpose, Ctrl-C and SIGTERM into one line on standard error and an exit code.

    Other errors keep their traceback.
    """
    try:
        with interruptible():
            yield
    except (KeyboardInterrupt, Exception) as error:
        message, code = _ending(error)
        if not message:
            raise
        for line in without_passwords(message).splitlines():
            print(f"hemo: {line}", file=sys.stderr)  # noqa: T201  (the log has it as the error)
        sys.exit(code)


def _ending(error: BaseException) -> tuple[str, int]:
    """Return what is printed of an error, and the exit code; of a defect, which has a traceback, nothing is."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; run the same command again: finished work is kept", FAILED
    intended = _hemo_error(error)
    if is_disk_full(error):
        return f"{error.strerror}; {DISK_FULL}; run the same command again: finished work is kept", FAILED
    if intended is None:
        return "", FAILED
    message = "; ".join([str(intended), *getattr(intended, "__notes__", [])])
    return message, WRONG_INPUT if isinstance(intended, UserError) else FAILED


@contextmanager
def logged(job: str, out: str, *, public: bool) -> Iterator[None]:
    """Keep a log of a job beside its output; a job that is refused at once leaves none.

    Args:
        job: Its name.
        out: Its output folder.
        public: See `JobLog`.
    """
    began, code, log = time.monotonic(), DONE, JobLog(out, job, public=public)
    log.add("begin", f"hemo {hemo.__version__} {job}, process {os.getpid()} on {socket.gethostname()}{_submission()}")
    try:
        with log.keep():
            yield
    except BaseException as error:
        message, code = _ending(error)
        log.add_error(_hemo_error(error) or error, message)
        raise
    finally:
        if code != WRONG_INPUT or log.written:
            log.add("end", f"code {code} after {hours(time.monotonic() - began)}")
            log.write()


def _submission() -> str:
    """Return id and uploaded code of a submitted job, as Ray states them to it; of its environment nothing else."""
    submitted = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    job = submitted.get("metadata", {}).get("job_submission_id", "")
    code = submitted.get("runtime_env", {}).get("working_dir", "")
    return f"; Ray job {job}, code {code or 'of the image'}" if job else ""


def _has_key(config: Config) -> bool:
    """Return whether a pseudonym key is configured, in a section too."""
    values = dict(config)
    return bool(values.get("pseudonym_key")) or any(_has_key(v) for v in values.values() if isinstance(v, Config))


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
