"""Run the trials of a file of `hemo tune` in this process, one after the other, and print a line for each.

    python benchmarks/run_grid.py conf/grid/chest_xray_frozen.yaml --training_set runs/xray_160px/by_patient \
        --out runs/xray_160px/frozen --trial.model.weights lite0.safetensors --seeds 0 1 2 --names mn_resultset1

Flags of `hemo tune` change the file. Trials and records are those of `hemo tune`; without Ray the time is that of the
trials, and one process on each core waits for no other. A trial that has a record is not run again.
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
    given, flags = arguments().parse_known_args()
    torch.set_num_threads(given.threads)
    config = load_config(TuneConfig, ["--config", given.grid, *flags], job="tune")
    assert config.grid is not None, "a search needs Ray: hemo tune"
    keys = TrialKeys(config.out, read_card(config.training_set).digest)
    data = read_training_set(config.training_set)
    trials = [trial for trial in grid_trials(config.trial, config.grid) if not given.names or trial.name in given.names]
    print("| row | seed | epochs | val loss | val AUROC | test loss | test accuracy | test AUROC | seconds |")
    print("| --- " * 9 + "|")
    for seed in given.seeds or [None]:
        for trial in trials:
            began = time.perf_counter()
            seeded = trial if seed is None else trial.model_copy(update={"seed": seed})
            trial_run = run_trial(
                keys.key(seeded), config.training_set, worker=Worker(threads=given.threads), data=data
            )
            print(line(run_to_end(trial_run), time.perf_counter() - began), flush=True)


def line(record: TrialRecord, seconds: float) -> str:
    """Return a trial as a line of the table; `seconds` are those of the whole trial."""
    if record.status != "complete":
        return f"| {record.config.name} | {record.config.seed} | {record.status}: {record.reason} |"
    val, test = record.metrics["val"], record.metrics["test"]
    values = (
        *(val["loss"], val["auroc"]),
        *(test["loss"], test["accuracy"], test["auroc"]),
    )
    shown = " | ".join(f"{value:.4f}" for value in values)
    return f"| {record.config.name} | {record.config.seed} | {len(record.epochs)} | {shown} | {seconds:.0f} |"


def arguments() -> argparse.ArgumentParser:
    """Return the flags that `hemo tune` has not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", help="file of `hemo tune`")
    parser.add_argument("--names", default=[], nargs="+", help="of the rows to run; none: all")
    parser.add_argument("--seeds", type=int, default=[], nargs="+", help="of each row; none: as in the file")
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    main()
