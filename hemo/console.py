"""Lines and progress bars on standard error; standard output has the path of the result alone."""

import sys
from typing import NoReturn

from tqdm import tqdm

TERMINAL_SECONDS, LOG_SECONDS = 0.5, 15.0


def print_line(line: str) -> None:
    """Print one line on standard error, above a progress bar if one is shown."""
    tqdm.write(line, file=sys.stderr)


def progress_bar(label: str, *, total: int, unit: str) -> "tqdm[NoReturn]":
    """Return a bar with rate and time left: redrawn on a terminal, a line every quarter of a minute in a log."""
    seconds = TERMINAL_SECONDS if sys.stderr.isatty() else LOG_SECONDS
    return tqdm(total=total, unit=unit, desc=label, file=sys.stderr, mininterval=seconds, maxinterval=seconds)
