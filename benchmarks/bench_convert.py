"""How fast `convert` is, beside what it competes with and what bounds it.

    python benchmarks/bench_convert.py --slices 24576 --rounds 3

On the same synthetic 512 x 512 slices, in one run, with a warm page cache:

    script   a process pool over a per-slice script: pydicom's pixel_array, float windows, resize, one PNG a slice
    loop     hemo's whole image path in one process on one core: read, decode, window, resize, flag, digest, write
    pool     the same in a plain pool of one process a core, a unit at a time: what these cores can do at all
    convert  the job itself on a local Ray with one task a core: planning, index and card included, Ray's start-up not
    steady   its rate between the commits of the first and the last tenth of its shards

Prints slices/s and ratios as a Markdown table, and each round's figures: these are what a claim may be based on. The
script does `--script_slices` of them only: its rate does not depend on how many there are.
"""

import argparse
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pydicom
from replicas import replicated_corpus

from hemo.cluster.convert.job import convert_corpus
from hemo.cluster.ray_data import set_up_decoding
from hemo.cluster.session import connected
from hemo.config.convert import ConvertConfig
from hemo.config.types import ClusterConfig
from hemo.corpus.sources import list_corpus, media_of
from hemo.imaging.settings import image_settings
from hemo.pseudonym import Pseudonymiser
from hemo.shards.convert_unit import UnitTask, build_shard
from hemo.shards.manifest import Manifest, Unit, update_manifest
from hemo.storage import join, write_bytes

LOOP_UNITS = 8
SCRIPT_WINDOWS = ((40, 80), (80, 200), (40, 380))


def main() -> None:
    """Make the corpus, run the contenders in turn, print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--slices", type=int, default=24576)
    arguments.add_argument("--script_slices", type=int, default=4096)
    arguments.add_argument("--side_px", type=int, default=256)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    given = arguments.parse_args()
    rates: dict[str, list[float]] = {name: [] for name in ("script", "loop", "pool", "convert", "steady")}
    with tempfile.TemporaryDirectory(prefix="hemo-bench-") as scratch:
        cluster = ClusterConfig(address="local", cpus=given.cores, temp_dir=f"{scratch}/ray")
        with connected(cluster):
            corpus, _ = replicated_corpus(Path(scratch), given.slices)
            config = ConvertConfig(
                source=str(corpus), corpus="rsna", out=f"{scratch}/out", side_px=given.side_px,
                max_reject_fraction=1,
            )  # fmt: skip
            run_convert(config)  # starts Ray's workers and imports everything once
            task, units = plan(config)
            for _ in range(given.rounds):
                one_round(rates, config, (task, units), given)
    print_table(rates, given)


Work = tuple[UnitTask, list[Unit]]


def one_round(rates: dict[str, list[float]], config: ConvertConfig, work: Work, given: argparse.Namespace) -> None:
    """Run every contender once and note its slices/s."""
    task, units = work
    first = units[:LOOP_UNITS]
    files = [Path(config.source, path) for unit in units for path in unit.paths][: given.script_slices]
    contenders: dict[str, tuple[int, Callable[[], None]]] = {
        "script": (len(files), lambda: run_script(files, Path(config.out), given.side_px, given.cores)),
        "loop": (sum(len(unit.paths) for unit in first), lambda: run_loop(task, first, config.out)),
        "pool": (given.slices, lambda: run_pool(task, units, config.out, given.cores)),
        "convert": (given.slices, lambda: run_convert(config)),
    }
    for name, (slices, run) in contenders.items():
        shutil.rmtree(config.out, ignore_errors=True)
        started = time.perf_counter()
        run()
        rates[name].append(slices / (time.perf_counter() - started))
    rates["steady"].append(steady_rate(config.out, units))


def plan(config: ConvertConfig) -> Work:
    """Return the units of a conversion, and what they have in common."""
    public = Pseudonymiser()
    listing = list_corpus(config.source, config.corpus)
    settings = image_settings(config, media_of(config.source, config.corpus), public)
    units = update_manifest(Manifest((), ()), listing.files, unit_files=config.unit_files).units
    return UnitTask(config.source, settings, public, config.read_threads), list(units)


def steady_rate(out: str, units: list[Unit]) -> float:
    """Return slices/s between the commits of the first and the last tenth of the shards, by their times on disk."""
    commits = sorted((Path(out, unit.shard).stat().st_mtime, len(unit.paths)) for unit in units)
    edge = max(1, len(commits) // 10)
    middle = commits[edge:-edge]
    return sum(files for _, files in middle) / (middle[-1][0] - commits[edge - 1][0])


def run_script(files: list[Path], out: Path, side_px: int, cores: int) -> None:
    """Run the script people write: one PNG of three windows a slice, in a process pool."""
    out.mkdir()
    tasks = [(str(file), str(out), side_px) for file in files]
    with multiprocessing.get_context("spawn").Pool(cores, initializer=quiet_script) as pool:
        for _ in pool.imap_unordered(script_slice, tasks, chunksize=16):
            pass


def quiet_script() -> None:
    """Spare the script pydicom's warnings: they would only slow it down."""
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    cv2.setNumThreads(1)


def script_slice(task: tuple[str, str, int]) -> None:
    """Convert one slice the straightforward way; a file that does not decode is passed over, as such scripts do."""
    file, out, side_px = task
    dataset = pydicom.dcmread(file)
    try:
        stored = dataset.pixel_array.astype(np.float32)
    except ValueError:
        return
    hu = stored * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))
    if hu.ndim == 3:
        return
    channels = [np.clip((hu - (centre - width / 2)) / width, 0, 1) for centre, width in SCRIPT_WINDOWS]
    picture = (np.stack(channels, axis=-1) * 255).astype(np.uint8)
    picture = cv2.resize(picture, (side_px, side_px), interpolation=cv2.INTER_AREA)
    cv2.imwrite(f"{out}/{Path(file).stem}.png", picture)


def run_loop(task: UnitTask, units: list[Unit], out: str) -> None:
    """Convert units in this process, with all its threads on one core."""
    set_up_decoding()
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})
    try:
        for unit in units:
            convert_unit(task, out, unit)
    finally:
        os.sched_setaffinity(0, everywhere)


def run_pool(task: UnitTask, units: list[Unit], out: str, cores: int) -> None:
    """Convert units in a pool of processes."""
    with multiprocessing.get_context("spawn").Pool(cores, initializer=set_up_decoding) as pool:
        for _ in pool.imap_unordered(partial(convert_unit, task, out), units):
            pass


def convert_unit(task: UnitTask, out: str, unit: Unit) -> None:
    """Make and write one shard."""
    shard, _ = build_shard(task, unit)
    write_bytes(join(out, unit.shard), memoryview(shard))


def run_convert(config: ConvertConfig) -> None:
    """Run the job."""
    convert_corpus(config)


def print_table(rates: dict[str, list[float]], given: argparse.Namespace) -> None:
    """Print medians over the rounds, ratios within a round, and what it was measured on."""
    print(f"\n{given.slices} slices of 512 x 512 to {given.side_px} px, {given.cores} cores, {given.rounds} rounds\n")
    print(f"| contender | cores | slices/s | x script | x {given.cores} loops |\n| --- | --- | --- | --- | --- |")
    for name, values in rates.items():
        to_script = ratio(values, rates["script"])
        to_loops = ratio(values, rates["loop"]) / given.cores
        cores = 1 if name == "loop" else given.cores
        print(f"| {name} | {cores} | {statistics.median(values):,.0f} | {to_script:.2f} | {to_loops:.2f} |")
    for name, values in rates.items():
        print(f"{name}: {', '.join(f'{value:,.0f}' for value in values)} slices/s by round")


def ratio(own: list[float], others: list[float]) -> float:
    """Return the median over the rounds of one contender's rate as a multiple of another's."""
    return statistics.median(one / other for one, other in zip(own, others, strict=True))


if __name__ == "__main__":
    main()
