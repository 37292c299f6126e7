"""The log of a job beside its output: what is in it, when it is written, and what it costs the job: nothing."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from hemo import job_log
from hemo.console import print_line, print_result
from hemo.errors import HemoError, LockedError, SourceError
from hemo.job_log import JobLog, is_job_log, last_lines
from hemo.storage import list_files, read_bytes

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


@pytest.fixture(params=["disk", "bucket"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An output folder that does not exist yet."""
    yield str(tmp_path / "out") if request.param == "disk" else "memory://job-log/out"
    fsspec.filesystem("memory").store.clear()


def lines_of(out: str) -> list[str]:
    """Return kind and text of every line of the only log, all pieces of it; each line has a time."""
    files = list_files(out)
    assert all(is_job_log(file) for file in files)
    lines = [line for file in sorted(files, key=len) for line in read_bytes(f"{out}/{file}").decode().splitlines()]
    assert all(re.match(rf"{TIME} ", line) for line in lines)
    return [" ".join(line.split()[1:]) for line in lines]


def test_a_log_has_what_the_job_prints(out: str) -> None:
    log = JobLog(out, "convert", public=True)
    log.add("begin", "hemo convert")
    with log.keep():
        print_line("convert: 3 files\nin 2 units")
        print_result("/out")
    log.write()
    print_line("of another job")
    log.write()
    assert lines_of(out) == ["begin hemo convert", "line convert: 3 files", "line in 2 units", "result /out"]
    assert re.fullmatch(r"log/\d{8}T\d{6}Z-convert-[0-9a-f]{8}\.txt", list_files(out)[0])


def test_a_killed_job_leaves_what_it_had(out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_log, "WRITE_EVERY_S", 0.02)
    log = JobLog(out, "tune", public=True)
    with log.keep():
        print_line("first")
        while not log.written:
            time.sleep(0.01)
        assert lines_of(out) == ["line first"]
        print_line("second")
        while len(lines_of(out)) < 2:
            time.sleep(0.01)
    assert lines_of(out) == ["line first", "line second"]


def test_a_large_log_on_a_bucket_is_several_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is written again until it has more than 100 bytes: two lines of 60."""
    monkeypatch.setattr(job_log, "PIECE_BYTES", 100)
    out, log = "memory://pieces/out", JobLog("memory://pieces/out", "tune", public=True)
    for number in range(5):
        log.add("line", f"{number}" + 30 * ".")
        log.write()
    names = sorted(list_files(out), key=len)
    assert [re.sub(r".*-[0-9a-f]{8}", "", name) for name in names] == [".txt", ".2.txt", ".3.txt"]
    assert [line[5] for line in lines_of(out)] == list("01234")
    assert [line.rstrip(".")[-1] for line in last_lines(out, 2)] == ["4"]  # the last object has one
    fsspec.filesystem("memory").store.clear()


def test_a_log_that_cannot_be_written_costs_the_job_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is printed once; what was not written is written later."""
    (tmp_path / "log").write_text("in the way")
    log = JobLog(str(tmp_path), "convert", public=True)
    with log.keep():
        print_line("first")
        log.write()
        log.write()
    assert not log.written
    shown = capsys.readouterr().err.splitlines()
    assert shown == ["first", f"log: {tmp_path}/log cannot be written (File exists); these lines are here only"]
    (tmp_path / "log").unlink()
    log.write()
    assert lines_of(str(tmp_path))[0] == "line first"


def test_no_password_of_a_database_is_in_it(out: str) -> None:
    log = JobLog(out, "tune", public=True)
    log.add("line", "cannot reach postgresql://me:sesame@host/db")
    log.add_error(HemoError("x"), "postgresql://me:sesame@host/db is away")
    log.write()
    assert lines_of(out) == [
        "line cannot reach postgresql://me:***@host/db",
        "error postgresql://me:***@host/db is away",
    ]


def raised(error: Exception) -> Exception:
    """Return an error with a traceback."""
    try:
        raise error
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "message", "public", "keyed"),
    [
        (SourceError("DOE/1.dcm is gone"), "DOE/1.dcm is gone", "DOE/1.dcm is gone", "SourceError; its text may name"),
        (LockedError("out: busy"), "out: busy", "out: busy", "out: busy"),
        (KeyError("DOE"), "", "KeyError: 'DOE'", "KeyError at test_job_log.py:"),
    ],
)
def test_under_a_key_an_error_names_no_file(
    tmp_path: Path, error: Exception, message: str, public: str, keyed: str
) -> None:
    texts = []
    for name, is_public in (("public", True), ("keyed", False)):
        log = JobLog(str(tmp_path / name), "convert", public=is_public)
        log.add_error(raised(error), message)
        log.write()
        texts.append("\n".join(lines_of(str(tmp_path / name))))
    assert public in texts[0]
    assert keyed in texts[1]
    assert "DOE" not in texts[1]


def test_the_last_lines_are_those_of_the_newest_log(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "20261127T060000Z-tune-0000000a.txt").write_text("old\n")
    (folder / "20261127T070000Z-train-00000001.txt").write_text("one\ntwo\nthree \x1b[31mred\n")
    (folder / "of the user.txt").write_text("no log\n")
    assert last_lines(str(tmp_path), 2) == ["two", "three \N{REPLACEMENT CHARACTER}[31mred"]
    assert last_lines(str(tmp_path), 0) == last_lines(str(tmp_path / "other"), 3) == []


@pytest.mark.parametrize(
    ("path", "log"),
    [
        ("log/20261127T060000Z-phantom-0123abcd.txt", True),
        ("log/20261127T060000Z-phantom-0123abcd.2.txt", True),
        ("log/ID_1.dcm", False),
        ("x/log/20261127T060000Z-phantom-0123abcd.txt", False),
    ],
)
def test_a_log_is_known_by_its_path(path: str, log: bool) -> None:
    assert is_job_log(path) is log
