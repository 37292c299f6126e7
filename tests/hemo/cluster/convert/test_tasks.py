"""Faults of storage and workers: retried, or reported in one line; never a wrong row, never for ever."""

import errno
import os
import re
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from hemo.cluster.convert import tasks
from hemo.cluster.convert.tasks import (
    Outcome,
    UnitFailure,
    convert_batch,
    convert_units,
    cpus_to_fill,
    taken_in_time,
    task_batches,
)
from hemo.config.convert import ConvertConfig
from hemo.corpus.sources import media_of
from hemo.errors import HemoError
from hemo.imaging.settings import image_settings
from hemo.pseudonym import Pseudonymiser, pseudonymiser
from hemo.shards.convert_unit import UnitTask
from hemo.shards.manifest import Unit
from tests.dicom_files import dicom_bytes, head_hu
from tests.faulty_storage import end_wait, faulty_uri, plan_fault
from tests.units import unit_of

FILES, UNITS = 12, 4
Convert = Callable[..., list[Outcome]]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(FILES):
        pixels = head_hu() + 1024
        pixels[0, 0] = number
        (folder / f"JANE_{number}.dcm").write_bytes(dicom_bytes(pixels))
    return folder


@pytest.fixture
def units(corpus: Path) -> list[Unit]:
    names = sorted(file.name for file in corpus.iterdir())
    return [unit_of(corpus, number, *names[3 * number : 3 * number + 3]) for number in range(UNITS)]


@pytest.fixture
def task(corpus: Path) -> Callable[..., UnitTask]:
    def made(source: str, pseudonyms: Pseudonymiser = Pseudonymiser()) -> UnitTask:  # noqa: B008 (it is frozen)
        config = ConvertConfig(source=str(corpus), corpus="rsna", out=str(corpus.parent / "out"), side_px=16)
        return UnitTask(
            source,
            image_settings(config, media_of(config.source, config.corpus), pseudonyms),
            pseudonyms,
            read_threads=2,
        )

    return made


@pytest.fixture
def convert(corpus: Path, units: list[Unit], task: Callable[..., UnitTask], ray_cluster: None) -> Convert:
    """Convert the corpus on storage with faults, on the cluster."""

    def run(*pseudonyms: Pseudonymiser) -> list[Outcome]:
        out = faulty_uri(corpus.parent / "out")
        return sorted(
            convert_units(task(faulty_uri(corpus), *pseudonyms), units, out), key=lambda outcome: outcome.unit
        )

    return run


def shards(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "shards").glob("*.parquet")}


@pytest.fixture
def undisturbed(units: list[Unit], corpus: Path, task: Callable[..., UnitTask]) -> dict[str, bytes]:
    """Return the shards that one process makes of the corpus on a disk."""
    out = corpus.parent / "undisturbed"
    assert len(list(convert_batch(units, task=task(str(corpus)), out=str(out)))) == UNITS
    return shards(out)


@pytest.mark.parametrize(
    ("place", "fault"),
    [("corpus/JANE_4.dcm", "EIO"), ("corpus/JANE_4.dcm", "ETIMEDOUT"), ("out/shards/unit-000002.parquet", "EIO"),
     ("corpus/JANE_4.dcm", "exit")],
)  # fmt: skip
def test_what_passes_leaves_no_trace(place, fault, convert, undisturbed, tmp_path):
    """A storage that fails once, or a worker that dies once."""
    plan_fault(tmp_path / place, fault, times=1)
    assert [outcome.unit for outcome in convert()] == [0, 1, 2, 3]
    assert not (tmp_path / f"{place}.fault").exists()
    assert shards(tmp_path / "out") == undisturbed


@pytest.mark.parametrize(
    ("place", "fault", "line"),
    [
        ("corpus/JANE_4.dcm", "EIO", r"convert stopped: OSError: .*JANE_4\.dcm: Input/output error; run it again"),
        (
            "out/shards/unit-000002.parquet",
            "ENOSPC",
            r"unit-000002\.parquet: No space left on device; free some, .*; run it again",
        ),
        (
            "out/shards/unit-000002.parquet",
            "EDQUOT",
            r"unit-000002\.parquet: Disk quota exceeded; free some, .*; run it again",
        ),
        (
            "out/shards/unit-000002.parquet",
            "MemoryError",
            r"a worker ran out of memory; lower cluster.cpus .*; run it again",
        ),
        (
            "corpus/JANE_4.dcm",
            "exit",
            r"the worker of units \d to \d died 2 times, out of memory or in a decoder; .*; run it again",
        ),
    ],
)
def test_what_stays_stops_the_job_with_one_line(place, fault, line, convert, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr("hemo.cluster.ray_data.RETRIES", 1)
    monkeypatch.setattr("hemo.cluster.convert.tasks.LOST_WORKERS", 1)
    plan_fault(tmp_path / place, fault)
    with pytest.raises(HemoError, match=line) as caught:
        convert()
    assert "\n" not in str(caught.value)
    written = shards(tmp_path / "out")
    assert written.items() <= undisturbed.items()
    assert len(written) < UNITS


def test_a_slow_node_holds_up_its_own_unit_alone(convert, undisturbed, tmp_path, task, units, corpus):
    """A file that is not there until the units of all others are done: were they held up, it would never be."""
    slow = tmp_path / "corpus/JANE_0.dcm"
    plan_fault(slow, "wait", times=1)
    order = []
    for outcome in convert_units(task(faulty_uri(corpus)), units, faulty_uri(tmp_path / "out")):
        order.append(outcome.unit)
        if len(order) == UNITS - 1:
            end_wait(slow)
    assert (sorted(order), order[-1]) == ([0, 1, 2, 3], 0)
    assert shards(tmp_path / "out") == undisturbed


@pytest.mark.usefixtures("ray_cluster")
def test_what_a_slow_task_leaves_is_converted_after_the_others(undisturbed, tmp_path, task, units, corpus, monkeypatch):
    """Of the tasks of one and three units each does one, as there is no time for more: 2 and 3 are left."""
    monkeypatch.setattr("hemo.cluster.convert.tasks.TASK_S", 0.0)
    monkeypatch.setattr("hemo.cluster.convert.tasks.task_batches", lambda units, cpus: [units[:1], units[1:]])
    order = [outcome.unit for outcome in convert_units(task(str(corpus)), units, str(tmp_path / "out"))]
    assert (sorted(order[:2]), sorted(order[2:])) == ([0, 1], [2, 3])
    assert shards(tmp_path / "out") == undisturbed


@pytest.mark.parametrize(("unit_s", "taken"), [(10.0, 3), (16.0, 2), (400.0, 1)])
def test_a_task_begins_no_unit_after_its_time(monkeypatch, unit_s, taken):
    """Units of 10 s begin at 0, 10 and 20 s of 30; of 16 s at 0 and 16."""
    clock = [1000.0]
    monkeypatch.setattr("hemo.cluster.convert.tasks.time.monotonic", lambda: clock[0])
    waiting = deque(Unit(number, ()) for number in range(5))
    begun = []
    for unit in taken_in_time(waiting, 30.0):
        begun.append(unit.number)
        clock[0] += unit_s
    assert begun == list(range(taken))
    assert [unit.number for unit in waiting] == list(range(taken, 5))


def test_a_full_disk_is_stated_with_the_file_once(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    location = str(tmp_path / "unit-000000.parquet")
    with pytest.raises(OSError, match=rf"^\[Errno 28\] {re.escape(location)}: No space left on device$"):
        tasks._commit(location, pa.py_buffer(b"rows"), None)


def test_a_full_disk_is_not_tried_again(convert, tmp_path):
    plan_fault(tmp_path / "out/shards/unit-000002.parquet", "ENOSPC", times=1)
    with pytest.raises(HemoError, match="No space left on device"):
        convert()


FAILURES = {
    "vanished": r"JANE_4\.dcm: No such file or directory",
    "unreadable": r"JANE_4\.dcm: Permission denied",
    "grown": r"JANE_4\.dcm changed after the corpus was listed",
}


def fail(corpus: Path, how: str) -> None:
    file = corpus / "JANE_4.dcm"
    if how == "vanished":
        file.unlink()
    elif how == "unreadable":
        plan_fault(file, "EACCES")
    else:
        file.write_bytes(file.read_bytes() + b"more")


@pytest.mark.parametrize("how", FAILURES)
def test_a_file_that_cannot_be_read_fails_its_unit_alone(how, convert, corpus, undisturbed, tmp_path):
    fail(corpus, how)
    failures = [outcome for outcome in convert() if isinstance(outcome, UnitFailure)]
    failing = next(iter(failures)).unit
    assert [re.search(FAILURES[how], failure.reason) is not None for failure in failures] == [True]
    assert shards(tmp_path / "out") == {
        name: data for name, data in undisturbed.items() if name != f"unit-{failing:06d}.parquet"
    }


@pytest.mark.parametrize("how", FAILURES)
def test_under_a_key_the_reason_names_the_unit_and_no_file(how, convert, corpus):
    fail(corpus, how)
    outcomes = convert(pseudonymiser(b"a secret of sixteen bytes"))
    (reason,) = [outcome.reason for outcome in outcomes if isinstance(outcome, UnitFailure)]
    assert re.match(r"a file of unit \d", reason)
    assert "JANE" not in reason


def test_under_a_key_a_passing_fault_that_stays_names_no_file(convert, corpus, monkeypatch):
    monkeypatch.setattr("hemo.cluster.ray_data.RETRIES", 0)
    plan_fault(corpus / "JANE_4.dcm", "EIO")
    with pytest.raises(HemoError, match=r"OSError: a file of unit \d: Input/output error") as caught:
        convert(pseudonymiser(b"a secret of sixteen bytes"))
    assert "JANE" not in str(caught.value)


@pytest.mark.parametrize(
    ("units", "cpus", "sizes"), [(6, 1, [1, 2, 1, 1, 1]), (41, 2, [1, 8, 8, 6, 4, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1])]
)
def test_batches_are_large_after_the_first_and_single_in_the_end(units, cpus, sizes):
    """(6 - 1) // (2 x 1) is 2, then (6 - 3) // 2 is 1."""
    dealt = task_batches([Unit(number, ()) for number in range(units)], cpus=cpus)
    assert [len(batch) for batch in dealt] == sizes
    assert [unit.number for batch in dealt for unit in batch] == list(range(units))


@pytest.mark.parametrize(
    ("nodes", "cpus"),
    [
        ([8], 8),  # a machine of its own
        ([0], 64),  # a head that waits for its first node
        ([0, 8], 64),
        ([0, 64, 64], 128),
        ([8, None], 8),  # another is gone
    ],
)
def test_units_are_divided_for_a_cluster_that_may_grow(nodes, cpus):
    listed = [{"Alive": has is not None, "Resources": {"CPU": has} if has else {}} for has in nodes]
    assert cpus_to_fill(listed) == cpus
