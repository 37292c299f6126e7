"""What lists, plans and chooses, at the size of the RSNA corpus: 752,803 images, without any pixels.

    python benchmarks/bench_scale.py --labels stage_2_train.csv

Made on the spot: a folder of that many names (hard links to small files), their shards' footers, and an index with the
corpus's proportions (18,000 patients, 25,000 series, 4,073 pairs of equal pixels). Labels come from `--labels`; without
it they are drawn at the corpus's prevalences. They are written as RSNA's long CSV, six rows an image, and read so.

Prints as Markdown tables the seconds of each step, by the wall and of CPU time, and the peak memory of its process:

    convert   listing, manifest, units and resume check, step by step; then the job itself on a finished corpus
    labels    the given table, the long CSV, and the join with the index
    curate    reading, audit, each split, balance, plan of the copies and card: all of the job but the copying
"""

import argparse
import multiprocessing
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import made_corpus
import numpy as np

from hemo.cluster.convert.job import convert_corpus
from hemo.cluster.curate import draft_training_set, read_inputs
from hemo.config.curate import CurateConfig
from hemo.corpus.labels import parse_labels
from hemo.corpus.sources import list_corpus
from hemo.curation.labelled_index import join_labels, read_index, text_column
from hemo.curation.leak_audit import audit, equal_pixels, group_names, link_patients
from hemo.curation.plan import adjacent
from hemo.curation.select import undersample, unflagged
from hemo.curation.split import TRAIN, assign_splits
from hemo.shards.manifest import Manifest, read_manifest, unit_digest, update_manifest, write_manifest
from hemo.shards.schema import read_footer

SPLITTERS = ("by_patient", "by_patient_stratified", "folds", "by_image", "official")
FOOTER_THREADS = 16
NO_MANIFEST = Manifest((), ())

Result = TypeVar("Result")


class Clock:
    """The steps that were taken with it, each with its seconds by the wall and of this process's CPU time."""

    def __init__(self) -> None:
        """Start without steps."""
        self.steps: list[tuple[str, float, float]] = []

    def __call__(self, step: str, work: Callable[[], Result]) -> Result:
        """Do `work` and note how long it took."""
        started, used = time.perf_counter(), time.process_time()
        result = work()
        self.steps.append((step, time.perf_counter() - started, time.process_time() - used))
        return result


def main() -> None:
    """Make the corpus, then measure each stage in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", default="", help="label table of the corpus; drawn if not given")
    parser.add_argument("--images", type=int, default=made_corpus.IMAGES, help="how many, if labels are drawn")
    parser.add_argument("--skip_listing", action="store_true", help="make no folder of names and leave `convert` out")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hemo-bench-") as scratch:
        images = alone(make, scratch, given)
        print(f"\n{images:,} images, {os.cpu_count()} cores, Python {platform.python_version()}\n")
        if not given.skip_listing:
            print_stage("convert", *alone(measured, plan_conversion, scratch, given.labels))
        print_stage("labels", *alone(measured, read_labels, scratch, given.labels))
        print_stage("curate, step by step", *alone(measured, curate_steps, scratch, given.labels))
        for split in SPLITTERS:
            stage = partial(curate_job, split=split)
            print_stage(f"curate, split {split}", *alone(measured, stage, scratch, given.labels))


def alone(work: Callable[..., Result], *arguments: Any) -> Result:
    """Call `work` in a new process, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def measured(
    stage: Callable[[Clock, str, str], None], scratch: str, labels: str
) -> tuple[list[tuple[str, float, float]], float]:
    """Return the steps of a stage and the peak resident memory of this process, in GiB."""
    clock = Clock()
    stage(clock, scratch, labels)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if peak is None:
        raise OSError("this system does not tell the peak memory of a process")
    return clock.steps, int(peak[1]) / 2**20


def print_stage(title: str, steps: Sequence[tuple[str, float, float]], peak_gib: float) -> None:
    """Print one Markdown table."""
    print(f"| {title} | s | CPU s |\n| --- | --- | --- |")
    for step, seconds, cpu_seconds in steps:
        print(f"| {step} | {seconds:.2f} | {cpu_seconds:.2f} |")
    print(f"| peak memory | {peak_gib:.2f} GiB | |\n", flush=True)


def make(scratch: str, given: argparse.Namespace) -> int:
    """Make names, label table and conversion below `scratch`; return the number of images."""
    generator = np.random.default_rng(0)
    if given.labels:
        table = parse_labels(Path(given.labels).read_bytes(), given.labels)
    else:
        table = made_corpus.made_labels(given.images, generator)
    made_corpus.write_long_labels(Path(scratch, "long.csv"), table)
    config = made_corpus.conversion_config(scratch)
    if not given.skip_listing:
        made_corpus.link_names(Path(config.source), table.keys)
        update = update_manifest(NO_MANIFEST, list_corpus(config.source, "rsna").files, unit_files=config.unit_files)
        write_manifest(config.out, update.manifest)
        made_corpus.write_shards(config, update.units)
    made_corpus.write_derived(config, table.keys, generator)
    return len(table.keys)


def plan_conversion(clock: Clock, scratch: str, labels: str) -> None:
    """List and plan as `convert` does, for a new corpus, then for one that is all done."""
    config = made_corpus.conversion_config(scratch)
    listing = clock("list the folder", lambda: list_corpus(config.source, "rsna"))
    update = clock(
        "new manifest and units", lambda: update_manifest(NO_MANIFEST, listing.files, unit_files=config.unit_files)
    )
    clock("write the manifest", lambda: write_manifest(f"{scratch}/again", update.manifest))
    stored = clock("read the manifest", lambda: read_manifest(config.out))
    clock("update it, nothing new", lambda: update_manifest(stored, listing.files, unit_files=config.unit_files))
    done = clock(f"read {len(update.units)} footers", lambda: footers_of(config.out, [u.shard for u in update.units]))
    plain = done[0].settings
    valid = clock("digests of all units", lambda: [unit_digest(unit, plain) for unit in update.units])
    if valid != [footer.digest for footer in done]:
        raise ValueError("the shards were made for other units")
    clock("**the job: `convert` on a finished corpus**", lambda: convert_corpus(config))


def footers_of(out: str, shards: Sequence[str]) -> list[Any]:
    """Return the footer of each shard, read by as many threads as `convert` has."""
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        return list(pool.map(lambda shard: read_footer(f"{out}/{shard}"), shards))


def curation_config(scratch: str, split: str, **more: Any) -> CurateConfig:
    """Return the config of a balanced, cleaned training set of the made-up conversion."""
    return CurateConfig(
        shards=f"{scratch}/out",
        labels=f"{scratch}/long.csv",
        out=f"{scratch}/set",
        split=split,
        drop_flags=("blank", "little_brain", "secondary_capture"),
        balance={"mode": "undersample"},
        **more,
    )


def read_labels(clock: Clock, scratch: str, labels: str) -> None:
    """Read the table in both forms and join it."""
    if labels:
        clock("read the given table", lambda: parse_labels(Path(labels).read_bytes(), labels))
    table = clock("read the long CSV", lambda: parse_labels(Path(scratch, "long.csv").read_bytes(), "long.csv"))
    index = clock("read the index", lambda: read_index(f"{scratch}/out"))
    clock("join", lambda: join_labels(index, table))


def curate_steps(clock: Clock, scratch: str, labels: str) -> None:
    """Take the steps of `select` one by one."""
    index = read_index(f"{scratch}/out")
    rows = join_labels(index, parse_labels(Path(scratch, "long.csv").read_bytes(), "long.csv"))
    pixels = clock("equal pixels", lambda: equal_pixels(index))
    patient_group = clock("link patients", lambda: link_patients(rows.patient, pixels))
    groups = clock("name groups", lambda: (patient_group[rows.patient], group_names(patient_group, rows.patient_names)))
    clock("audit", lambda: audit(rows, patient_group, pixels))
    clock("clean", lambda: unflagged(index, ("blank", "little_brain")))
    everything = np.arange(len(index))
    for split in SPLITTERS:
        config = curation_config(scratch, split)
        splits = clock(f"split {split}", partial(assign_splits, config, rows, everything, groups))
    train = np.flatnonzero(splits == TRAIN)
    image_ids = text_column(index, "image_id").take(train)
    clock("balance train", lambda: undersample(rows.labels[train, 0], image_ids, 1.0, 0))
    clock("neighbours", lambda: adjacent(index, rows.patient))
    clock("counts of a step", lambda: rows.count(everything))


def curate_job(clock: Clock, scratch: str, labels: str, *, split: str) -> None:
    """Do what the job does before it copies."""
    config = curation_config(scratch, split)
    inputs = clock("read index, labels and their digest", lambda: read_inputs(config))
    clock("select, plan, card", lambda: draft_training_set(config, inputs))
    seconds, cpu_seconds = (sum(column) for column in zip(*(step[1:] for step in clock.steps), strict=True))
    clock.steps.append(("**all but the copying**", seconds, cpu_seconds))


if __name__ == "__main__":
    main()
