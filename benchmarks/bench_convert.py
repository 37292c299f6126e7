"""How fast `convert` is, beside what people write by hand and beside the bare loop.

    python benchmarks/bench_convert.py --slices 16384

On the same synthetic 512 x 512 slices, in one run, with a warm page cache:

    script   a process pool over a per-slice script: pydicom's pixel_array, float windows, resize, one PNG a slice
    loop     hemo's whole image path in one process: read, decode, window, resize, flags, digest, encode (`build_shard`)
    convert  the job itself on a local Ray with one task a core, planning, index and card included, Ray's start-up not

Prints slices/s and ratios as a Markdown table, and each round's figures: these are what a claim may be based on.
"""

import argparse
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pydicom
from replicas import replicated_corpus

from hemo.cluster.convert import convert_corpus
from hemo.cluster.session import connected
from hemo.config.cluster import ClusterConfig
from hemo.config.convert import ConvertConfig
from hemo.corpus.sources import list_corpus
from hemo.imaging.pseudonym import Pseudonymiser
from hemo.imaging.settings import image_settings
from hemo.shards.manifest import Manifest, update_manifest
from hemo.shards.unit import UnitTask, build_shard

SCRIPT_WINDOWS = ((40, 80), (80, 200), (40, 380))


def main() -> None:
    """Make the corpus, run the three contenders in turn, print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--slices", type=int, default=16384)
    arguments.add_argument("--side_px", type=int, default=256)
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="hemo-bench-") as scratch:
        cluster = ClusterConfig(address="local", cpus=given.cores, temp_dir=f"{scratch}/ray")
        with connected(cluster):
            corpus, _ = replicated_corpus(Path(scratch), given.slices)
            config = ConvertConfig(
                source=str(corpus), corpus="rsna", out=f"{scratch}/out", side_px=given.side_px,
                max_reject_fraction=1,
            )  # fmt: skip
            warm_up(config)
            contenders: dict[str, Callable[[], None]] = {
                "script": lambda: run_script(corpus, Path(scratch, "png"), given.side_px, given.cores),
                "loop": lambda: run_loop(config),
                "convert": lambda: run_convert(config),
            }
            rates = {name: [] for name in contenders}
            for _ in range(given.rounds):
                for name, run in contenders.items():
                    started = time.perf_counter()
                    run()
                    rates[name].append(given.slices / (time.perf_counter() - started))
    print_table(rates, given)


def warm_up(config: ConvertConfig) -> None:
    """Start Ray's workers and import everything once."""
    run_convert(config)


def run_script(corpus: Path, out: Path, side_px: int, cores: int) -> None:
    """Run the script people write: one PNG of three windows a slice, in a process pool."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    tasks = [(str(file), str(out), side_px) for file in sorted(corpus.iterdir())]
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


def run_loop(config: ConvertConfig) -> None:
    """Run hemo's image path over every unit in this process, on one thread, writing nothing to disk."""
    cv2.setNumThreads(1)
    public = Pseudonymiser()
    task = UnitTask(config.source, image_settings(config, public), public, config.read_threads)
    listing = list_corpus(config.source, config.corpus)
    for unit in update_manifest(Manifest((), ()), listing.files, unit_files=config.unit_files).units:
        build_shard(task, unit)


def run_convert(config: ConvertConfig) -> None:
    """Run the job from an empty output folder."""
    shutil.rmtree(config.out, ignore_errors=True)
    convert_corpus(config)


def print_table(rates: dict[str, list[float]], given: argparse.Namespace) -> None:
    """Print medians over the rounds, ratios within a round, and what it was measured on."""
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"\n{given.slices} slices of 512 x 512 to {given.side_px} px, {given.cores} cores, {given.rounds} rounds\n")
    print("| contender | processes | slices/s | x script | x loop |\n| --- | --- | --- | --- | --- |")
    for name, rate in medians.items():
        processes = 1 if name == "loop" else given.cores
        ratios = [
            statistics.median(own / other for own, other in zip(rates[name], rates[base], strict=True))
            for base in ("script", "loop")
        ]
        print(f"| {name} | {processes} | {rate:,.0f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    for name, values in rates.items():
        print(f"{name}: {', '.join(f'{value:,.0f}' for value in values)} slices/s by round")


if __name__ == "__main__":
    main()
