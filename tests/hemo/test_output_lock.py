import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import fsspec
import pytest

from hemo.errors import LockedError, OutputError
from hemo.output_lock import LOCK_FILE, output_lock, report_no_lock
from hemo.storage import create_object
from tests.s3 import s3_environment  # noqa: F401 (a fixture)

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


@pytest.fixture
def bucket(monkeypatch):
    """An object store on which a lock is renewed each 50 ms and a holder is dead after 400 ms."""
    monkeypatch.setattr("hemo.output_lock.RENEWAL_S", 0.05)
    monkeypatch.setattr("hemo.output_lock.LEASE_S", 0.4)
    fs = fsspec.filesystem("memory")
    yield fs
    for file in fs.find("/bucket"):
        fs.rm_file(file)


def lock_object(fs) -> dict[str, object]:
    content = json.loads(fs.cat_file(f"/bucket/out/{LOCK_FILE}"))
    assert isinstance(content, dict)
    return content


def test_a_bucket_is_held_by_one_run(bucket):
    bucket.pipe_file("/bucket/other", b"")
    wanted = rf"another run is writing in memory://bucket/out \(process {os.getpid()} on .*, since .* UTC\); wait until"
    with output_lock("memory://bucket/out"):
        with pytest.raises(LockedError, match=wanted), output_lock("memory://bucket/out"):
            pass
        with output_lock("memory://bucket/elsewhere"):
            pass
        assert lock_object(bucket)["renewals"] != 0
    assert bucket.find("/bucket") == ["/bucket/other"]


def test_a_killed_run_holds_a_bucket_for_as_long_as_a_lease(bucket, capsys):
    left = json.dumps({"process": 7, "host": "node", "since": "yesterday", "run": "a", "renewals": 3})
    bucket.pipe_file(f"/bucket/out/{LOCK_FILE}", left.encode())
    began = time.monotonic()
    with output_lock("memory://bucket/out"):
        assert time.monotonic() - began >= 0.4
        assert lock_object(bucket)["process"] == os.getpid()
    assert "in use by another run (process 7 on node, since yesterday); up to 0 s show" in capsys.readouterr().err


def test_a_run_that_ends_meanwhile_is_not_waited_for(bucket, monkeypatch):
    monkeypatch.setattr("hemo.output_lock.LEASE_S", 60.0)
    bucket.pipe_file(f"/bucket/out/{LOCK_FILE}", b"{}")
    Timer(0.2, lambda: bucket.rm_file(f"/bucket/out/{LOCK_FILE}")).start()
    began = time.monotonic()
    with output_lock("memory://bucket/out"):
        assert time.monotonic() - began < 30


def test_who_looks_again_and_again_waits_for_no_holder(bucket):
    """One that lives is refused each time; one that has died gives way once it was seen unchanged for a lease."""
    seen = {}

    def attempt() -> bool:
        try:
            with output_lock("memory://bucket/out", seen=seen):
                return True
        except LockedError:
            return False

    began = time.monotonic()
    with output_lock("memory://bucket/out"):
        while time.monotonic() - began < 1.0:
            assert not attempt()
            time.sleep(0.06)
    assert attempt()
    bucket.pipe_file(f"/bucket/out/{LOCK_FILE}", b'{"run": "killed"}')
    began = time.monotonic()
    assert not attempt()
    assert time.monotonic() - began < 0.3
    time.sleep(0.45)
    assert attempt()
    assert not bucket.exists(f"/bucket/out/{LOCK_FILE}")


def test_a_run_whose_bucket_was_taken_over_ends_with_an_error_and_leaves_the_lock(bucket):
    def work() -> None:
        with output_lock("memory://bucket/out"):
            bucket.pipe_file(f"/bucket/out/{LOCK_FILE}", b'{"run": "another"}')
            time.sleep(0.3)

    with pytest.raises(LockedError, match="another run has taken memory://bucket/out over"):
        work()
    assert lock_object(bucket) == {"run": "another"}


TAKEN = "another run has taken memory://bucket/out over"


@pytest.mark.parametrize("there", [b'{"run": "another"}', b"not json", None])
def test_a_run_that_lost_its_bucket_is_stopped_before_it_writes_what_counts(bucket, monkeypatch, there):
    """Also before a renewal has met the other's lock; afterwards the object is as the other left it."""
    monkeypatch.setattr("hemo.output_lock.RENEWAL_S", 60.0)
    place, wrote = f"/bucket/out/{LOCK_FILE}", []

    def work() -> None:
        with output_lock("memory://bucket/out") as require_held:
            require_held()
            bucket.rm_file(place) if there is None else bucket.pipe_file(place, there)
            require_held()
            wrote.append("card.json")

    with pytest.raises(LockedError, match=TAKEN):
        work()
    assert wrote == []
    assert (bucket.cat_file(place) if bucket.exists(place) else None) == there


def test_a_run_that_ends_after_it_lost_its_bucket_leaves_the_others_lock(bucket, monkeypatch):
    monkeypatch.setattr("hemo.output_lock.RENEWAL_S", 60.0)

    def work() -> None:
        with output_lock("memory://bucket/out"):
            bucket.pipe_file(f"/bucket/out/{LOCK_FILE}", b'{"run": "another"}')

    with pytest.raises(LockedError, match=TAKEN):
        work()
    assert lock_object(bucket) == {"run": "another"}


def test_a_lock_that_somebody_removed_is_not_made_again(bucket):
    """Between two holders there is no object for a moment."""

    def work() -> None:
        with output_lock("memory://bucket/out"):
            bucket.rm_file(f"/bucket/out/{LOCK_FILE}")
            time.sleep(0.3)
            assert not bucket.exists(f"/bucket/out/{LOCK_FILE}")

    with pytest.raises(LockedError, match=TAKEN):
        work()


def test_a_folder_on_a_disk_is_held_until_the_end(tmp_path):
    with output_lock(str(tmp_path)) as require_held:
        (tmp_path / LOCK_FILE).unlink()  # the lock is of the system
        require_held()


def test_a_storage_that_fails_for_a_moment_costs_no_lock(bucket, monkeypatch):
    failures = []

    def fails(location, data):
        failures.append(location)
        raise OSError("503")

    with output_lock("memory://bucket/out"):
        with monkeypatch.context() as patch:
            patch.setattr("hemo.output_lock.write_bytes", fails)
            time.sleep(0.2)
        time.sleep(0.2)
        assert lock_object(bucket)["renewals"] >= 1
    assert failures
    assert not bucket.exists(f"/bucket/out/{LOCK_FILE}")


def test_of_several_runs_one_gets_a_bucket(s3_environment):  # noqa: F811
    """S3 itself decides who creates the object."""
    fsspec.filesystem("s3").mkdir("bucket")

    def create(number: int) -> bool:
        try:
            create_object("s3://bucket/out/lock", str(number).encode())
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(create, range(40)))
    assert sum(created) == 1
    assert fsspec.filesystem("s3").cat_file("bucket/out/lock") == str(created.index(True)).encode()


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


def test_a_refused_run_leaves_no_folder_that_it_made(tmp_path):
    inner = tmp_path / "new" / "inner"
    with pytest.raises(ValueError, match="refused"), output_lock(str(inner)):
        raise ValueError("refused")
    assert list(tmp_path.iterdir()) == []
    inner.parent.mkdir()
    with pytest.raises(ValueError, match="refused"), output_lock(str(inner)):
        raise ValueError("refused")
    assert list(tmp_path.rglob("*")) == [inner.parent]
    inner.mkdir()
    (inner / "earlier").touch()
    with pytest.raises(ValueError, match="refused"), output_lock(str(inner)):
        raise ValueError("refused")
    assert list(inner.iterdir()) == [inner / "earlier"]
