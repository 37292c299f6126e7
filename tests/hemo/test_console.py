"""What standard error and standard output show, what is kept out of it, and what the job's log gets."""

import io
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from rich.table import Table

from hemo import console
from hemo.console import Progress, hours, print_line, print_result, print_tables, progress_bar, stderr_without

NOISE = re.compile(rb"\[noise\] [^\n]*\n")


@pytest.fixture
def logged() -> Iterator[list[tuple[str, str]]]:
    """Kind and text of what is logged."""
    lines: list[tuple[str, str]] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append((getattr(record, console.KIND), record.getMessage()))
    console.logger.addHandler(handler)
    console.logger.setLevel(logging.INFO)
    yield lines
    console.logger.removeHandler(handler)
    console.logger.setLevel(logging.NOTSET)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What `time.monotonic` returns."""
    now = {"s": 1000.0}
    monkeypatch.setattr(console.time, "monotonic", lambda: now["s"])
    return now


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00:00"), (59.6, "0:01:00"), (3610, "1:00:10"), (90000, "25:00:00")]
)
def test_hours(seconds: float, text: str) -> None:
    assert hours(seconds) == text


def test_a_line_of_progress_has_rate_and_time_left(clock: dict[str, float]) -> None:
    """600 of 2,400 files in 30 s are 20 files/s: 1,800 take 90 s."""
    progress = Progress("convert", total=2400, unit="file")
    clock["s"] = 1010
    progress.update(600)
    assert progress.line(1030) == "convert: 600 of 2,400 files (25%), 20 files/s, 0:01:30 left"


def test_the_rate_is_that_of_the_last_five_minutes(clock: dict[str, float]) -> None:
    """Ten lines of 30 s with 3 files each, then ten with 300: the first ones no longer count."""
    progress = Progress("convert", total=10_000, unit="file")
    for count in (3,) * 10 + (300,) * 10:
        clock["s"] += 30
        progress.update(count)
        line = progress.line(clock["s"])
    assert line == "convert: 3,030 of 10,000 files (30%), 10 files/s, 0:11:37 left"


def test_waiting_is_shown(clock: dict[str, float]) -> None:
    progress = Progress("curate", total=4, unit="shard")
    assert progress.line(1090) == "curate: 0 of 4 shards (0%), none for 0:01:30"
    clock["s"] = 1100
    progress.update()
    assert progress.line(1120) == "curate: 1 of 4 shards (25%), 0.0083 shards/s, 0:06:00 left"
    assert progress.last_line(1125) == "curate: 1 of 4 shards in 0:02:05, 0.008 shards/s"


def test_a_log_gets_lines_and_no_carriage_return(
    capsys: pytest.CaptureFixture[str], logged: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LINE_SECONDS", 0.05)
    with progress_bar("convert", total=10, unit="file") as progress:
        progress.update(4)
        while not logged:
            time.sleep(0.01)
        progress.update(6)
    shown = capsys.readouterr().err
    assert shown.startswith("convert: 4 of 10 files (40%), ")
    assert re.search(r"\nconvert: 10 of 10 files in 0:00:0\d, \d+ files/s\n$", shown)
    assert "\r" not in shown
    assert logged == [("progress", line) for line in shown.splitlines()]


def test_work_that_failed_has_no_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), progress_bar("convert", total=10, unit="file"):
        raise KeyError
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar_and_the_log_gets_lines(
    monkeypatch: pytest.MonkeyPatch, logged: list[tuple[str, str]]
) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar("convert", total=10, unit="file") as progress:
        progress.update(10)
    assert "\rconvert: 100%" in terminal.getvalue()
    assert [kind for kind, _ in logged] == ["progress"]


def test_tables_are_plain_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], logged: list[tuple[str, str]]
) -> None:
    table = Table("name", "count", title="rows")
    table.add_row("[bold]train[/bold]", "12")
    print_tables(table)
    shown = capsys.readouterr().err
    assert "train" in shown
    assert "\x1b" not in shown
    assert not [line for line in shown.splitlines() if line != line.rstrip()]
    assert logged == [("line", shown.rstrip("\n"))]


def test_lines_and_result_go_to_their_streams_and_to_the_log(
    capsys: pytest.CaptureFixture[str], logged: list[tuple[str, str]]
) -> None:
    print_line("convert: 3 files")
    print_result("/out")
    shown = capsys.readouterr()
    assert (shown.err, shown.out) == ("convert: 3 files\n", "/out\n")
    assert logged == [("line", "convert: 3 files"), ("result", "/out")]


def test_lines_that_match_are_left_out_whoever_writes_them(capfd: pytest.CaptureFixture[str]) -> None:
    """In the middle of a progress bar too; afterwards nothing is left out."""
    with stderr_without(NOISE):
        print_line("first")
        os.write(2, b"bar 10%[noise] of a library\n")
        subprocess.run([sys.executable, "-c", "import os; os.write(2, b'[noise] of a process\\nkept\\n')"], check=True)
        os.write(2, b"bar 20%\n")
    os.write(2, b"[noise] afterwards\n")
    assert capfd.readouterr().err == "first\nbar 10%kept\nbar 20%\n[noise] afterwards\n"


def test_more_than_a_pipe_holds_arrives(capfd: pytest.CaptureFixture[str]) -> None:
    with stderr_without(NOISE):
        for number in range(40):
            os.write(2, bytes([65 + number % 26]) * 10_000)
    shown = capfd.readouterr().err
    assert len(shown) == 400_000
    assert shown[390_000] == "N"  # of the last, number 39


def test_an_error_within_restores_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        os.write(2, b"[noise] before\n")
        raise KeyError

    with pytest.raises(KeyError), stderr_without(NOISE):
        fail()
    os.write(2, b"[noise] after\n")
    assert capfd.readouterr().err == "[noise] after\n"
