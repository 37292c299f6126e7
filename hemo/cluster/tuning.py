"""Trials side by side on one Ray cluster, by Ray Tune, and a line for each that ends."""

import math
import os
from collections.abc import Sequence
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.logger import JsonLoggerCallback
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from hemo.cluster.capacity import gpus_per_worker, trials_at_once
from hemo.cluster.feed import ResidentSet
from hemo.cluster.fit import RAY_FOLDER
from hemo.cluster.searcher import StudySearcher
from hemo.cluster.trainable import TrialRun, trial_worker
from hemo.cluster.trial import failed_record
from hemo.config.trial import TrialConfig
from hemo.config.tune import Range, TuneConfig
from hemo.learning.figures import to_stderr
from hemo.storage import join, remove
from hemo.study.record import is_finished, record_digest, write_record

TUNE_FOLDER = "tune"
"""Below `OUT/.ray`: Tune's own notes of a sweep, which nothing reads."""

CRASH_RETRIES = 1
"""How often a trial whose process was lost is begun again; it goes on after its last whole epoch."""

NEVER = float("inf")
"""Epochs after which the median rule pauses a trial to let others catch up: paused trials would have to be saved."""

TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # records are ours; Tune itself wants the JSON one to look back
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the job at once; Tune would let running trials end as stopped
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed trial has no metric
    "RAY_AIR_NEW_OUTPUT": "0",
}


def run_trials(
    config: TuneConfig, resident: ResidentSet, trials: Sequence[TrialConfig] | StudySearcher, count: int
) -> None:
    """Run trials until each has a record.

    Args:
        config: Of the sweep.
        resident: The training set in the object store.
        trials: All of them, or who is asked for one after the other.
        count: How many.
    """
    os.environ.update(TUNE_SETTINGS)
    gpus = gpus_per_worker(config.workers)
    searcher = trials if isinstance(trials, StudySearcher) else None
    cells = [] if isinstance(trials, StudySearcher) else [trial.model_dump(mode="json") for trial in trials]
    lines = TrialLines(count, config.search.metric if config.search else "val_loss")
    remove(join(config.out, RAY_FOLDER, TUNE_FOLDER))
    tune.Tuner(
        tune.with_resources(
            tune.with_parameters(TrialRun, job=config, resident=resident, gpus=gpus), trial_resources(config, gpus)
        ),
        param_space={"trial": tune.grid_search(cells)} if cells else None,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=trial_scheduler(config),
            num_samples=count if searcher else 1,
            max_concurrent_trials=trials_at_once(config, gpus, count),
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=_run_config(config.out, lines),
    ).fit()
    record_losses(lines.lost, config, resident, gpus)


def _run_config(out: str, lines: "TrialLines") -> tune.RunConfig:
    return tune.RunConfig(
        name=TUNE_FOLDER,
        storage_path=join(out, RAY_FOLDER),
        verbose=0,
        callbacks=[lines, JsonLoggerCallback()],  # type: ignore[no-untyped-call]
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        failure_config=tune.FailureConfig(max_failures=CRASH_RETRIES),
    )


def trial_resources(config: TuneConfig, gpus: float) -> dict[str, float]:
    """Return what Ray sets aside for one trial; one of several workers only waits for them, and takes no CPU away."""
    if config.workers.count > 1:
        return {"CPU": 0, "memory": 1}  # a byte: Ray refuses to set aside nothing
    return {"CPU": config.workers.cpus, **({"GPU": gpus} if gpus else {})}


def trial_scheduler(config: TuneConfig) -> TrialScheduler:
    """Return who stops poor trials early: nobody, in a grid."""
    search = config.search
    if search is None or search.scheduler == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    mode = "min" if search.metric == "val_loss" else "max"
    grace = search.grace_epochs
    if search.scheduler == "median":
        return MedianStoppingRule(
            time_attr="epoch",
            metric=search.metric,
            mode=mode,
            grace_period=grace,
            min_time_slice=NEVER,  # type: ignore[arg-type]  # a number is compared with it
        )
    longest = max(most_epochs(config), grace)
    return ASHAScheduler(time_attr="epoch", metric=search.metric, mode=mode, max_t=longest, grace_period=grace)


def most_epochs(config: TuneConfig) -> int:
    """Return the most epochs a trial may have."""
    values = config.search.space.get("training.epochs") if config.search else None
    if values is None:
        return config.trial.training.epochs
    return int(values.high if isinstance(values, Range) else max(values.choices))


def record_losses(
    lost: Sequence[tuple[dict[str, Any], str]], config: TuneConfig, resident: ResidentSet, gpus: float
) -> None:
    """Record each trial whose process was lost, unless it was recorded before that.

    Args:
        lost: A trial's config as plain data, and the reason.
        config: Of the sweep.
        resident: Its training set.
        gpus: Of each worker.

    Raises:
        Exception: What one could not be recorded for, after all others were.
    """
    faults = []
    for plain, reason in lost:
        trial = TrialConfig.model_validate(plain)
        if is_finished(config.out, record_digest(trial, resident.card.digest), pruned_counts=True):
            continue
        try:
            write_record(config.out, failed_record(trial, resident.card, trial_worker(config, gpus), reason), None)
        except Exception as error:  # of whatever kind: the others are recorded first
            error.add_note(f"{trial.name} failed ({reason}) and could not be recorded")
            faults.append(error)
    if faults:
        raise faults[0]


class TrialLines(tune.Callback):
    """Says a line on standard error for each trial that ends, and keeps those whose process was lost."""

    def __init__(self, count: int, metric: str) -> None:
        """Begin at none of `count`; the best is told by `metric`."""
        self.lost: list[tuple[dict[str, Any], str]] = []
        self._count, self._ended = count, 0
        self._metric, self._best = metric, ""
        self._best_figure = math.inf

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Say how a trial ended; one without a status was stopped by the scheduler."""
        result = trial.last_result
        status, name = result.get("status", "pruned"), trial.config["trial"]["name"]
        if status == "complete" and self._metric in result and self._loss(result) < self._best_figure:
            self._best_figure = self._loss(result)
            self._best = f"; best {self._metric} {result[self._metric]:.4f}: {name}"
        figures = [f"{name} {result[name]:.4f}" for name in ("val_loss", "val_accuracy", "val_auroc") if name in result]
        self._say(trial, ", ".join([f"{status} after {result['epoch']} epochs", *figures]))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Keep a lost trial."""
        reason = str(trial.get_error() or "its process was lost").strip().splitlines()[-1]
        self.lost.append((trial.config["trial"], reason))
        self._say(trial, f"failed: {reason}")

    def _loss(self, result: dict[str, Any]) -> float:
        """Return the metric so that less is better."""
        return float(result[self._metric]) * (1 if self._metric == "val_loss" else -1)

    def _say(self, trial: Trial, how: str) -> None:
        self._ended += 1
        to_stderr(f"{self._ended}/{self._count} trials: {trial.config['trial']['name']}: {how}{self._best}")
