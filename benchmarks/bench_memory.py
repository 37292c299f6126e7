"""How much memory `convert`, `predict`, `train` and `tune` take, and whether that grows with the length of a run.

    python benchmarks/bench_memory.py
    python benchmarks/bench_memory.py --jobs convert --slices 2000 --side_px 256

Each job runs twice on a local Ray, the second time ten times as long: over more slices (512 x 512, a few of them under
many names), images of a training set that is streamed, or trials. The peak resident memory (`VmHWM`) of every process
is read while it runs: of the driver, of Ray's workers by what they did most of the time, and of Ray's own processes.
Resident memory counts shared pages too: of libraries, and of what was read from Ray's object store. Prints a Markdown
table of each job in MB: of each kind of process the largest, and the second run's over the first one's.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from made_training_set import smooth_images, write_training_set
from replicas import replicated_corpus
from two_nodes import descendants

from hemo.cluster.session import connected
from hemo.config.types import ClusterConfig

POLL_S = 0.1
DRIVER, NO_TASK = "driver", "worker without a task"
BACKBONE = "test_resnet"
EPOCHS = 2
DISTINCT_IMAGES = 64

Flags = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A job whose length can be chosen."""

    unit: str  # what its length counts
    length: int  # of the shorter run
    flags: Callable[[int, Path], Flags]  # of a length, and a new folder for what it reads; all but `out`


@dataclass(frozen=True)
class Peaks:
    """Peak resident memory of one run, in MB (10^6 bytes)."""

    length: int
    by_kind: dict[str, float]  # kind of process -> the largest of its peaks
    seconds: float


def main() -> None:
    """Run the jobs, each in both lengths, and print a table of each."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "--jobs",
        nargs="+",
        choices=("convert", "predict", "train", "tune"),
        default=("convert", "predict", "train", "tune"),
    )
    arguments.add_argument("--slices", type=int, default=300, help="of convert and predict, in the shorter run")
    arguments.add_argument("--images", type=int, default=2000, help="of train")
    arguments.add_argument("--trials", type=int, default=4, help="of tune")
    arguments.add_argument("--times", type=int, default=10, help="as long is the longer run")
    arguments.add_argument("--side_px", type=int, default=64)
    arguments.add_argument("--cpus", type=int, default=os.cpu_count() or 1)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="hemo-memory-") as folder:
        scratch = Path(folder)
        inputs = Inputs(scratch, given)
        jobs = {
            "convert": Job("slices", given.slices, inputs.of_convert),
            "predict": Job("slices", given.slices, inputs.of_predict),
            "train": Job("images", given.images, inputs.of_train),
            "tune": Job("trials", given.trials, inputs.of_tune),
        }
        for name in given.jobs:
            job, peaks = jobs[name], []
            for length in (job.length, job.length * given.times):
                place = scratch / f"{name}-{length}"
                place.mkdir()
                peaks.append(measure(name, length, {**job.flags(length, place), "out": place / "out"}, inputs.cluster))
            print_table(name, job.unit, peaks)


class Inputs:
    """What the jobs read, made where it is first needed."""

    def __init__(self, scratch: Path, given: argparse.Namespace) -> None:
        """Make nothing yet."""
        self._scratch, self._given = scratch, given
        self.cluster: Flags = {
            "cluster.address": "local", "cluster.cpus": given.cpus, "cluster.temp_dir": scratch / "ray"
        }  # fmt: skip

    def of_convert(self, slices: int, place: Path) -> Flags:
        """Return the flags of a conversion of so many slices."""
        return {"source": self._slices(slices, place), **self._as_converted()}

    def of_predict(self, slices: int, place: Path) -> Flags:
        """Return the flags of a prediction of so many slices, by a model that was trained on a few."""
        source = self._slices(slices, place)
        return {"source": source, "corpus": "rsna", "checkpoint": self._checkpoint(), "gpus": 0}

    def of_train(self, images: int, place: Path) -> Flags:
        """Return the flags of a training on so many images, streamed: resident they are all in memory, by design."""
        return {**_training(self._training_set(images, place)), "feed": "streaming"}

    def of_tune(self, trials: int, place: Path) -> Flags:
        """Return the flags of a grid of so many trials, one seed each, on the images of the shortest `train`."""
        training_set = self._training_set(self._given.images, place)
        return {**_training(training_set), "grid.axes": f"{{seed: {list(range(trials))}}}"}

    def _as_converted(self) -> Flags:
        return {"corpus": "rsna", "side_px": self._given.side_px, "max_reject_fraction": 1}

    def _slices(self, slices: int, place: Path) -> Path:
        """Return a new folder of the first files of the largest corpus, as hard links."""
        corpus = self._scratch / "largest/corpus"
        if not corpus.exists():
            corpus.parent.mkdir()
            with connected(ClusterConfig(address="local", cpus=self._given.cpus, temp_dir=f"{self._scratch}/ray")):
                replicated_corpus(corpus.parent, self._given.slices * self._given.times)
        part = place / "corpus"
        part.mkdir()
        for file in sorted(corpus.iterdir())[:slices]:
            (part / file.name).hardlink_to(file)
        return part

    def _checkpoint(self) -> Path:
        """Return the folder of a model trained on phantom slices, of as many px."""
        made = self._scratch / "model"
        if not made.exists():
            made.mkdir()
            phantom = self._scratch / "largest/phantom"
            split = {"val_fraction": 0.2, "test_fraction": 0.2}
            labels = phantom / "stage_2_train.csv"
            chain: dict[str, Flags] = {
                "convert": {"source": phantom, **self._as_converted()},
                "curate": {"shards": made / "convert", "labels": labels, "split": "by_patient", **split},
                "train": _training(str(made / "curate")),
            }
            for name, flags in chain.items():
                subprocess.run(command(name, {**flags, "out": made / name, **self.cluster}), check=True)
        (checkpoint,) = (made / "train").glob("*/checkpoint")
        return checkpoint

    def _training_set(self, images: int, place: Path) -> str:
        rows = {"train": images, "val": images // 5, "test": images // 5}
        return write_training_set(place / "set", smooth_images(DISTINCT_IMAGES, self._given.side_px), rows)


def _training(training_set: str) -> Flags:
    epochs = {f"trial.training.{name}": EPOCHS for name in ("epochs", "patience")}
    return {"training_set": training_set, "workers.gpus": 0, "trial.model.backbone": BACKBONE, **epochs}


def command(job: str, flags: Flags) -> list[str]:
    """Return the command of a job."""
    words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    return [sys.executable, "-m", f"ray_jobs.{job}", *words]


def measure(job: str, length: int, flags: Flags, cluster: Flags) -> Peaks:
    """Run a job and watch its processes.

    Raises:
        SystemExit: If the job fails.
    """
    started = time.perf_counter()
    log = Path(flags["out"]).with_suffix(".log")
    environment = os.environ | {"RAY_worker_niceness": "0"}  # of 15: beside other work they would hardly run
    with log.open("wb") as file:
        process = subprocess.Popen(command(job, flags | cluster), env=environment, stdout=file, stderr=file)
    kinds, peaks = {process.pid: Counter([DRIVER])}, dict[int, float]()
    while process.poll() is None:
        for pid in descendants(process.pid):
            if title := title_of(pid):
                kinds.setdefault(pid, Counter()).update([kind_of(title)])
        for pid in kinds:
            peaks[pid] = max(peaks.get(pid, 0.0), peak_mb(pid))
        time.sleep(POLL_S)
    if process.returncode:
        sys.exit(f"{job} ended with code {process.returncode}: {log.read_text()}")
    by_kind: dict[str, float] = {}
    for pid, seen in kinds.items():
        kind = (seen - Counter({NO_TASK: seen[NO_TASK]}) or seen).most_common(1)[0][0]
        by_kind[kind] = max(by_kind.get(kind, 0.0), peaks[pid])
    return Peaks(length, by_kind, time.perf_counter() - started)


def peak_mb(pid: int) -> float:
    """Return the peak resident memory of a process so far; 0 if it has ended."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found.group(1)) * 1024 / 1e6 if found else 0.0


def title_of(pid: int) -> list[str]:
    """Return the words of a process's command; Ray's workers put there what they do. None if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").split()
    except OSError:
        return []


def kind_of(title: list[str]) -> str:
    """Return what a process of Ray is: a worker and what it runs, or the program, script or module of another."""
    if title[0].startswith("ray::"):
        work = re.split(r"[(.]", title[0].removeprefix("ray::"))[0]
        return NO_TASK if work == "IDLE" else f"worker: {work}"
    if "multiprocessing" in " ".join(title[:6]):
        return "part of the dashboard"
    scripts = [word for word in title[:6] if word.endswith(".py")]
    modules = [word for before, word in pairwise(title[:6]) if before == "-m"]
    return Path([*scripts, *modules, title[0]][0]).name


def print_table(job: str, unit: str, peaks: list[Peaks]) -> None:
    """Print a row for each kind of process and a column for each length of the job."""
    print(f"## {job}\n\n| largest of its kind, MB | " + " | ".join(f"{one.length:,} {unit}" for one in peaks), end="")
    print(" | times |\n| --- |" + " --- |" * (len(peaks) + 1))
    kinds = sorted({kind for one in peaks for kind in one.by_kind}, key=lambda kind: -peaks[-1].by_kind.get(kind, 0.0))
    for kind in kinds:
        row = [one.by_kind.get(kind, 0.0) for one in peaks]
        times = f"{row[-1] / row[0]:.2f}" if row[0] else "-"
        print(f"| {kind} | " + " | ".join(f"{peak:.0f}" for peak in row) + f" | {times} |")
    print("\nwith the start of Ray: " + ", ".join(f"{one.seconds:.0f} s" for one in peaks) + "\n", flush=True)


if __name__ == "__main__":
    main()
