"""Shards to buckets to parts, without Ray."""

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hemo.config.curate import CurateConfig
from hemo.corpus.labels import LabelTable
from hemo.curation import copy
from hemo.curation import plan as plan_module
from hemo.curation.copy import CopyTask, write_buckets, write_part
from hemo.curation.labelled_index import read_index
from hemo.curation.plan import COPY_SCHEMA, CopyPlan, ImageLayout, plan_copies
from hemo.curation.select import select
from hemo.errors import HemoError, SourceError
from hemo.shards.schema import FOOTER_KEY, ROW_SCHEMA
from tests.counted_storage import fetches  # noqa: F401 (a fixture)
from tests.made_shards import write_conversion

IMAGES = [{"series": f"S{n // 5}", "patient": f"P{n // 5}", "position_mm": float(n)} for n in range(100)]


def labelled(shards: str) -> tuple[pa.Table, LabelTable]:
    """Return the index of a conversion and a table by which every second image is positive."""
    index = read_index(shards)
    values = (np.arange(len(index)) % 2).astype(np.uint8)[:, None]
    return index, LabelTable(("any",), index["image_id"].combine_chunks(), values, 0)


def planned(folder: Path, slots: int) -> tuple[CopyTask, CopyPlan]:
    shards = write_conversion(folder / "shards", IMAGES, unit_rows=7)
    layout = ImageLayout(("brain", "subdural"), "uint8", 2, 2, slots)
    selection = select(CurateConfig(shards=shards, labels="l", out="o"), *labelled(shards))
    plan = plan_copies(selection, layout, part_rows=30, seed=0)
    return CopyTask(shards, str(folder / "buckets"), str(folder / "set"), layout, json.dumps({"x": 1})), plan


def copied(task: CopyTask, plan: CopyPlan) -> pa.Table:
    reads = list(plan.copies_by_read())
    for copies in reads:
        write_buckets(task, copies)
    for part, path in enumerate(plan.parts):
        write_part(task, part, path, plan.rows[part], len(reads))
    return pa.concat_tables([pq.read_table(Path(task.out) / path) for path in plan.parts])


def test_every_row_keeps_its_pixels_and_columns(tmp_path):
    table = copied(*planned(tmp_path, slots=1))
    assert table.column_names == [*ROW_SCHEMA.names, "label_any"]
    assert table.schema.field("label_any").type == pa.uint8()
    rows = {row["image_id"]: row for row in table.to_pylist()}
    assert len(rows) == len(table) == 100
    for number in range(100):
        row = rows[f"ID_{number:03d}"]
        assert row["image"] == bytes([number] * 8)
        assert (row["label_any"], row["position_mm"]) == (number % 2, number)


def test_neighbours_stand_before_and_after_the_image(tmp_path):
    rows = {row["image_id"]: row["image"] for row in copied(*planned(tmp_path, slots=3)).to_pylist()}
    assert rows["ID_005"] == bytes([5] * 16 + [6] * 8)
    assert rows["ID_006"] == bytes([5] * 8 + [6] * 8 + [7] * 8)
    assert rows["ID_009"] == bytes([8] * 8 + [9] * 16)


def test_hounsfield_units_are_copied_as_they_are(tmp_path):
    """One channel of int16 takes as many bytes as two of uint8."""
    task, plan = planned(tmp_path, slots=3)
    hu = replace(task.layout, channels=("hu",), dtype="int16")
    assert hu.all_channels == ("hu_previous", "hu", "hu_next")
    rows = {row["image_id"]: row["image"] for row in copied(replace(task, layout=hu), plan).to_pylist()}
    found = np.frombuffer(rows["ID_006"], np.int16).reshape(3, 2, 2)
    np.testing.assert_array_equal(found[:, 0, 0], [0x0505, 0x0606, 0x0707])


def test_a_part_is_written_as_shards_are(tmp_path):
    task, plan = planned(tmp_path, slots=1)
    copied(task, plan)
    file = pq.ParquetFile(Path(task.out) / plan.parts[0])
    assert json.loads(file.metadata.metadata[FOOTER_KEY]) == {"x": 1}
    column = file.metadata.row_group(0).column(ROW_SCHEMA.names.index("image"))
    assert column.compression == "ZSTD"
    assert not column.is_stats_set
    assert not column.has_dictionary_page


def test_large_batches_are_cut_and_change_nothing(tmp_path, monkeypatch):
    whole = copied(*planned(tmp_path / "whole", slots=1))
    monkeypatch.setattr(copy, "BATCH_BYTES", 16)  # two images
    task, plan = planned(tmp_path / "cut", slots=1)
    assert copied(task, plan).equals(whole)
    with pa.ipc.open_file(Path(task.buckets) / "read-000000.arrow") as reader:
        assert max(len(reader.get_batch(at)) for at in range(reader.num_record_batches)) == 2
    assert copy._batch_bounds(np.array([0, 0, 0, 2, 2]), 2) == [0, 2, 3, 5]


def test_copying_twice_gives_the_same_bytes(tmp_path):
    task, plan = planned(tmp_path, slots=1)
    copied(task, plan)
    first = [(Path(task.out) / path).read_bytes() for path in plan.parts]
    copied(task, plan)
    assert [(Path(task.out) / path).read_bytes() for path in plan.parts] == first


def test_a_shard_that_is_gone_cut_short_or_of_another_size_is_named(tmp_path):
    task, plan = planned(tmp_path, slots=1)
    copies = next(plan.copies_by_read())
    shard = Path(task.shards) / "shards" / "unit-000000.parquet"
    whole = pq.read_table(shard)
    for table in (whole.slice(0, 2), whole.set_column(1, "image", pa.array([b"short"] * 7))):
        pq.write_table(table, shard)
        with pytest.raises(
            SourceError, match=r"unit-000000.parquet does not match the index .* run `hemo convert` again"
        ):
            write_buckets(task, copies)
    shard.unlink()
    with pytest.raises(SourceError, match=r"unit-000000\.parquet is in the index but does not exist"):
        write_buckets(task, copies)


def test_a_part_fetches_its_own_images_from_a_bucket_file_and_no_others(tmp_path, fetches):  # noqa: F811
    """Of 8 parts: 3 requests a bucket file, its footer's length, its footer, and the record batch."""
    task, copies = planned_on_a_bucket(tmp_path)
    write_buckets(task, copies)
    images = np.zeros((64, 1, 30_000), np.uint8)
    assert copy._fill(images, task.buckets, 0, part=5) == 8
    assert len(fetches) == 3
    assert 8 * 30_000 < sum(fetches) < 8 * 30_000 * 1.1
    assert np.flatnonzero(images.any(axis=(1, 2))).tolist() == [5, 13, 21, 29, 37, 45, 53, 61]


def planned_on_a_bucket(folder: Path) -> tuple[CopyTask, pa.Table]:
    """Return a copy of one shard, 64 random images of 30,000 bytes, to 8 parts; buckets are `counted://`."""
    random, images = np.random.default_rng(0), [{"image_id": f"I{n}", "image": b""} for n in range(64)]
    shards = write_conversion(folder / "shards", images, unit_rows=64)
    shard = folder / "shards" / "shards" / "unit-000000.parquet"
    table = pq.read_table(shard)
    pixels = pa.array([random.bytes(30_000) for _ in images], pa.binary())
    pq.write_table(table.set_column(1, ROW_SCHEMA.field("image"), pixels), shard)
    row = np.arange(64).reshape(8, 8).T.ravel()  # of part 0: 0, 8, ...
    nothing = np.zeros(64, int)
    names = [f"I{n}" for n in row]
    columns = {"read": nothing, "unit": nothing, "row": row, "part": row % 8, "position": row, "slot": nothing}
    copies = pa.table(columns | {"image_id": names}).cast(COPY_SCHEMA)
    return CopyTask(shards, "counted://bucket/buckets", "o", ImageLayout(("x",), "uint8", 150, 200, 1), "{}"), copies


def test_a_part_is_not_written_without_all_its_images(tmp_path):
    task, plan = planned(tmp_path, slots=1)
    write_buckets(task, next(plan.copies_by_read()))
    with pytest.raises(HemoError, match=r"train/part-000000.parquet: \d+ of \d+ images in its buckets"):
        write_part(task, 0, plan.parts[0], plan.rows[0], 1)
    assert not (Path(task.out) / plan.parts[0]).exists()


def test_a_shard_that_does_not_match_the_index_is_refused(tmp_path):
    task, plan = planned(tmp_path, slots=1)
    shard = Path(task.shards, "shards", "unit-000001.parquet")
    table = pq.read_table(shard)
    pq.write_table(table.take([1, 0, *range(2, len(table))]), shard)  # as if converted again, the index older
    with pytest.raises(
        SourceError, match=r"unit-000001\.parquet does not match the index \(other images from row 0 on\)"
    ):
        copied(task, plan)


def test_shards_read_in_pieces_give_the_same_bytes(tmp_path, monkeypatch):
    """With 4 images a read, the 14 shards of 7 rows take two reads each, and the last of 2 rows one."""
    whole = copied(*planned(tmp_path / "whole", slots=3))
    monkeypatch.setattr(plan_module, "READ_BYTES", 32)
    monkeypatch.setattr(plan_module, "rows_per_group", lambda image_bytes: 2)
    task, plan = planned(tmp_path / "pieces", slots=3)
    assert copied(task, plan).equals(whole)
    assert len(list(Path(task.buckets).iterdir())) == 29


POOLS: list[pa.MemoryPool] = []
"""Kept to the end: Arrow holds no reference to a pool, and memory may go back to it after the measurement."""


def peak_bytes(work: Callable[[], None]) -> int:
    """Return the most that numpy, Python and Arrow held together while `work` ran."""
    ours = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(ours)
    POOLS.append(pool)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] + (pool.max_memory() or 0)
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(ours)


def test_a_task_holds_no_more_of_a_large_set_than_of_a_small_one(tmp_path, monkeypatch):
    """Images of 12 KiB, 128 a read and 100 a part at most: a task holds some of 1.5 MiB, a set of 1,600 is 19 MiB."""
    monkeypatch.setattr(plan_module, "READ_BYTES", 128 * 3 * 64 * 64)
    layout = ImageLayout(("a", "b", "c"), "uint8", 64, 64, slots=1)
    peaks = []
    for images in (400, 1600):
        folder = tmp_path / str(images)
        rows = [{"image": bytes([n % 251]) * layout.image_bytes} for n in range(images)]
        shards = write_conversion(folder / "shards", rows, unit_rows=400)
        selection = select(CurateConfig(shards=shards, labels="l", out="o"), *labelled(shards))
        plan = plan_copies(selection, layout, part_rows=100, seed=0)
        task = CopyTask(shards, str(folder / "buckets"), str(folder / "set"), layout, "{}")
        reads = list(plan.copies_by_read())
        first = max(peak_bytes(partial(write_buckets, task, copies)) for copies in reads)
        parts = enumerate(zip(plan.parts, plan.rows, strict=True))
        second = max(
            peak_bytes(partial(write_part, task, part, path, rows, len(reads))) for part, (path, rows) in parts
        )
        peaks.append((first, second))
    for small, large in zip(*peaks, strict=True):
        assert large < 1.2 * small
        assert large < 4 << 20
