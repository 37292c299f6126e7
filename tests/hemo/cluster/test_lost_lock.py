"""Jobs whose output folder another run has taken over, as on a bucket: without Ray, on hand-made input."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hemo.cluster import curate
from hemo.cluster.convert import job
from hemo.config.convert import ConvertConfig
from hemo.config.curate import CurateConfig
from hemo.errors import LockedError
from hemo.library import shards
from hemo.library.shards import ShardWriter
from hemo.shards.convert_unit import UnitTask, build_shard
from hemo.shards.manifest import Unit
from hemo.shards.schema import ShardFooter
from hemo.storage import join, write_bytes
from tests.dicom_files import write_slices
from tests.made_shards import write_conversion


def lost_at(check: int) -> Callable[..., Any]:
    """Return a lock that is another run's from the `check`th time on that it is asked for, 0-based."""

    @contextmanager
    def lock(*_: object) -> Iterator[Callable[[], None]]:
        checks = iter(range(100))

        def require_held() -> None:
            if next(checks) >= check:
                raise LockedError("taken over")

        yield require_held

    return lock


def files_below(folder: str) -> dict[str, bytes]:
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def curated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CurateConfig:
    """Return the config of a training set that is there, of labels that have changed since."""

    def alone(unit: str, work: Any, tables: Any, **shared: Any) -> list[str]:
        return [work(table, **shared)["done"][0].as_py() for table in tables]

    monkeypatch.setattr(curate, "_run", alone)
    labels = tmp_path / "labels.csv"
    config = CurateConfig(
        shards=write_conversion(tmp_path / "shards", [{}] * 40), labels=str(labels), out=str(tmp_path / "set")
    )
    for every in (3, 4):
        labels.write_text("\n".join(["Image,any", *(f"ID_{n:03d},{int(n % every == 0)}" for n in range(40))]))
        if every == 3:
            curate.curate_corpus(config)
    return config


@pytest.mark.parametrize(
    ("check", "buckets", "audit"),
    [(1, True, False), (2, False, True)],
    ids=["before the buckets go", "before the card"],
)
def test_curate_stops(curated, monkeypatch, check, buckets, audit):
    monkeypatch.setattr(curate, "output_lock", lost_at(check))
    with pytest.raises(LockedError, match="taken over"):
        curate.curate_corpus(curated)
    files = files_below(curated.out)
    assert any(name.startswith(curate.BUCKETS) for name in files) == buckets
    assert ("audit.parquet" in files) == audit
    assert not {"card.json", "croissant.json"} & set(files)


def test_curate_stops_before_it_removes_what_another_run_may_be_writing(curated, monkeypatch):
    before = files_below(curated.out)
    monkeypatch.setattr(curate, "output_lock", lost_at(0))
    with pytest.raises(LockedError, match="taken over"):
        curate.curate_corpus(curated)
    assert "card.json" in before
    assert files_below(curated.out) == before


def test_curate_stops_before_it_changes_what_a_card_says_of_the_data_set(curated, monkeypatch):
    curate.curate_corpus(curated)
    before = files_below(curated.out)
    monkeypatch.setattr(curate, "output_lock", lost_at(0))
    with pytest.raises(LockedError, match="taken over"):
        curate.curate_corpus(curated.model_copy(update={"dataset": {"name": "other"}}))
    assert files_below(curated.out) == before


def convert_alone(
    task: UnitTask, units: list[Unit], done: object, out: str, max_reject_fraction: float
) -> dict[int, ShardFooter]:
    """Do in this process what Ray does on many."""
    footers = {}
    for unit in units:
        buffer, footers[unit.number] = build_shard(task, unit)
        write_bytes(join(out, unit.shard), memoryview(buffer))
    return footers


def test_convert_stops_before_the_card_and_before_it_removes_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "_convert_units", convert_alone)
    corpus = write_slices(tmp_path / "corpus", 4)
    config = ConvertConfig(source=str(corpus), corpus="rsna", out=str(tmp_path / "out"), side_px=16, unit_files=2)
    with monkeypatch.context() as patch:
        patch.setattr(job, "output_lock", lost_at(1))
        with pytest.raises(LockedError, match="taken over"):
            job.convert_corpus(config)
    unfinished = {"manifest.parquet", "index.parquet", "rejects.parquet"}
    assert set(files_below(config.out)) == {*unfinished, "shards/unit-000000.parquet", "shards/unit-000001.parquet"}
    job.convert_corpus(config)
    before = files_below(config.out)
    assert "card.json" in before
    sorted(corpus.iterdir())[0].unlink()
    monkeypatch.setattr(job, "output_lock", lost_at(0))
    with pytest.raises(LockedError, match="taken over"):
        job.convert_corpus(config)
    assert files_below(config.out) == before


@pytest.mark.parametrize("fails", [False, True])
def test_a_shard_writer_leaves_the_files_of_another_run_alone(tmp_path, monkeypatch, fails):
    """Also where its own images end in an error, after which it removes what it wrote."""
    monkeypatch.setattr(shards, "output_lock", lost_at(1))  # the first check is before it empties the folder
    out = tmp_path / "out"

    def write() -> None:
        with ShardWriter(str(out), channels=("grey",), side_px=4) as writer:
            writer.write(np.zeros((4, 4), np.uint8), image_id="a")
            (out / "shards").mkdir(parents=True)
            (out / "shards" / "theirs").touch()
            if fails:
                raise ValueError("no more images")

    with pytest.raises(LockedError, match="taken over"):
        write()
    assert "shards/theirs" in files_below(str(out))
    assert "card.json" not in files_below(str(out))
