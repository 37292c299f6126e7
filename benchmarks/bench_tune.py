"""What a sweep adds to each one-worker trial, beside Ray Tune itself and a plain loop.

    python benchmarks/bench_tune.py --trials 12

On one tiny training set, on one fresh local Ray with two CPUs, two trials at once:

    loop    `run_trial` in this process, one trial after the other: the limit, what learning and recording take
    tune    a bare function trainable of Ray Tune that only reports one figure: what Tune itself takes for a trial
    hemo    `tune_models`: the same trials as a grid, each to its record

The overhead of a trial is the wall time of a contender times the trials at once, less the seconds the records say were
spent learning, over the trials. It covers what a sweep pays once: the set to the object store, two processes. A second
sweep with a third of the trials tells that from what each further trial pays. Prints a Markdown table, and how often
Ray read a split of the training set.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import ray
from made_training_set import write_training_set
from ray import tune
from ray.util.state import list_tasks

from hemo.cluster.session import connected
from hemo.cluster.tuning.sweep import tune_models
from hemo.config.tune import GridConfig, TuneConfig
from hemo.sweeps.grid import grid_trials
from hemo.training.data.dataset import read_training_set
from hemo.training.distributed import Worker
from hemo.training.reporting import run_to_end
from hemo.trials.key import TrialKeys
from hemo.trials.record import TrialRecord
from hemo.trials.run import run_trial

AT_ONCE = 2
TRIAL = {"model": {"backbone": "test_resnet"}, "training": {"epochs": 3, "batch_size": 16}}


def main() -> None:
    """Run the contenders in turn and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--trials", type=int, default=12)
    trials = arguments.parse_args().trials
    with tempfile.TemporaryDirectory(prefix="hemo-bench-") as scratch:
        config = sweep(Path(scratch), trials)
        rows = [("loop", 1, *timed(lambda: by_loop(config, f"{scratch}/loop")))]
        with connected(config.cluster):
            rows.append(("tune", AT_ONCE, *timed(lambda: by_tune(trials, f"{scratch}/tune"))))
            few = with_seeds(config, range(trials, trials + trials // 3))
            rows.append((f"hemo, {trials // 3} trials", AT_ONCE, *timed(lambda: tune_models(few))))
            rows.append(("hemo", AT_ONCE, *timed(lambda: tune_models(config))))
            reads = list_tasks(ray.get_runtime_context().gcs_address, filters=[("name", "=", "_read_split")])
    print(
        "| contender | trials | wall s | learning s, all trials | overhead s a trial |\n| --- | --- | --- | --- | --- |"
    )
    spent = []
    for name, at_once, wall, records in rows:
        count, learning = len(records) or trials, sum(record.seconds for record in records)
        spent.append((count, wall * at_once - learning))
        print(f"| {name} | {count} | {wall:.1f} | {learning:.1f} | {spent[-1][1] / count:.2f} |")
    (few_count, few_spent), (count, all_spent) = spent[-2:]
    print(f"\neach further trial of hemo: {(all_spent - few_spent) / (count - few_count):.2f} s")
    print(f"splits read by two sweeps: {len(reads)} (train, val and test once each)")


def sweep(scratch: Path, trials: int) -> TuneConfig:
    """Return a grid of so many seeds on a new training set."""
    images = np.random.default_rng(0).integers(0, 255, (16, 3, 32, 32), dtype=np.uint8)
    return TuneConfig.model_validate(
        {
            "training_set": write_training_set(scratch / "set", images, {"train": 64, "val": 32, "test": 32}),
            "out": str(scratch / "hemo"),
            "trial": TRIAL,
            "grid": {"axes": {"seed": list(range(trials))}},
            "workers": {"gpus": 0},
            "concurrent": AT_ONCE,
            "cluster": {"address": "local", "cpus": AT_ONCE, "temp_dir": str(scratch / "ray")},
        }
    )


def with_seeds(config: TuneConfig, seeds: Iterable[int]) -> TuneConfig:
    """Return the same grid for other seeds."""
    return config.model_copy(update={"grid": GridConfig(axes={"seed": tuple(seeds)})})


def timed(run: Callable[[], list[TrialRecord]]) -> tuple[float, list[TrialRecord]]:
    """Return how many seconds a contender took, and its records."""
    began = time.perf_counter()
    records = run()
    return time.perf_counter() - began, records


def by_loop(config: TuneConfig, out: str) -> list[TrialRecord]:
    """Run the trials one by one, without Ray."""
    assert config.grid is not None
    data = read_training_set(config.training_set)
    keys = TrialKeys(out, data.card.digest)
    return [
        run_to_end(run_trial(keys.key(trial), config.training_set, worker=Worker(), data=data))
        for trial in grid_trials(config.trial, config.grid)
    ]


def by_tune(trials: int, out: str) -> list[TrialRecord]:
    """Let Tune run functions that do nothing."""
    tune.Tuner(
        tune.with_resources(lambda _: tune.report({"loss": 1.0}), {"CPU": 1}),
        param_space={"seed": tune.grid_search(list(range(trials)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=AT_ONCE),
        run_config=tune.RunConfig(storage_path=out, verbose=0),
    ).fit()
    return []


if __name__ == "__main__":
    main()
