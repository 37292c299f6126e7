"""The log of a job beside its output, which outlives the machine that the job ran on.

`OUT/log/STAMP-JOB-ID.txt` has a line for each line that the job prints, each step of its progress, its result, and how
it ended: time in UTC, kind, text. It is written in steps, so that a killed job leaves what it had: on a disk the file
grows; on an object store, where nothing can be appended, a small object is written again, and a new one begun when it
is no longer small. Warnings of libraries are not in it. No job reads it, and no digest covers it.
"""

import logging
import re
import secrets
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from hemo import console
from hemo.errors import OutputError, RejectLimitError, TrialError, without_passwords
from hemo.storage import filesystem, is_local, join, list_files, read_bytes, write_bytes

FOLDER = "log"

WRITE_EVERY_S = 10.0
"""Between two writes; what a killed job printed last may be lost. A job refused before the first one leaves no log."""

PIECE_BYTES = 1 << 20
"""Size of an object after which the next one is begun."""

NAMELESS = (OutputError, RejectLimitError, TrialError)
"""Errors whose text names no file of a corpus and no value in one: what a log may hold under a pseudonym key."""

_LOG_FILE = re.compile(rf"{FOLDER}/\d{{8}}T\d{{6}}Z-[a-z]+-[0-9a-f]{{8}}(\.\d+)?\.txt")


class JobLog(logging.Handler):
    """The log of one run. It never fails a job: where it cannot be written, the job prints that once and goes on.

    Attributes:
        written: Whether a part of it is stored.
    """

    def __init__(self, out: str, job: str, *, public: bool) -> None:
        """Begin a log of which nothing is written yet.

        Args:
            out: Output folder of the job, a path or URI.
            job: Its name.
            public: Whether errors may name files of the corpus; not under a pseudonym key.
        """
        super().__init__()
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self._name = f"{stamp}-{job}-{secrets.token_hex(4)}"
        self._out, self._public = out, public
        self._lines: list[str] = []  # not yet written
        self._object = b""  # content of the current piece on an object store
        self._piece = 1
        self._writing, self._ended = threading.Lock(), threading.Event()
        self._reported = self.written = False

    @contextmanager
    def keep(self) -> Iterator[None]:
        """Keep what the job prints, and write it from time to time."""
        before = console.logger.level
        console.logger.setLevel(logging.INFO)
        console.logger.addHandler(self)
        writer = threading.Thread(target=self._write_regularly, daemon=True)
        writer.start()
        try:
            yield
        finally:
            self._ended.set()
            writer.join()
            console.logger.removeHandler(self)
            console.logger.setLevel(before)

    def emit(self, record: logging.LogRecord) -> None:
        """Add what `hemo.console` printed."""
        self.add(getattr(record, console.KIND, "line"), record.getMessage())

    def add(self, kind: str, text: str) -> None:
        """Add a text, a line for each of its lines; passwords of database URLs are left out."""
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._lines += [f"{time} {kind:<8} {line}".rstrip() + "\n" for line in without_passwords(text).splitlines()]

    def add_error(self, error: BaseException, message: str) -> None:
        """Add why the job ended.

        Args:
            error: What was raised.
            message: What the job prints of it; empty where that is a traceback.
        """
        kind = type(error).__name__
        if self._public or isinstance(error, NAMELESS):
            self.add("error", message or "".join(traceback.format_exception(error)))
            return
        frames = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        where = "" if message else f" at {frames[-1]}" if frames else ""
        self.add("error", f"{kind}{where}; its text may name files, so it is in the output of the job only")

    def write(self) -> None:
        """Write what was added since the last time."""
        with self._writing:
            lines = "".join(self._lines[: (count := len(self._lines))]).encode()
            if not lines:
                return
            try:
                self._append(lines)
            except OSError as error:
                if not self._reported:
                    self._reported = True
                    folder, reason = join(self._out, FOLDER), error.strerror or error
                    console.print_line(f"log: {folder} cannot be written ({reason}); these lines are here only")
                return
            del self._lines[:count]
            self.written = True

    def _write_regularly(self) -> None:
        while not self._ended.wait(WRITE_EVERY_S):
            self.write()

    def _append(self, lines: bytes) -> None:
        location = join(self._out, FOLDER, f"{self._name}{'' if self._piece == 1 else f'.{self._piece}'}.txt")
        if is_local(self._out):
            file = Path(filesystem(location)[1])
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("ab") as opened:
                opened.write(lines)
            return
        write_bytes(location, self._object + lines)
        self._object += lines
        if len(self._object) > PIECE_BYTES:
            self._object, self._piece = b"", self._piece + 1


def is_job_log(path: str) -> bool:
    """Return whether a path below a folder is that of a job's log: a corpus that a job wrote does not consist of it."""
    return path.startswith(f"{FOLDER}/") and _LOG_FILE.fullmatch(path) is not None


def last_lines(out: str, count: int) -> list[str]:
    """Return the last lines of the newest log in an output folder; none where there is no log.

    Args:
        out: The folder, a path or URI.
        count: How many at most. Control characters in them are replaced: the folder may be a stranger's.
    """
    names = [name for name in list_files(join(out, FOLDER)) if is_job_log(f"{FOLDER}/{name}")]
    if not names or not count:
        return []
    newest = max(names, key=lambda name: (name.split(".")[0], len(name), name))  # of its pieces the last
    lines = read_bytes(join(out, FOLDER, newest)).decode(errors="replace").splitlines()[-count:]
    return ["".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line) for line in lines]
