"""One trial as a Tune trainable: an epoch a step, so that a scheduler may stop it, and a record in the end."""

from collections.abc import Callable
from dataclasses import replace
from queue import SimpleQueue
from threading import Thread
from typing import Any

from ray import tune

from hemo.cluster.feed import SharedTrainingSet, get_training_set
from hemo.cluster.ray_train import train_model
from hemo.cluster.tracking.trial_tracker import TrackedTrial, track_trial
from hemo.config.trial import TrialConfig
from hemo.config.tune import TrainConfig, TuneConfig
from hemo.errors import HemoError, UserError
from hemo.sweeps.objectives import objective_values
from hemo.training.distributed import Worker
from hemo.training.reporting import EpochFigures, Reporter
from hemo.trials.record import TrialRecord, has_record, is_finished, read_record, record_digest, write_record
from hemo.trials.run import failed_record, run_trial

TrialBody = Callable[[Reporter], TrialRecord]


class TrialRun(tune.Trainable):
    """Runs `config["trial"]`; with several workers it starts a Ray Train group and only waits for it."""

    def setup(  # type: ignore[override]  # the rest comes from `tune.with_parameters`
        self, config: dict[str, Any], job: TuneConfig, shared: SharedTrainingSet, gpus: float
    ) -> None:
        """Begin a trial.

        Args:
            config: Has `trial`, a trial's config as plain data.
            job: Of the sweep.
            shared: The training set that all trials share.
            gpus: Of each worker.
        """
        self._job, self._shared, self._gpus = job, shared, gpus
        self._begin(config)

    def step(self) -> dict[str, Any]:
        """Return the next epoch's figures, or, with `done`, how the trial ended."""
        said = self._steps.next()
        return epoch_result(said) if isinstance(said, EpochFigures) else record_result(said)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this process: its libraries are loaded already."""
        self._steps.stop()
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        """Let a stopped trial write its record."""
        self._steps.stop()

    def _begin(self, config: dict[str, Any]) -> None:
        trial = TrialConfig.model_validate(config["trial"])
        body = self._alone if self._job.workers.count == 1 else self._by_workers
        self._steps = Steps(lambda reporter: body(trial, reporter), epochs=trial.training.epochs)

    def _alone(self, trial: TrialConfig, reporter: Reporter) -> TrialRecord:
        """Run the trial in this process; a search holds the test split back."""
        data = get_training_set(self._shared)
        if self._job.search is not None:
            data = replace(data, test=None)
        worker = trial_worker(self._job, self._gpus)
        digest = record_digest(trial, data.card.digest)
        if self._stops_trials() and is_finished(self._job.out, digest, pruned_counts=True):
            return read_record(self._job.out, digest)

        def run(told: Reporter) -> TrialRecord:
            return run_trial(trial, self._job.training_set, self._job.out, reporter=told, worker=worker, data=data)

        tracked = TrackedTrial(self._job.tracking, self._job.out, digest, trial, data.card, worker)
        return track_trial(tracked, reporter, lambda told: self._retried(trial, lambda: run(told)))

    def _stops_trials(self) -> bool:
        """Tell whether the sweep's scheduler may stop a trial, and one that it stopped is over."""
        return self._job.search is not None and self._job.search.scheduler != "none"

    def _by_workers(self, trial: TrialConfig, _: Reporter) -> TrialRecord:
        """Run the trial in a group of workers, which nobody stops early."""
        return self._retried(trial, lambda: train_model(training_job(self._job, trial), self._shared))

    def _retried(self, trial: TrialConfig, run: Callable[[], TrialRecord]) -> TrialRecord:
        """Return how a trial ended; one that failed is run again as often as configured, a user's mistake is not."""
        for left in reversed(range(self._job.retries + 1)):
            try:
                record = run()
            except UserError as error:
                return self._failed(trial, error)
            except HemoError as error:
                record = self._failed(trial, error)
            if record.status != "failed" or not left:
                break
        return record

    def _failed(self, trial: TrialConfig, error: HemoError) -> TrialRecord:
        """Return the record of a trial that cannot work, and write it if the trial did not: the others go on."""
        digest = record_digest(trial, self._shared.card.digest)
        if has_record(self._job.out, digest):
            return read_record(self._job.out, digest)
        record = failed_record(trial, self._shared.card, trial_worker(self._job, self._gpus), str(error))
        write_record(self._job.out, record, None)
        return record


class Steps:
    """A trial in a thread of its own, which stands still after each epoch until the next is asked for."""

    def __init__(self, body: TrialBody, *, epochs: int) -> None:
        """Prepare a trial.

        Args:
            body: Runs the trial with the reporter it is given.
            epochs: Of the trial at most; nobody is asked whether to stop after the last.
        """
        self._epochs = epochs
        self._said: SimpleQueue[EpochFigures | TrialRecord | BaseException] = SimpleQueue()
        self._answers: SimpleQueue[bool] = SimpleQueue()
        self._waiting = False  # for an answer
        self._thread = Thread(target=self._run, args=(body,), daemon=True)

    def next(self) -> EpochFigures | TrialRecord:
        """Go on, and return what the trial says next; the record comes last.

        Raises:
            BaseException: What the trial died of.
        """
        if self._waiting:
            self._answers.put(True)
        elif not self._thread.is_alive():
            self._thread.start()
        said = self._said.get()
        self._waiting = isinstance(said, EpochFigures)
        if isinstance(said, BaseException):
            raise said
        return said

    def stop(self) -> None:
        """Stop a trial that stands still, and wait until its record is written."""
        if self._waiting:
            self._waiting = False
            self._answers.put(False)
            self._thread.join()

    def epoch(self, figures: EpochFigures) -> bool:
        """Take an epoch from the trial, and return whether it goes on."""
        if figures.epoch >= self._epochs:
            return True
        self._said.put(figures)
        return self._answers.get()

    def _run(self, body: TrialBody) -> None:
        try:
            self._said.put(body(self))
        except BaseException as error:  # raised again where the trial is asked
            self._said.put(error)


def training_job(job: TuneConfig, trial: TrialConfig) -> TrainConfig:
    """Return what `train` would be told to run one cell of a grid."""
    shared = job.model_dump(include={"training_set", "out", "feed", "workers", "tracking", "cluster"})
    return TrainConfig(**shared, trial=trial)


def trial_worker(job: TuneConfig, gpus: float) -> Worker:
    """Return the sole worker of a trial, with the share of the machine that Ray gives it."""
    return Worker(device="cuda" if gpus else "cpu", threads=max(1, int(job.workers.cpus)))


def epoch_result(figures: EpochFigures) -> dict[str, Any]:
    """Return what Tune is told of an epoch: its number and `val_loss`, `val_accuracy` and so on."""
    return {"epoch": figures.epoch, **{f"val_{name}": value for name, value in figures.val.items()}}


def record_result(record: TrialRecord) -> dict[str, Any]:
    """Return what Tune is told in the end: the best epoch's figures, as they were told then, and how it ended."""
    told = {"done": True, "epoch": len(record.epochs), "status": record.status, "digest": record.digest}
    return {**told, **objective_values(record)}
