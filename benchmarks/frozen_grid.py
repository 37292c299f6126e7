"""Run a grid of heads on a frozen backbone in this process, one trial after the other, and print a line for each.

    python benchmarks/frozen_grid.py conf/grid/chest_xray_frozen.yaml --training_set runs/xray_160px/by_patient \
        --out runs/xray_160px/frozen --weights lite0.safetensors --seeds 0

The trials and their records are those of `hemo tune` with the same file; without Ray the time is that of the trials.
"""

import argparse
import time

import torch

from hemo.config.load import load_config
from hemo.config.tune import TuneConfig
from hemo.curation.card import read_card
from hemo.sweeps.grid import grid_trials
from hemo.training.data.dataset import read_training_set
from hemo.training.distributed import Worker
from hemo.training.reporting import run_to_end
from hemo.trials.key import TrialKeys
from hemo.trials.record import TrialRecord
from hemo.trials.run import run_trial


def main() -> None:
    """Run the trials that have no record yet."""
    given = arguments().parse_args()
    torch.set_num_threads(given.threads)
    flags = ["--config", given.grid, "--training_set", given.training_set, "--out", given.out]
    flags += ["--trial.model.weights", given.weights]
    flags += ["--trial.model.backbone", given.backbone] if given.backbone else []
    config = load_config(TuneConfig, flags, job="tune")
    keys = TrialKeys(config.out, read_card(given.training_set).digest)
    data = read_training_set(given.training_set)
    trials = [trial for trial in grid_trials(config.trial, config.grid) if given.names in ("", trial.name)]
    print("| row | seed | epochs | val AUROC | val accuracy | test loss | test accuracy | test AUROC | seconds |")
    print("| --- " * 9 + "|")
    for seed in given.seeds:
        for trial in trials:
            began = time.perf_counter()
            key = keys.key(trial.model_copy(update={"seed": seed}))
            record = run_to_end(run_trial(key, given.training_set, worker=Worker(threads=given.threads), data=data))
            print(line(record, time.perf_counter() - began), flush=True)


def line(record: TrialRecord, seconds: float) -> str:
    """Return a trial as a line of the table; `seconds` are those of the whole trial."""
    if record.status != "complete":
        return f"| {record.config.name} | {record.config.seed} | {record.status}: {record.reason} |"
    val, test = record.metrics["val"], record.metrics["test"]
    values = (
        *(val["auroc"], val["accuracy"]),
        *(test["loss"], test["accuracy"], test["auroc"]),
    )
    shown = " | ".join(f"{value:.4f}" for value in values)
    return f"| {record.config.name} | {record.config.seed} | {len(record.epochs)} | {shown} | {seconds:.0f} |"


def arguments() -> argparse.ArgumentParser:
    """Return the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", help="file of `hemo tune`")
    parser.add_argument("--training_set", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--backbone", default="", help="in the place of the file's")
    parser.add_argument("--names", default="", help="of the one row to run; empty: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    main()
