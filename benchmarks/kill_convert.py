"""Kill conversions at random, run them again, and compare every byte with a conversion nobody disturbed.

    python benchmarks/kill_convert.py --runs 20 --seed 7

Each run converts the same corpus on a Ray cluster of two nodes. One to three times, once so many shards are there, a
Ray worker, the driver, or a whole node is killed by SIGKILL, or the driver is interrupted as by Ctrl-C. Where the job
did not survive it, the same command is run again. Afterwards shards, index, rejects, manifest and card must be those of
the undisturbed run to the byte, with no other file beside them. Prints a line a run; the exit code is 1 if one differs.

Which kills, and when, depends on the seed; where in its work they meet a process does not.
"""

import argparse
import hashlib
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from two_nodes import TwoNodes, two_nodes

from hemo.synthetic.plan import plan_corpus
from hemo.synthetic.slice_file import make_slice_file

KINDS = ("worker", "driver", "node", "ctrl-c")
STARTS_AT_MOST = 5
DELAY_S = 0.1
TIMEOUT_S = 360.0
POLL_S = 0.005
UNIT_FILES = 8
DISTINCT_SLICES = 24


@dataclass(frozen=True)
class Kill:
    """What is killed, and when."""

    kind: str  # of KINDS
    shards: int  # that are there
    delay_s: float  # after that
    choice: int  # which worker or node, modulo how many there are


@dataclass(frozen=True)
class Outcome:
    """How a run went."""

    starts: int
    seconds: float
    met: tuple[str, ...]  # each kill, with the shards that were there
    faults: tuple[str, ...]  # empty: as undisturbed


class Conversion:
    """The command under test, its output folder, and the process that runs it now."""

    def __init__(self, corpus: Path, out: Path, address: str) -> None:
        """Nothing is started yet."""
        self.out = out
        flags = {
            "--source": corpus, "--corpus": "rsna", "--out": out, "--side_px": 128, "--unit_files": UNIT_FILES,
            "--max_reject_fraction": 1, "--cluster.address": address,
        }  # fmt: skip
        self._command = [
            sys.executable,
            "-m",
            "ray_jobs.convert",
            *(str(word) for pair in flags.items() for word in pair),
        ]
        self._log = out.with_suffix(".log")
        self.starts = 0
        self.hung = False
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run the command."""
        self.starts += 1
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    @property
    def running(self) -> bool:
        """Whether the command has not ended."""
        return self._process is not None and self._process.poll() is None

    def end_by(self, number: signal.Signals) -> None:
        """Send the driver a signal; it has ended afterwards."""
        assert self._process is not None
        self._process.send_signal(number)
        self.wait()

    def wait(self) -> int:
        """Wait for the end; return the exit code. A command that takes far too long is killed."""
        assert self._process is not None
        try:
            return self._process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.hung = True
            self._process.kill()
            return self._process.wait()

    def shards(self) -> int:
        """Return how many shards are there."""
        folder = self.out / "shards"
        return sum(file.name.startswith("unit-") for file in folder.iterdir()) if folder.is_dir() else 0

    def tail(self) -> str:
        """Return the last line of the log."""
        return self._log.read_text(errors="replace").strip().splitlines()[-1]


def main() -> None:
    """Make the corpus, convert it undisturbed, then run after run; leave with 1 if one differs."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--slices", type=int, default=2400)
    arguments.add_argument("--kills", type=int, default=3, help="in a run at most")
    given = arguments.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it runs in the background
    with tempfile.TemporaryDirectory(prefix="hemo-kill-") as scratch, two_nodes(Path(scratch)) as nodes:
        corpus = make_corpus(Path(scratch, "corpus"), given.slices)
        reference = Conversion(corpus, Path(scratch, "undisturbed"), nodes.address)
        undisturbed = run(reference, [], nodes, {})
        if undisturbed.faults:
            sys.exit(f"the undisturbed run failed: {undisturbed.faults[0]}")
        wanted = contents(reference.out)
        print(f"undisturbed: {len(wanted)} files in {undisturbed.seconds:.1f} s", flush=True)
        differing = 0
        for number in range(given.runs):
            conversion = Conversion(corpus, Path(scratch, f"run-{number}"), nodes.address)
            rng = np.random.default_rng([given.seed, number])
            count = int(rng.integers(1, given.kills, endpoint=True))
            plan = planned_kills(rng, KINDS[number % len(KINDS)], count, reference.shards())
            outcome = run(conversion, plan, nodes, wanted)
            faults = outcome.faults or lost_or_twice(conversion.out, given.slices)
            differing += bool(faults)
            print(
                f"run {number}: killed {', '.join(outcome.met) or 'nothing'}; {outcome.starts} starts, "
                f"{outcome.seconds:.1f} s: {'; '.join(faults) or 'same bytes'}",
                flush=True,
            )
    print(f"{given.runs - differing} of {given.runs} runs ended with the bytes of the undisturbed one")
    sys.exit(bool(differing))


def make_corpus(folder: Path, slices: int) -> Path:
    """Write a few phantom slices, some with faults, under as many names as are wanted."""
    folder.mkdir()
    plans = plan_corpus(slices=DISTINCT_SLICES, seed=0, positive_fraction=0.4, faults=True)
    originals = []
    for number, plan in enumerate(plans):
        originals.append(folder / f"ID_{number:06d}.dcm")
        originals[-1].write_bytes(make_slice_file(plan).data)
    for number in range(len(plans), slices):
        (folder / f"ID_{number:06d}.dcm").hardlink_to(originals[number % len(originals)])
    return folder


def planned_kills(rng: np.random.Generator, first: str, count: int, shards: int) -> list[Kill]:
    """Return some kills, the first of a given kind, in the order in which their shards are reached."""
    kinds = [first, *rng.choice(KINDS, size=count - 1)]
    moments = sorted(int(moment) for moment in rng.integers(1, int(0.95 * shards), size=len(kinds)))
    return [
        Kill(str(kind), moment, rng.uniform(0, DELAY_S), int(rng.integers(1000)))
        for kind, moment in zip(kinds, moments, strict=True)
    ]


def run(conversion: Conversion, kills: list[Kill], nodes: TwoNodes, wanted: dict[str, str]) -> Outcome:
    """Convert until the command ends well, with kills on the way; compare with `wanted` where there were any."""
    started, met = time.perf_counter(), []
    waiting = list(kills)
    while conversion.starts < STARTS_AT_MOST:
        conversion.start()
        while waiting and reached(conversion, waiting[0].shards):
            time.sleep(waiting[0].delay_s)
            shards = conversion.shards()
            if carry_out(waiting[0], conversion, nodes):
                met.append(f"{waiting[0].kind} at {shards}")
            waiting.pop(0)
        if conversion.wait() == 0:
            break
    else:
        return Outcome(conversion.starts, time.perf_counter() - started, tuple(met), (conversion.tail(),))
    seconds = time.perf_counter() - started
    faults = differences(wanted, contents(conversion.out)) if kills else ()
    hung = (f"a start did not end within {TIMEOUT_S:.0f} s",) if conversion.hung else ()
    return Outcome(conversion.starts, seconds, tuple(met), hung + faults)


def reached(conversion: Conversion, shards: int) -> bool:
    """Wait until so many shards are there; False if the command ended before."""
    while conversion.running:
        if conversion.shards() >= shards:
            return True
        time.sleep(POLL_S)
    return False


def carry_out(planned: Kill, conversion: Conversion, nodes: TwoNodes) -> bool:
    """Kill what the plan says; False if no worker was at work."""
    if planned.kind == "worker":
        return nodes.kill_worker(planned.choice)
    if planned.kind == "node":
        nodes.kill_node(planned.choice)
    else:
        conversion.end_by(signal.SIGKILL if planned.kind == "driver" else signal.SIGINT)
    return True


def contents(out: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, hidden ones too, by relative path; but for the jobs' logs."""
    files = [path for path in out.rglob("*") if path.is_file() and path.parent != out / "log"]
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def differences(wanted: dict[str, str], found: dict[str, str]) -> tuple[str, ...]:
    """Name the files that are missing, too many, or other than wanted."""
    missing = [f"{name} is missing" for name in wanted.keys() - found.keys()]
    extra = [f"{name} is left" for name in found.keys() - wanted.keys()]
    other = [f"{name} differs" for name in wanted.keys() & found.keys() if wanted[name] != found[name]]
    return tuple(sorted(missing + extra + other))


def lost_or_twice(out: Path, slices: int) -> tuple[str, ...]:
    """Count rows of shards and rejects: every slice must be one of them, once."""
    rows = pq.read_table(out / "shards", columns=["source_path"])["source_path"].to_pylist()
    rejects = pq.read_table(out / "rejects.parquet")["source_path"].to_pylist()
    counts = Counter([*rows, *rejects])
    twice = [name for name, count in counts.items() if count > 1]
    return tuple(
        [f"{slices - len(counts)} slices lost"] * (len(counts) != slices) + [f"{name} is there twice" for name in twice]
    )


if __name__ == "__main__":
    main()
