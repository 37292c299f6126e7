"""Kill nodes of a cluster under its jobs, and compare their results with those of runs that nobody disturbed.

    python benchmarks/kill_cluster.py --runs 20 --seed 7
    python benchmarks/kill_cluster.py --runs 3 --jobs curate train predict

The jobs are convert, curate, train (two workers), tune (a grid of four cells) and predict, in turn. They run on a Ray
cluster of a head without CPUs and two nodes of one CPU. At a seeded moment of a job's work one of the nodes is killed,
with all its processes, and replaced; in every fourth round the head is killed instead, with its nodes and the driver,
and the same command runs on a new cluster. Then shards, training set and predictions must have the bytes of the
undisturbed run, beside no other file; the epochs that a trial prints must go on, none of them trained twice once it was
printed; and a table of trials must have each cell once, complete, with the same metrics.

Prints a table in Markdown; the exit code is 1 if a run differs. The seed decides what is killed and when; which process
that meets it does not.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from kill_convert import contents, differences
from two_nodes import TwoNodes, descendants, two_nodes

JOBS = ("convert", "curate", "train", "tune", "predict")
HEAD_ROUND = 4
"""Of as many rounds of the jobs, in the last the head is killed."""

STARTS_AT_MOST = 3
TIMEOUT_S = 360.0
POLL_S = 0.05
SIDE_PX = 32
EPOCHS = 8

NO_WORK = (b"ray::IDLE", b"ray::DashboardAgent", b"ray::RuntimeEnvAgent")
"""Titles of processes that every node has."""

MOVED = "its node was lost"
"""In the line that `tune` prints for a trial that goes on elsewhere."""

Command = tuple[str, ...]


@dataclass(frozen=True)
class Moment:
    """When, in a job's work, and what is killed."""

    head: bool  # else a node
    fraction: float  # of the undisturbed work
    choice: int  # which of the nodes at work, modulo how many there are


@dataclass(frozen=True)
class Outcome:
    """How a run went."""

    seconds: float
    work_s: float  # from the first task on
    met: str  # what was killed, and when; empty: nothing
    moved: int  # trials of a sweep that went on in another process as their node was lost
    faults: tuple[str, ...]


def commands(inputs: Path, out: Path) -> dict[str, Command]:
    """Return the command of each job, which reads the results of undisturbed jobs in `inputs` and writes to `out`."""
    flags: dict[str, dict[str, Any]] = {
        "phantom": {"out": out, "slices": 400, "faults": "false"},
        "convert": {
            "source": inputs / "phantom", "corpus": "rsna", "out": out, "side_px": SIDE_PX, "unit_files": 4,
        },
        "curate": {
            "shards": inputs / "convert", "labels": inputs / "phantom/stage_2_train.csv", "out": out,
            "split": "by_patient_stratified", "val_fraction": 0.2, "test_fraction": 0.2,
        },
        "train": {
            "training_set": inputs / "curate", "out": out, "trial.model.backbone": "test_resnet", "workers.count": 2,
            "workers.gpus": 0, "trial.training.epochs": EPOCHS, "trial.training.patience": EPOCHS,
            "trial.training.batch_size": 16,
        },
        "tune": {
            "training_set": inputs / "curate", "out": out, "trial.model.backbone": "test_resnet", "workers.gpus": 0,
            "trial.training.epochs": 4, "trial.training.batch_size": 16, "concurrent": 2,
            "retries": 0, "grid.axes": "{seed: [0, 1], training.learning_rate: [1e-3, 1e-4]}",
        },
        "predict": {
            "source": inputs / "phantom", "corpus": "rsna", "checkpoint": inputs / "checkpoint", "out": out, "gpus": 0,
        },
    }  # fmt: skip
    return {
        job: ("-m", f"ray_jobs.{job}", *(str(word) for name, value in of_job.items() for word in (f"--{name}", value)))
        for job, of_job in flags.items()
    }


class Run:
    """A job under test, on a cluster whose head may be replaced."""

    def __init__(self, job: str, command: Command, out: Path, nodes: TwoNodes) -> None:
        """Nothing is started yet."""
        self.job, self.out, self._command, self._nodes = job, out, command, nodes
        self.log = out.with_suffix(".log")
        self.work_s = 0.0
        self.met = ""
        self._process: subprocess.Popen[bytes] | None = None

    def to_end(self, moment: Moment | None, usual_work_s: float) -> str:
        """Run the command, with a kill on the way; return why it did not end well, if so."""
        for start in range(STARTS_AT_MOST):
            with self.log.open("ab") as log:
                command = [sys.executable, *self._command, "--cluster.address", self._nodes.address]
                self._process = subprocess.Popen(command, stdout=log, stderr=log)
            began = self._wait_for_work()
            if moment is not None and start == 0 and began is not None:
                self._kill_after(moment, began, moment.fraction * usual_work_s)
            try:
                code = self._process.wait(TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
                return f"did not end within {TIMEOUT_S:.0f} s; it printed last: {' '.join(last)}"
            self.work_s = time.monotonic() - (began or time.monotonic())
            if code == 0:
                return ""
            if not (moment and moment.head):  # a node's loss is no reason to submit again
                break
        return f"code {code}: {self.log.read_text(errors='replace').strip().splitlines()[-1]}"

    def _wait_for_work(self) -> float | None:
        """Return when a node began to run something; None if the job ended before."""
        assert self._process is not None
        while self._process.poll() is None:
            if any(busy_nodes(self._nodes)):
                return time.monotonic()
            time.sleep(POLL_S)
        return None

    def _kill_after(self, moment: Moment, began: float, delay_s: float) -> None:
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(delay_s)
            return  # it ended before
        at_s = time.monotonic() - began
        if moment.head:
            self._process.kill()
            self._nodes.replace_head()
            self.met = f"head, {at_s:.1f} s"
            return
        busy = [number for number, is_busy in enumerate(busy_nodes(self._nodes)) if is_busy] or [0, 1]
        self._nodes.kill_node(busy[moment.choice % len(busy)])
        self.met = f"node, {at_s:.1f} s"


def busy_nodes(nodes: TwoNodes) -> list[bool]:
    """Tell of each node whether one of its processes runs a task or an actor, by their titles."""
    return [any(_is_at_work(pid) for pid in descendants(raylet)) for raylet in nodes.raylets()]


def _is_at_work(pid: int) -> bool:
    with suppress(OSError):
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
        return title.startswith(b"ray::") and not title.startswith(NO_WORK)
    return False


def faults_of(run: Run, reference: Path) -> Iterator[str]:
    """Yield how the result of a run differs from the undisturbed one's in `reference`."""
    if run.job in ("convert", "curate", "predict"):
        yield from differences(contents(reference), contents(run.out))
        return
    wanted, found = records(reference), records(run.out)
    if wanted.keys() != found.keys():
        yield f"{len(found)} cells, not the {len(wanted)} of the undisturbed run"
    for digest in sorted(wanted.keys() & found.keys()):
        if found[digest]["status"] != "complete":
            yield f"{found[digest]['status']}: {found[digest]['reason']}"
        elif found[digest] != wanted[digest]:
            yield f"{digest} has other metrics"
        elif predictions(run.out, digest) != predictions(reference, digest):
            yield f"{digest} has other predictions"
    if run.job == "train" and (epochs := printed_epochs(run.log)) != sorted(set(epochs)):
        yield f"epochs were trained twice: {epochs}"


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """Return digest -> what a record says that does not depend on the time."""
    found = {}
    for file in folder.glob("*/record.json"):
        record = json.loads(file.read_text())
        epochs = [{name: epoch[name] for name in ("epoch", "train", "val")} for epoch in record["epochs"]]
        kept = ("status", "reason", "workers", "best_epoch", "thresholds", "metrics", "rows")
        found[file.parent.name] = {**{name: record[name] for name in kept}, "epochs": epochs}
    return found


def predictions(folder: Path, digest: str) -> bytes:
    """Return the file of a trial's predictions."""
    return (folder / digest / "predictions.parquet").read_bytes()


def printed_epochs(log: Path) -> list[int]:
    """Return the numbers of the epochs in a log, in its order. Each was saved before it was printed."""
    return [int(number) for number in re.findall(r"^epoch +(\d+)", log.read_text(errors="replace"), re.MULTILINE)]


def undisturbed(scratch: Path, nodes: TwoNodes, jobs: Sequence[str]) -> dict[str, Outcome]:
    """Run jobs once, with those whose results they need, each on the results of those before it."""
    needed = {"phantom", "convert", "curate", *jobs, *(["train"] if "predict" in jobs else [])}
    outcomes = {}
    for job in (job for job in ("phantom", *JOBS) if job in needed):
        if job == "predict":
            (checkpoint,) = (scratch / "train").glob("*/checkpoint")
            (scratch / "checkpoint").symlink_to(checkpoint)
        outcomes[job] = carry_out(job, scratch, scratch / job, nodes, None, 0.0)
        if outcomes[job].faults:
            sys.exit(f"the undisturbed {job} failed: {outcomes[job].faults[0]}")
    return outcomes


def carry_out(
    job: str, inputs: Path, out: Path, nodes: TwoNodes, moment: Moment | None, usual_work_s: float
) -> Outcome:
    """Run a job, with a kill where there is a moment for one, and compare."""
    run = Run(job, commands(inputs, out)[job], out, nodes)
    began = time.monotonic()
    fault = run.to_end(moment, usual_work_s)
    seconds = time.monotonic() - began
    faults = (fault,) if fault else tuple(faults_of(run, inputs / job)) if moment else ()
    return Outcome(seconds, run.work_s, run.met, run.log.read_text(errors="replace").count(MOVED), faults)


def planned_moment(seed: int, number: int, jobs: int) -> Moment:
    """Return what is killed in a run, of so many jobs in turn, and when."""
    rng = np.random.default_rng([seed, number])
    head = number // jobs % HEAD_ROUND == HEAD_ROUND - 1
    return Moment(head, float(rng.uniform(0.05, 0.9)), int(rng.integers(1000)))


def kill_runs(
    scratch: Path,
    nodes: TwoNodes,
    *,
    seed: int,
    numbers: list[int],
    jobs: Sequence[str] = JOBS,
    show: Callable[[str], object] = print,
) -> int:
    """Run the jobs undisturbed, then those numbers of the runs; show a table of them, and return how many differ."""
    usual = undisturbed(scratch, nodes, jobs)
    for job in jobs:
        show(f"undisturbed {job}: {usual[job].seconds:.1f} s, {usual[job].work_s:.1f} s of them on nodes")
    show("\n| run | job | killed, after the work began | outcome | s |\n| --- | --- | --- | --- | --- |")
    differing = disturbed = 0
    for number in numbers:
        job, moment = jobs[number % len(jobs)], planned_moment(seed, number, len(jobs))
        out = scratch / f"run-{number}"
        outcome = carry_out(job, scratch, out, nodes, moment, usual[job].work_s)
        differing += bool(outcome.faults)
        disturbed += bool(outcome.met)
        how = "; ".join(outcome.faults) or ("as undisturbed" if outcome.met else "ended before its moment")
        how += f", {outcome.moved} trials moved" if outcome.moved else ""
        show(f"| {number} | {job} | {outcome.met or 'nothing'} | {how} | {outcome.seconds:.1f} |")
    show(f"\n{disturbed} of {len(numbers)} runs were disturbed, {differing} ended otherwise than the undisturbed ones")
    return differing


def main() -> None:
    """Do as many runs as wanted; leave with 1 if one differs."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=20)
    arguments.add_argument("--first", type=int, default=0, help="number of the first run")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS, help="in turn")
    given = arguments.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it runs in the background
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.5"  # of 2: for each worker group several are waited for
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="hemo-kill-") as scratch, two_nodes(Path(scratch)) as nodes:
        numbers = list(range(given.first, given.first + given.runs))
        differing = kill_runs(
            Path(scratch),
            nodes,
            seed=given.seed,
            numbers=numbers,
            jobs=given.jobs,
            show=lambda line: print(line, flush=True),
        )
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
