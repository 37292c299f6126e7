"""Train on a cluster whose nodes come and go, with fewer workers than configured; compare with one worker that stays.

    python benchmarks/elastic_train.py
    python benchmarks/elastic_train.py --grow

`train` asks for three workers and may run with one (`workers.min_count`), on a head without CPUs and two nodes of one
CPU. After its second epoch one of the nodes is killed, with all its processes. With `--grow` a node is added first, and
the node is killed after the second epoch of the larger group.

Prints a table of epochs in Markdown: how many workers ran, and the validation loss with that of one worker whom nobody
disturbed. The model has neither batch normalisation nor dropout, so that both must agree within rounding. The exit code
is 1 if an epoch is missing, printed twice, or differs.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from made_training_set import write_training_set
from two_nodes import TwoNodes, two_nodes

SIDE_PX = 32
ROWS = {"train": 600, "val": 200, "test": 40}
TRIAL = {
    "model": {"backbone": "test_vit", "weights": "none", "dropout": 0.0},
    "training": {"batch_size": 24, "optimizer": "sgd", "learning_rate": 0.02},
}
TOLERANCE = 1e-3
TIMEOUT_S = 700.0
POLL_S = 0.1

DRIVER = """
import sys
from hemo.cluster import ray_train
from ray_jobs.train import main
ray_train.GROW_AFTER_S = float(sys.argv[1])
main(sys.argv[2:])
"""
"""`hemo train` that looks for new nodes sooner."""


class Job:
    """A running `train`, and its log."""

    def __init__(self, command: list[str], log: Path) -> None:
        """Start it."""
        self.log = log
        self.began = time.monotonic()
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file)

    def seconds(self) -> float:
        """Return for how long it ran until now."""
        return time.monotonic() - self.began

    def text(self) -> str:
        """Return what it has printed."""
        return self.log.read_text(errors="replace")

    def epochs(self) -> list[int]:
        """Return the numbers of the epochs it has printed, in its order."""
        return [int(number) for number in re.findall(r"^epoch +(\d+)", self.text(), re.MULTILINE)]

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for a moment of the job; leave with its log where it ends before, or that takes too long."""
        while not holds():
            if self.process.poll() is not None or self.seconds() > TIMEOUT_S:
                self.process.kill()
                sys.exit(f"{what} was waited for in vain; the job printed:\n{self.text()}")
            time.sleep(POLL_S)


def epochs_of_group(job: Job, group: str) -> int:
    """Return how many epochs were printed since a group of workers began that announced itself so."""
    _, begun, after = job.text().rpartition(group)
    return len(re.findall(r"^epoch ", after, re.MULTILINE)) if begun else 0


def disturbed(scratch: Path, nodes: TwoNodes, training_set: str, epochs: int, *, grow: bool) -> Job:
    """Train while nodes come and go, to the end."""
    flags: dict[str, Any] = {
        "training_set": training_set,
        "out": scratch / "elastic",
        "workers.count": 3,
        "workers.min_count": 1,
        "workers.gpus": 0,
        **{f"trial.{part}.{name}": value for part, values in TRIAL.items() for name, value in values.items()},
        **{f"trial.training.{name}": epochs for name in ("epochs", "patience")},
        "cluster.address": nodes.address,
    }
    words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    job = Job([sys.executable, "-c", DRIVER, "2" if grow else "60", *words], scratch / "elastic.log")
    job.wait_until(lambda: epochs_of_group(job, "2 of 3 workers train") >= 2, "the second epoch of two workers")
    if grow:
        nodes.add_node()
        job.wait_until(lambda: workers_of_epochs(scratch)[-2:] == [3, 3], "the second epoch of three workers")
    nodes.remove_node(0)
    job.wait_until(lambda: job.process.poll() is not None, "the end")
    return job


def workers_of_epochs(scratch: Path) -> list[int]:
    """Return how many workers ran in each epoch that the trial has saved."""
    from hemo.models.checkpoint import read_state

    for file in (scratch / "elastic").glob("*/checkpoint/state.pt"):
        if state := read_state(str(file)):
            return [epoch["workers"] for epoch in state["progress"]["epochs"]]
    return []


def undisturbed(scratch: Path, training_set: str, epochs: int) -> Any:
    """Return the record of the same trial, trained by one worker in this process."""
    from hemo.config.trial import TrialConfig
    from hemo.curation.card import read_card
    from hemo.training.data.dataset import read_training_set
    from hemo.training.distributed import Worker
    from hemo.training.reporting import run_to_end
    from hemo.trials.key import TrialKeys
    from hemo.trials.run import run_trial

    trial = TrialConfig.model_validate(
        {**TRIAL, "training": {**TRIAL["training"], "epochs": epochs, "patience": epochs}}  # type: ignore[dict-item]
    )
    key = TrialKeys(str(scratch / "alone"), read_card(training_set).digest).key(trial)
    return run_to_end(run_trial(key, training_set, worker=Worker(), data=read_training_set(training_set)))


def main() -> None:
    """Do both, and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--grow", action="store_true", help="add a node first")
    arguments.add_argument("--epochs", type=int, default=8)
    given = arguments.parse_args()
    os.environ |= {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="hemo-elastic-") as folder:
        scratch = Path(folder)
        images = np.random.default_rng(0).integers(0, 256, (64, 1, SIDE_PX, SIDE_PX), np.uint8)
        training_set = write_training_set(scratch / "set", images, ROWS)
        with two_nodes(scratch) as nodes:
            job = disturbed(scratch, nodes, training_set, given.epochs, grow=given.grow)
        seconds = job.seconds()
        print(job.text())
        from hemo.trials.record import read_records

        (record,) = read_records(str(scratch / "elastic"))
        alone = undisturbed(scratch, training_set, given.epochs)
        print("| epoch | workers | val loss | of one worker |\n| --- | --- | --- | --- |")
        for epoch, expected in zip(record.epochs, alone.epochs, strict=True):
            print(f"| {epoch.epoch} | {epoch.workers} | {epoch.val['loss']:.6f} | {expected.val['loss']:.6f} |")
        largest = max(
            abs(epoch.val["loss"] - other.val["loss"]) for epoch, other in zip(record.epochs, alone.epochs, strict=True)
        )
        once = job.epochs() == list(range(1, given.epochs + 1))
        print(f"\nlargest difference {largest:.2g}; each epoch printed once: {once}; {seconds:.0f} s")
    sys.exit(largest > TOLERANCE or not once)


if __name__ == "__main__":
    main()
