"""What a job tells while it runs: on standard error, readable on a terminal and in a job's log alike."""

import sys
from typing import NoReturn

from tqdm import tqdm

TERMINAL_SECONDS, LOG_SECONDS = 0.5, 15.0


def say(line: str) -> None:
    """Print one line on standard error."""
    tqdm.write(line, file=sys.stderr)


def progress_bar(label: str, *, total: int, unit: str) -> "tqdm[NoReturn]":
    """Return a bar with rate and time left: redrawn on a terminal, a line every quarter of a minute in a log."""
    seconds = TERMINAL_SECONDS if sys.stderr.isatty() else LOG_SECONDS
    return tqdm(total=total, unit=unit, desc=label, file=sys.stderr, mininterval=seconds, maxinterval=seconds)
