"""Trials side by side on one Ray cluster, by Ray Tune."""

import os
from collections.abc import Sequence
from typing import Any

from ray import tune
from ray.tune.logger import JsonLoggerCallback
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from hemo.cluster.capacity import gpus_per_trial_worker
from hemo.cluster.cells import CellSearcher
from hemo.cluster.feed import SharedTrainingSet
from hemo.cluster.fit import RAY_FOLDER
from hemo.cluster.lines import TrialLines
from hemo.cluster.searcher import StudySearcher, mode_of
from hemo.cluster.trainable import TrialRun, trial_worker
from hemo.config.trial import TrialConfig
from hemo.config.tune import Range, TuneConfig
from hemo.storage import join, remove
from hemo.trials.progress import SweepPlan
from hemo.trials.record import is_finished, record_digest, write_record
from hemo.trials.run import failed_record

TUNE_FOLDER = "tune"
"""Below `OUT/.ray`: Tune's own notes of a sweep, which nothing reads."""

NEVER = float("inf")
"""Epochs after which the median rule pauses a trial to let others catch up: paused trials would have to be saved."""

TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # records are ours; Tune itself wants the JSON one to look back
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the job at once; Tune would let running trials end as stopped
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed trial has no metric
    "RAY_AIR_NEW_OUTPUT": "0",
}


def run_trials(
    config: TuneConfig, shared: SharedTrainingSet, searcher: CellSearcher | StudySearcher, plan: SweepPlan, left: int
) -> None:
    """Run trials until each has a record.

    Args:
        config: Of the sweep.
        shared: The training set that all trials share.
        searcher: Who is asked for one trial after the other.
        plan: Of the sweep.
        left: How many trials to run.
    """
    os.environ.update(TUNE_SETTINGS)
    gpus = gpus_per_trial_worker(config)
    metric = config.search.metric if config.search else "val_loss"
    lines = TrialLines(plan, metric, left=left, out=config.out, training_set_digest=shared.card.digest)
    remove(join(config.out, RAY_FOLDER, TUNE_FOLDER))
    tune.Tuner(
        tune.with_resources(
            tune.with_parameters(TrialRun, job=config, shared=shared, gpus=gpus), trial_resources(config, gpus)
        ),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=trial_scheduler(config),
            num_samples=left,
            max_concurrent_trials=plan.at_once,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=_run_config(config, lines),
    ).fit()
    record_losses(lines.lost, config, shared, gpus)


def _run_config(config: TuneConfig, lines: TrialLines) -> tune.RunConfig:
    return tune.RunConfig(
        name=TUNE_FOLDER,
        storage_path=join(config.out, RAY_FOLDER),
        verbose=0,
        callbacks=[lines, JsonLoggerCallback()],  # type: ignore[no-untyped-call]
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        failure_config=tune.FailureConfig(max_failures=config.retries),
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
    mode = mode_of(search.metric)
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
    lost: Sequence[tuple[dict[str, Any], str]], config: TuneConfig, shared: SharedTrainingSet, gpus: float
) -> None:
    """Record each trial whose process was lost, unless it was recorded before that.

    Args:
        lost: A trial's config as plain data, and the reason.
        config: Of the sweep.
        shared: Its training set.
        gpus: Of each worker.

    Raises:
        Exception: What one could not be recorded for, after all others were.
    """
    faults = []
    for plain, reason in lost:
        trial = TrialConfig.model_validate(plain)
        if is_finished(config.out, record_digest(trial, shared.card.digest), pruned_counts=True):
            continue
        try:
            write_record(config.out, failed_record(trial, shared.card, trial_worker(config, gpus), reason), None)
        except Exception as error:  # of whatever kind: the others are recorded first
            error.add_note(f"{trial.name} failed ({reason}) and could not be recorded")
            faults.append(error)
    if faults:
        raise faults[0]
