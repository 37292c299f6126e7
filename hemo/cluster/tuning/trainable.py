"""One trial as a Tune trainable: an epoch a step, so that a scheduler may stop it, and a record in the end."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from inspect import GEN_SUSPENDED, getgeneratorstate
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.experiment import Trial

from hemo.cluster.feed import SharedTrainingSet, get_training_set
from hemo.cluster.ray_train import train_in_workers
from hemo.cluster.tracking.trial_tracker import TrackedTrial, tracked
from hemo.cluster.tuning.searchers import EARLIER, key_of
from hemo.config.trial import TrialConfig
from hemo.config.tune import TrainConfig, TuneConfig
from hemo.console import print_line
from hemo.errors import HemoError, UserError
from hemo.sweeps.objectives import objective_values
from hemo.training.distributed import Worker
from hemo.training.reporting import Epochs
from hemo.training.results import EpochMetrics
from hemo.trials.key import TrialKey
from hemo.trials.make_record import failed_record
from hemo.trials.record import TrialRecord, has_record, write_record
from hemo.trials.run import run_trial, saved_epochs

RECORDED_WITHIN_S = 600.0
"""How long the records of stopped trials are waited for in the end; by default Tune waits for others as long."""


class TrialRun(tune.Trainable):
    """Runs one trial; with several workers it starts a Ray Train group and only waits for it."""

    _reported: int  # last epoch that this process reported

    def setup(  # type: ignore[override]  # the rest comes from `tune.with_parameters`
        self, config: dict[str, Any], job: TuneConfig, shared: SharedTrainingSet, gpus: float
    ) -> None:
        """Prepare a trial.

        Args:
            config: See `hemo.cluster.tuning.searchers.tune_point`.
            job: Config of the sweep.
            shared: The training set that all trials share.
            gpus: Of each worker.
        """
        self._job, self._shared, self._gpus = job, shared, gpus
        self._begin(config)

    def step(self) -> dict[str, Any]:
        """Train the next epoch and return its metrics, or, with `done`, how the trial ended.

        The last epoch is not reported by itself: a scheduler could stop the trial before it is evaluated. With the
        first epoch of a resumed trial, those before it are reported, as `earlier`.
        """
        try:
            metrics = next(self._epochs)
            if metrics.epoch >= self._key.config.training.epochs:
                metrics = next(self._epochs)
        except StopIteration as end:
            return record_result(end.value)
        done, self._reported = self._reported, metrics.epoch
        if metrics.epoch == done + 1:
            return epoch_result(metrics)
        earlier = saved_epochs(self._key)[done : metrics.epoch - 1]
        return {**epoch_result(metrics), EARLIER: [epoch_result(each) for each in earlier]}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Prepare another trial in this process: its libraries are loaded already."""
        self._begin(new_config)
        return True

    def record_as_pruned(self) -> None:
        """Write the record of a trial that the scheduler stopped between two epochs; `StoppedTrials` calls this.

        `cleanup`, by which Tune ends a trial, writes none: a sweep that ends by an error ends running trials so too.
        """
        if getgeneratorstate(self._epochs) == GEN_SUSPENDED:
            with suppress(StopIteration):
                self._epochs.send(True)

    def _begin(self, config: dict[str, Any]) -> None:
        self._key = key_of(config, self._job.out)
        self._reported = 0
        self._epochs: Epochs[TrialRecord] = self._run_in_workers() if self._job.workers.count > 1 else self._run()

    def _run(self) -> Epochs[TrialRecord]:
        """Run the trial in this process, tracked; a search holds the test split back."""
        stops_trials = self._job.search is not None and self._job.search.scheduler != "none"
        if stops_trials and (record := self._key.finished_record(pruned_counts=True)):
            return record
        data = get_training_set(self._shared)
        if self._job.search is not None:
            data = replace(data, test=None)
        worker = trial_worker(self._job, self._gpus)

        def attempt() -> Epochs[TrialRecord]:
            return run_trial(self._key, self._job.training_set, worker=worker, data=data)

        trial = TrackedTrial(self._job.tracking, self._key, data.card, worker)
        return (yield from tracked(trial, self._retried(attempt)))

    def _run_in_workers(self) -> Epochs[TrialRecord]:
        """Run the trial in a group of workers, which no scheduler stops early."""

        def attempt() -> Epochs[TrialRecord]:
            yield from ()  # no epoch is reported
            if record := self._key.finished_record():
                return record
            return train_in_workers(training_config(self._job, self._key.config), self._key, self._shared)

        return self._retried(attempt)

    def _retried(self, attempt: Callable[[], Epochs[TrialRecord]]) -> Epochs[TrialRecord]:
        """Run a trial again where it failed, as often as configured; but not after a user's mistake."""
        for left in reversed(range(self._job.retries + 1)):
            try:
                record = yield from attempt()
            except UserError as error:
                return self._failed(error)
            except HemoError as error:
                record = self._failed(error)
            if record.status != "failed" or not left:
                break
        return record

    def _failed(self, error: HemoError) -> TrialRecord:
        """Return the record of a trial that raised, and write it unless the trial did: the others go on."""
        record = self._key.record()
        if record and (record.status != "failed" or record.reason in str(error)):  # else it is of an earlier run
            return record
        worker = trial_worker(self._job, self._gpus)
        record = failed_record(self._key, self._shared.card, worker, str(error))
        write_record(self._key.records, record, None)
        return record


class StoppedTrials(tune.Callback):
    """Has each trial that the scheduler stopped write its record, and keeps Tune from ending a process before that."""

    def __init__(self, records: str) -> None:
        """Start with no trial; `records` is the folder of records."""
        self._records = records
        self._written: dict[ray.ObjectRef[None], TrialKey] = {}

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Have a trial without a status write its record: it was stopped by the scheduler."""
        if "status" not in trial.last_result:
            actor = trial.temporary_state.ray_actor
            assert actor is not None  # the trial has run until now
            self._written[actor.record_as_pruned.remote()] = key_of(trial.config, self._records)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Wait for the records when no trial runs: Tune may be at its end, and ends its processes 10 s later."""
        if self._written and all(trial.is_finished() for trial in trials):  # type: ignore[no-untyped-call]
            ray.wait(list(self._written), num_returns=len(self._written), timeout=RECORDED_WITHIN_S)

    def print_unrecorded(self) -> None:
        """Print the stopped trials whose records could not be written, and why; after the sweep."""
        for written, key in self._written.items():
            try:
                ray.get(written, timeout=0)
            except RayError as error:
                if not has_record(key.records, key.digest):
                    reason = str(error).strip().splitlines()[-1].strip()
                    print_line(
                        f"{key.config.name} was stopped, but its record was not written ({reason}); run the same "
                        "command again: it goes on after its last whole epoch"
                    )


def training_config(job: TuneConfig, trial: TrialConfig) -> TrainConfig:
    """Return the config with which `train` would run one trial of a sweep."""
    shared = job.model_dump(include={"training_set", "out", "feed", "workers", "tracking", "cluster"})
    return TrainConfig(**shared, trial=trial)


def trial_worker(job: TuneConfig, gpus: float) -> Worker:
    """Return the sole worker of a trial, with the part of the machine that Ray reserves for it."""
    return Worker(device="cuda" if gpus else "cpu", threads=max(1, int(job.workers.cpus)))


def epoch_result(metrics: EpochMetrics) -> dict[str, Any]:
    """Return what Tune gets after an epoch: its number and `val_loss`, `val_accuracy` and so on."""
    return {"epoch": metrics.epoch, **{f"val_{name}": value for name, value in metrics.val.items()}}


def record_result(record: TrialRecord) -> dict[str, Any]:
    """Return what Tune gets in the end: the best epoch's metrics, as they were reported then, and the status."""
    ended = {"done": True, "epoch": len(record.epochs), "status": record.status, "digest": record.digest}
    return {**ended, **objective_values(record)}
