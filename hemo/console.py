"""Lines, tables and progress of a job on standard error; its result alone on standard output.

All of it goes to the logger `hemo.console` as well, where the job's log beside its output takes it from.
"""

import logging
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from rich.console import Console, RenderableType
from rich.text import Text
from tqdm import tqdm

BAR_SECONDS, LINE_SECONDS = 0.5, 30.0
"""Between two redraws of a progress bar on a terminal, and between two lines of progress in a log."""

RATE_LINES = 10
"""Lines of progress, 5 minutes, over which the rate is measured: nodes come and go."""

LOG_COLUMNS = 120
"""Width of tables where there is no terminal."""

STDERR = 2
CLOSE_TIMEOUT_S = 1.0

KIND = "kind"
"""Attribute of a logged line: `line`, `progress` or `result`."""

logger = logging.getLogger(__name__)


def print_line(line: str) -> None:
    """Print a line on standard error, above a progress bar if one is shown."""
    tqdm.write(line, file=sys.stderr)
    _log("line", line)


def print_tables(*tables: RenderableType) -> None:
    """Print tables on standard error: as wide as the terminal, else without colours and trailing spaces."""
    on_terminal = sys.stderr.isatty()
    console = Console(stderr=True, highlight=False, width=None if on_terminal else LOG_COLUMNS)
    with console.capture() as capture:
        console.print(*tables)
    plain = "\n".join(line.rstrip() for line in Text.from_ansi(capture.get()).plain.splitlines()).strip("\n")
    tqdm.write(capture.get() if on_terminal else plain, file=sys.stderr)
    _log("line", plain)


def print_result(result: object) -> None:
    """Print on standard output what a job was run for; the location of its output comes last."""
    print(result, flush=True)  # noqa: T201  (the one place)
    _log("result", str(result))


def _log(kind: str, text: str) -> None:
    logger.info(text, extra={KIND: kind})


class Progress:
    """Counts what is done of some work."""

    def __init__(self, label: str, *, total: int, unit: str, bar: "tqdm[NoReturn] | None" = None) -> None:
        """Begin at nothing.

        Args:
            label: What runs.
            total: What there is to do, more than nothing.
            unit: In singular.
            bar: Kept up to date, on a terminal.
        """
        self._label, self._total, self._unit, self._bar = label, total, unit, bar
        self._done = 0
        self._began = self._advanced = time.monotonic()
        self._counts = deque([(self._began, 0)], maxlen=RATE_LINES)

    def update(self, count: int = 1) -> None:
        """Count what was done since the last call."""
        self._done += count
        self._advanced = time.monotonic()
        if self._bar is not None:
            self._bar.update(count)

    def line(self, now: float) -> str:
        """Return how far it is, the rate of the last lines, and the time left at that rate.

        Args:
            now: By `time.monotonic`. Each call is later than the one before.
        """
        since, before = self._counts[0]
        self._counts.append((now, self._done))
        rate = (self._done - before) / (now - since)
        parts = [f"{self._so_far()} ({self._done / self._total:.0%})"]
        if now - self._advanced >= LINE_SECONDS:
            parts.append(f"none for {hours(now - self._advanced)}")
        if rate:
            parts += [self._per_second(rate), f"{hours((self._total - self._done) / rate)} left"]
        return ", ".join(parts)

    def last_line(self, now: float) -> str:
        """Return what was done in which time."""
        seconds = now - self._began
        return f"{self._so_far()} in {hours(seconds)}, {self._per_second(self._done / seconds)}"

    def _so_far(self) -> str:
        return f"{self._label}: {self._done:,} of {self._total:,} {self._unit}s"

    def _per_second(self, rate: float) -> str:
        return f"{rate:,.0f} {self._unit}s/s" if rate >= 10 else f"{rate:.2g} {self._unit}s/s"


@contextmanager
def progress_bar(label: str, *, total: int, unit: str) -> Iterator[Progress]:
    """Show the progress of work while it is done: on a terminal a bar; else a line now and then, also while it waits.

    Args:
        label: What runs.
        total: What there is to do, more than nothing.
        unit: In singular.
    """
    bar: tqdm[NoReturn] | None = None
    if sys.stderr.isatty():
        bar = tqdm(total=total, unit=unit, desc=label, file=sys.stderr, mininterval=BAR_SECONDS)
    progress, ended = Progress(label, total=total, unit=unit, bar=bar), threading.Event()

    def show(line: str) -> None:
        if bar is None:
            tqdm.write(line, file=sys.stderr)
        _log("progress", line)

    def report() -> None:
        while not ended.wait(LINE_SECONDS):
            show(progress.line(time.monotonic()))

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield progress
    finally:
        ended.set()
        reporter.join()
        if bar is not None:
            bar.close()
    show(progress.last_line(time.monotonic()))


def hours(seconds: float) -> str:
    """Return a duration as `h:mm:ss`, rounded to whole seconds."""
    minutes, whole = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{whole:02d}"


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
