import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hemo.errors import OutputError
from hemo.output_lock import LOCK_FILE, output_lock, report_no_lock

HOLDER = """
import sys, time
from hemo.output_lock import output_lock
with output_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held_elsewhere(folder: Path) -> Iterator[subprocess.Popen[str]]:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        yield holder
        os.kill(holder.pid, signal.SIGKILL)


def test_a_killed_process_holds_a_folder_no_longer(tmp_path):
    """The error names process, host and time; the file it leaves behind is no lock."""
    with held_elsewhere(tmp_path) as holder:
        described = (
            rf"process {holder.pid} on {re.escape(socket.gethostname())}, since \d{{4}}-\d\d-\d\d [\d:]{{8}} UTC"
        )
        wanted = rf"^out: another run is writing in {re.escape(str(tmp_path))} \({described}\); wait .* another folder$"
        with pytest.raises(OutputError, match=wanted), output_lock(str(tmp_path)):
            pass
    assert (tmp_path / LOCK_FILE).exists()
    with output_lock(str(tmp_path)):
        pass
    assert not list(tmp_path.iterdir())


def test_a_refused_run_leaves_the_lock_to_its_holder(tmp_path):
    with output_lock(str(tmp_path)):
        for _ in range(2):
            with pytest.raises(OutputError, match="another run is writing in"), output_lock(str(tmp_path)):
                pass
        assert (tmp_path / LOCK_FILE).exists()


def test_an_error_releases_the_lock(tmp_path):
    with pytest.raises(ValueError, match="inside"), output_lock(str(tmp_path)):
        raise ValueError("inside")
    with output_lock(str(tmp_path)):
        pass


def _count(folder: str, counter: Path, times: int) -> None:
    """Add one, unprotected, as often as the lock is had."""
    done = 0
    while done < times:
        try:
            with output_lock(folder):
                counter.write_text(str(int(counter.read_text()) + 1))
            done += 1
        except OutputError:
            continue


def test_the_lock_excludes_although_its_file_comes_and_goes(tmp_path):
    """Each holder removes the file while others open it; a lost update would show."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_count, args=(str(tmp_path / "out"), counter, 60)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert counter.read_text() == "180"


def test_temporary_files_go_before_and_after_and_nothing_else(tmp_path):
    def leave(name: str) -> None:
        for folder in (tmp_path, tmp_path / "shards", tmp_path / "other"):
            folder.mkdir(exist_ok=True)
            (folder / name).touch()

    def names() -> set[str]:
        files = (path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
        return {str(file) for file in files if file.name != LOCK_FILE}

    hidden = {".hidden.tmp", "shards/.hidden.tmp", "other/.hidden.tmp"}
    leave(".card.json.0123456789abcdef.tmp")
    leave(".hidden.tmp")
    with output_lock(str(tmp_path), ("shards",)):
        assert names() == {*hidden, "other/.card.json.0123456789abcdef.tmp"}
        leave(".card.json.fedcba9876543210.tmp")
    assert names() == {
        *hidden,
        *(f"other/.card.json.{digits}.tmp" for digits in ("0123456789abcdef", "fedcba9876543210")),
    }


@pytest.fixture(autouse=True)
def _nothing_said_yet():
    report_no_lock.cache_clear()


def test_a_bucket_has_no_lock_which_is_said_once(capsys):
    with output_lock("memory://bucket/out"), output_lock("memory://bucket/out"), output_lock("memory://bucket/other"):
        pass
    line = "out: this storage has no file locks, so a second run is not noticed: see to it that there is none\n"
    assert capsys.readouterr().err == line


def test_a_disk_without_locks_is_written_all_the_same(tmp_path, monkeypatch, capsys):
    def unsupported(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with output_lock(str(tmp_path)), output_lock(str(tmp_path)):
        pass
    assert capsys.readouterr().err.count("has no file locks") == 1


def test_a_folder_that_cannot_be_written_is_refused():
    with pytest.raises(OutputError, match="cannot write in /proc/hemo"), output_lock("/proc/hemo"):
        pass


def test_the_lock_needs_no_ray():
    code = "import sys, hemo.output_lock; print([name for name in ('ray', 'torch', 'pyarrow') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
