"""How much memory `convert` takes, and whether that grows with the corpus.

    python benchmarks/bench_memory.py --slices 2000 20000

Converts corpora of several sizes (512 x 512, the same slices under many names), each as a job of its own on a local
Ray, and reads the peak resident memory (`VmHWM`) of the driver and of every Ray worker that converted. Resident memory
counts shared pages too: of libraries, and of what was read from Ray's object store. Prints a Markdown table in MB, and
by how much the largest corpus's peaks are above the smallest one's.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from replicas import replicated_corpus
from two_nodes import descendants

from hemo.cluster.session import connected
from hemo.config.types import ClusterConfig

POLL_S = 0.1
TASK_TITLE = b"ray::FlatMap("


@dataclass(frozen=True)
class Peaks:
    """Peak resident memory of one conversion, in MB (10^6 bytes)."""

    slices: int
    driver_mb: float
    workers_mb: tuple[float, ...]  # of every process that converted, largest first
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
            print_row(peaks[-1])
    first, last = peaks[0], peaks[-1]
    print(
        f"driver {last.driver_mb / first.driver_mb:.2f}, workers {last.workers_mb[0] / first.workers_mb[0]:.2f} times"
    )


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
    driver_mb, workers_mb = 0.0, dict[int, float]()
    while job.poll() is None:
        driver_mb = max(driver_mb, peak_mb(job.pid))
        for pid in descendants(job.pid):
            if pid in workers_mb or converts(pid):
                workers_mb[pid] = max(workers_mb.get(pid, 0.0), peak_mb(pid))
        time.sleep(POLL_S)
    if job.returncode:
        sys.exit(f"the job ended with code {job.returncode}")
    slices = len(list(corpus.iterdir()))
    seconds = time.perf_counter() - started
    return Peaks(slices, driver_mb, tuple(sorted(workers_mb.values(), reverse=True)), slices / seconds)


def peak_mb(pid: int) -> float:
    """Return the peak resident memory of a process so far; 0 if it has ended."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found.group(1)) * 1024 / 1e6 if found else 0.0


def converts(pid: int) -> bool:
    """Tell whether a process is a Ray worker that converts now: its title says so."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(TASK_TITLE)
    except OSError:
        return False


def print_row(peaks: Peaks) -> None:
    """Print one row of the table; its head goes before the first."""
    workers = ", ".join(f"{peak:.0f}" for peak in peaks.workers_mb)
    print(
        f"| {peaks.slices:,} slices | driver {peaks.driver_mb:.0f} MB | workers {workers} MB "
        f"| {peaks.slices_per_s:.0f} slices/s with Ray's start |",
        flush=True,
    )


if __name__ == "__main__":
    main()
