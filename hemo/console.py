"""Lines and progress bars on standard error; standard output has the path of the result alone."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from tqdm import tqdm

TERMINAL_SECONDS, LOG_SECONDS = 0.5, 15.0

STDERR = 2
CLOSE_TIMEOUT_S = 1.0


def print_line(line: str) -> None:
    """Print one line on standard error, above a progress bar if one is shown."""
    tqdm.write(line, file=sys.stderr)


def progress_bar(label: str, *, total: int, unit: str) -> "tqdm[NoReturn]":
    """Return a bar with rate and time left: redrawn on a terminal, a line every quarter of a minute in a log."""
    seconds = TERMINAL_SECONDS if sys.stderr.isatty() else LOG_SECONDS
    return tqdm(total=total, unit=unit, desc=label, file=sys.stderr, mininterval=seconds, maxinterval=seconds)


@contextmanager
def stderr_without(pattern: re.Pattern[bytes]) -> Iterator[None]:
    """Leave out what matches of all that this process writes to standard error, also from C++.

    Begin progress bars before: within, standard error is a pipe and no terminal.

    Args:
        pattern: Of whole lines. A line written at once arrives at once, as POSIX keeps up to 4 KiB together.
    """
    sys.stderr.flush()
    original = os.dup(STDERR)
    reader, writer = os.pipe()
    os.dup2(writer, STDERR)
    os.close(writer)
    copier = threading.Thread(target=_copy_without, args=(reader, original, pattern), daemon=True)
    copier.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(original, STDERR)  # this was the last writer, unless a process was started within: it keeps the copier
        copier.join(CLOSE_TIMEOUT_S)


def _copy_without(reader: int, target: int, pattern: re.Pattern[bytes]) -> None:
    while content := os.read(reader, 1 << 16):
        rest = pattern.sub(b"", content)
        while rest:
            rest = rest[os.write(target, rest) :]
    os.close(reader)
    os.close(target)
