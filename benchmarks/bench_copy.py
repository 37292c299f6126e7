"""What the copying of `curate` holds in memory: the peak of a process that does all tasks of a pass in turn.

    python benchmarks/bench_copy.py --images 2048 8192

Sets of different sizes, made of images of noise, which hardly compress: the worst case. A bounded pass has the same
peak for each. Prints seconds and peak memory as a Markdown table; what Python, the libraries and the plan take by
themselves stands beside it.
"""

import argparse
import multiprocessing
import platform
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from made_corpus import columns_of

from hemo.config.curate import CurateConfig
from hemo.corpus.labels import LabelTable
from hemo.curation.copy import CopyTask, write_buckets, write_part
from hemo.curation.labelled_index import read_index
from hemo.curation.plan import CopyPlan, ImageLayout, plan_copies
from hemo.curation.select import select
from hemo.shards.schema import ROW_SCHEMA, SHARD_INDEX_SCHEMA
from hemo.shards.writer import images_array, parquet_options, rows_per_group, write_table

UNIT_ROWS = 1024


def main() -> None:
    """Make sets of each size, copy them, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--side_px", type=int, default=256)
    parser.add_argument("--part_rows", type=int, default=4096)
    parser.add_argument("--neighbours", action="store_true", help="three slices a row")
    given = parser.parse_args()
    layout = ImageLayout(("brain", "subdural", "soft"), "uint8", given.side_px, given.side_px, 1 + 2 * given.neighbours)
    print(f"3 x {given.side_px} x {given.side_px}, {layout.slots} slices a row, Python {platform.python_version()}\n")
    print("| images | pass | tasks | s | before, GiB | peak, GiB |\n| --- | --- | --- | --- | --- | --- |")
    for images in given.images:
        with tempfile.TemporaryDirectory(prefix="hemo-bench-") as scratch:
            task = CopyTask(f"{scratch}/shards", f"{scratch}/buckets", f"{scratch}/set", layout, "{}")
            alone(make_shards, task, images)
            for name, work in (("shards to buckets", fill_buckets), ("buckets to parts", write_parts)):
                tasks, seconds, before, peak = alone(work, task, given.part_rows)
                print(f"| {images:,} | {name} | {tasks} | {seconds:.1f} | {before:.2f} | {peak:.2f} |", flush=True)


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call `work` in a new process, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def make_shards(task: CopyTask, images: int) -> None:
    """Write shards of noise and their index."""
    generator = np.random.default_rng(0)
    keys = pa.array([f"ID_{number:09x}" for number in range(images)])
    index = pa.table(columns_of(keys, generator), schema=SHARD_INDEX_SCHEMA)
    Path(task.shards, "shards").mkdir(parents=True)
    for unit, start in enumerate(range(0, images, UNIT_ROWS)):
        rows = index.slice(start, UNIT_ROWS)
        image = images_array(list(generator.integers(0, 256, (len(rows), *task.layout.shape), np.uint8)))
        table = pa.table({name: image if name == "image" else rows[name] for name in ROW_SCHEMA.names}, ROW_SCHEMA)
        place = f"{task.shards}/shards/unit-{unit:06d}.parquet"
        step = rows_per_group(task.layout.image_bytes)
        pq.write_table(table, place, row_group_size=step, **parquet_options(ROW_SCHEMA))
    write_table(f"{task.shards}/index.parquet", index)


def plan_of(task: CopyTask, part_rows: int) -> CopyPlan:
    """Plan a set of all the images."""
    index = read_index(task.shards)
    labels = (np.arange(len(index)) % 2).astype(np.uint8)[:, None]
    table = LabelTable(("any",), index["image_id"].combine_chunks(), labels, 0)
    config = CurateConfig(shards=task.shards, labels="none", out=task.out, split="by_image")
    return plan_copies(select(config, index, table), task.layout, part_rows=part_rows, seed=0)


def fill_buckets(task: CopyTask, part_rows: int) -> tuple[int, float, float, float]:
    """Do the first pass; return tasks, seconds, and the peak memory before and after, in GiB."""
    reads = list(plan_of(task, part_rows).copies_by_read())
    return timed([partial(write_buckets, task, copies) for copies in reads])


def write_parts(task: CopyTask, part_rows: int) -> tuple[int, float, float, float]:
    """Do the second pass; return tasks, seconds, and the peak memory before and after, in GiB."""
    plan = plan_of(task, part_rows)
    reads = sum(1 for _ in plan.copies_by_read())
    return timed(
        [partial(write_part, task, part, plan.parts[part], rows, reads) for part, rows in enumerate(plan.rows)]
    )


def timed(calls: Sequence[Callable[[], None]]) -> tuple[int, float, float, float]:
    """Make the calls; return how many, the seconds, and the peak memory before and after, in GiB."""
    before, started = peak_gib(), time.perf_counter()
    for call in calls:
        call()
    return len(calls), time.perf_counter() - started, before, peak_gib()


def peak_gib() -> float:
    """Return the peak resident memory of this process, in GiB."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if peak is None:
        raise OSError("this system does not tell the peak memory of a process")
    return int(peak[1]) / 2**20


if __name__ == "__main__":
    main()
