"""How much memory `convert` takes, and whether that grows with the corpus.

    python benchmarks/bench_memory.py --slices 2000 20000

Converts corpora of several sizes (512 x 512, the same slices under many names), each as a job of its own on a local
Ray, and reads the peak resident memory (`VmHWM`) of every process of the job: driver, workers, and Ray's own. Resident
memory counts shared pages too: of libraries, and of what was read from Ray's object store. Prints a Markdown table in
MB, of each kind of process the largest, and by how much the largest corpus's peaks are above the smallest one's.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from replicas import replicated_corpus
from two_nodes import descendants

from hemo.cluster.session import connected
from hemo.config.types import ClusterConfig

POLL_S = 0.1
TASK_TITLE = "ray::FlatMap("
DRIVER, CONVERTER, IDLE = "driver", "worker that converts", "worker that does not"


@dataclass(frozen=True)
class Peaks:
    """Peak resident memory of one conversion, in MB (10^6 bytes)."""

    slices: int
    by_kind: dict[str, float]  # kind of process -> the largest of its peaks
    slices_per_s: float


def main() -> None:
    """Convert corpora of the sizes that are asked for, print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--slices", type=int, nargs="+", default=[2000, 20000])
    arguments.add_argument("--side_px", type=int, default=256)
    arguments.add_argument("--cpus", type=int, default=os.cpu_count() or 1)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="hemo-memory-") as scratch:
        largest = Path(scratch, "largest")
        largest.mkdir()
        with connected(ClusterConfig(address="local", cpus=given.cpus, temp_dir=f"{scratch}/ray")):
            corpus, _ = replicated_corpus(largest, max(given.slices))
        peaks = []
        for slices in sorted(given.slices):
            part = first_of(corpus, slices, Path(scratch, f"corpus-{slices}"))
            peaks.append(measure(part, Path(scratch, f"out-{slices}"), given.side_px, given.cpus))
    print_table(peaks)


def first_of(corpus: Path, slices: int, folder: Path) -> Path:
    """Return a folder of the first files of a corpus, as hard links."""
    folder.mkdir()
    for file in sorted(corpus.iterdir())[:slices]:
        (folder / file.name).hardlink_to(file)
    return folder


def measure(corpus: Path, out: Path, side_px: int, cpus: int) -> Peaks:
    """Convert a corpus in a job of its own and watch its processes.

    Raises:
        SystemExit: If the job fails.
    """
    flags = {
        "--source": corpus, "--corpus": "rsna", "--out": out, "--side_px": side_px, "--max_reject_fraction": 1,
        "--cluster.address": "local", "--cluster.cpus": cpus, "--cluster.temp_dir": f"{out.parent}/ray",
    }  # fmt: skip
    command = [sys.executable, "-m", "ray_jobs.convert", *(str(word) for pair in flags.items() for word in pair)]
    started = time.perf_counter()
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kinds, peaks = {job.pid: DRIVER}, dict[int, float]()
    while job.poll() is None:
        for pid in [job.pid, *descendants(job.pid)]:
            command = command_of(pid)
            if pid != job.pid and command and kinds.get(pid) != CONVERTER:
                kinds[pid] = kind_of(command)
            peaks[pid] = max(peaks.get(pid, 0.0), peak_mb(pid))
        time.sleep(POLL_S)
    if job.returncode:
        sys.exit(f"the job ended with code {job.returncode}")
    slices = len(list(corpus.iterdir()))
    seconds = time.perf_counter() - started
    by_kind: dict[str, float] = {}
    for pid, kind in kinds.items():
        by_kind[kind] = max(by_kind.get(kind, 0.0), peaks[pid])
    return Peaks(slices, by_kind, slices / seconds)


def peak_mb(pid: int) -> float:
    """Return the peak resident memory of a process so far; 0 if it has ended."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found.group(1)) * 1024 / 1e6 if found else 0.0


def command_of(pid: int) -> list[str]:
    """Return the words of a process's command; Ray's workers put there what they do. None if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").split()
    except OSError:
        return []


def kind_of(command: list[str]) -> str:
    """Return what a process of Ray is: one of its workers, or the program, script or module it runs."""
    if command[0].startswith("ray::"):
        return CONVERTER if command[0].startswith(TASK_TITLE) else IDLE
    if "multiprocessing" in " ".join(command[:6]):
        return "part of the dashboard"
    scripts = [word for word in command[:6] if word.endswith(".py")]
    modules = [word for before, word in pairwise(command[:6]) if before == "-m"]
    return Path([*scripts, *modules, command[0]][0]).name


def print_table(peaks: list[Peaks]) -> None:
    """Print a row for each kind of process and a column for each corpus."""
    print("| largest of its kind, MB | " + " | ".join(f"{one.slices:,} slices" for one in peaks) + " | times |")
    print("| --- |" + " --- |" * (len(peaks) + 1))
    kinds = sorted({kind for one in peaks for kind in one.by_kind}, key=lambda kind: -peaks[-1].by_kind.get(kind, 0.0))
    for kind in kinds:
        row = [one.by_kind.get(kind, 0.0) for one in peaks]
        times = f"{row[-1] / row[0]:.2f}" if row[0] else "-"
        print(f"| {kind} | " + " | ".join(f"{peak:.0f}" for peak in row) + f" | {times} |")
    rates = ", ".join(f"{one.slices_per_s:.0f}" for one in peaks)
    print(f"\nslices/s, with the start of Ray: {rates}")


if __name__ == "__main__":
    main()
