"""The `train` job: one trial on one or several workers, by Ray Train."""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
import ray.train
from ray.exceptions import RayError
from ray.train.torch import TorchTrainer, get_device
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision
from ray.train.v2.api.config import ScalingConfig
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hemo.cluster.capacity import gpus_per_worker, in_words, require_capacity, trial_needs
from hemo.cluster.feed import SharedTrainingSet, feed_of, get_training_set, put_training_set
from hemo.cluster.ray_data import LOST_WORKERS
from hemo.cluster.session import connected
from hemo.cluster.tracking.trial_tracker import TrackedTrial, check_tracking, tracked
from hemo.config.trial import TrialConfig
from hemo.config.tune import TrainConfig, WorkersConfig
from hemo.console import print_line
from hemo.curation.card import TrainingSetCard, read_card
from hemo.errors import TrialError, UserError
from hemo.output_lock import output_lock
from hemo.storage import join, remove
from hemo.training.data.dataset import task_classes, with_target
from hemo.training.distributed import Worker
from hemo.training.reporting import epoch_line, observed, run_to_end
from hemo.trials.checks import check_batch_size, check_trials
from hemo.trials.key import TrialKey, TrialKeys
from hemo.trials.make_record import failed_record
from hemo.trials.record import TrialRecord, read_record, write_record
from hemo.trials.run import run_trial

RAY_FOLDER = "ray"
"""Beside the record while a trial runs: Ray Train's own files; removed when the trial is recorded."""

GROW_AFTER_S = 60.0
"""How long a group of fewer workers than configured runs before nodes that came since are looked for.

Where there are, a larger group starts after the last whole epoch: what was trained of the next one is trained again.
"""

START_TIMEOUT_S = 20.0
"""How long a group whose size may change waits for its CPUs and GPUs until it is given another.

Ray Train looks at the nodes every 20 s, so that the first group after the loss of one may be too large for the others.
"""

NODE_LOST = ("its node has died", " is unavailable: ")
"""In Ray's messages about a process that was lost with its node; the error has no field for it.

The second is that of a process which cannot be reached: the death of a node is noticed some seconds later, that of a
process by the node at once.
"""

LAST_LINES_S = 20.0
"""How long lines of workers that have ended are waited for."""


def train_model(config: TrainConfig) -> TrialRecord:
    """Train one model and return its record; a finished one is returned at once, a killed one resumes.

    Ray is connected to only where there is something to train, after all checks.

    Args:
        config: Training set, trial, workers and where the record goes.

    Raises:
        UserError: If the trial cannot work, see `check_trials`, `check_workers`, `check_tracking` and
            `require_capacity`; or if another process trains it, by itself or in a sweep.
        TrialError: If the trial failed; it is recorded too.
    """
    card = read_card(config.training_set)
    config = config.model_copy(update={"trial": with_target(config.trial, card)})
    check_tracking(config.tracking, config.out)
    check_workers(config, card)
    check_trials({"": config.trial}, card)
    key = TrialKeys(config.out, card.digest).key(config.trial)
    if record := key.finished_record():
        return record
    print_findings([config.trial], card)
    with output_lock(key.folder):
        if record := key.finished_record():  # another run has ended it since
            return record
        with connected(config.cluster):
            return train_in_workers(
                config, key, put_training_set(config.training_set, feed_of(config.trial, config.feed))
            )


def train_in_workers(config: TrainConfig, key: TrialKey, shared: SharedTrainingSet) -> TrialRecord:
    """Train one model in a group of workers; where they are lost for good, the trial is recorded as failed.

    Args:
        config: Of the trial and its workers, checked.
        key: Of the trial, which is not finished.
        shared: The training set.

    Raises:
        UserError: If the trial cannot work with these rows.
        TrialError: If the trial failed; it is recorded too.
    """
    gpus = gpus_per_worker(config.workers)
    try:
        _run_workers(config, key, gpus, shared)
    except TrainingFailedError as error:
        if key.record() is None:
            count, device = config.workers.count, "cuda" if gpus else "cpu"
            worker = _worker(config.workers, rank=0, count=count, device=device)
            write_record(key.records, failed_record(key, shared.card, worker, failure_reason(error)), None)
    remove(join(key.folder, RAY_FOLDER))
    record = read_record(key.records, key.digest)
    if record.status == "failed":
        raise TrialError(f"the trial failed: {record.reason} (record {key.folder})")
    return record


def print_findings(trials: Iterable[TrialConfig], card: TrainingSetCard) -> None:
    """Print which splits have too few patients to choose or compare these trials by."""
    for finding in card.findings_of({name for trial in trials for name in task_classes(trial, card)}):
        print_line(finding.text)


def check_workers(config: TrainConfig, card: TrainingSetCard) -> None:
    """Refuse more workers than a batch has images for, by the card's rows alone, whatever number of them may run.

    Raises:
        ConfigError: See `check_batch_size`.
    """
    workers, rows = config.workers, card.splits["train"].rows
    if config.trial.model.is_sequence:
        return  # the card does not count studies: `run_trial` does
    for running in range(workers.count, workers.fewest - 1, -1):
        worker = Worker(count=running, configured=workers.count)
        check_batch_size(rows, worker=worker, training=config.trial.training)


def _worker(workers: WorkersConfig, *, rank: int, count: int, device: str) -> Worker:
    threads = max(1, int(workers.cpus))
    return Worker(rank=rank, count=count, device=device, threads=threads, configured=workers.count)


def _run_workers(config: TrainConfig, key: TrialKey, gpus: float, shared: SharedTrainingSet) -> None:
    """Run the trial in a Ray Train worker group, printing its epochs on standard error."""
    workers = config.workers
    _report_missing_resources(config, gpus)
    remove(join(key.folder, "record.json"))  # of an earlier failure: a record that is there afterwards is new
    remove(join(key.folder, RAY_FOLDER))  # a trial resumes from its own state, not from Ray Train's
    settings = {"config": config.model_dump(mode="json"), "key": key, "data": shared}
    elastic = workers.fewest < workers.count
    if elastic:
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(START_TIMEOUT_S))
    with printed_lines() as print_from_worker:
        result: Any = WorkersTrainer(  # typed as Train V1's result, which has no return_value
            _train_worker,  # type: ignore[arg-type]  # it may return a value since Ray 2.60
            train_loop_config={**settings, "print_line": print_from_worker},
            scaling_config=ScalingConfig(
                num_workers=(workers.fewest, workers.count) if elastic else workers.count,
                elastic_resize_monitor_interval_s=GROW_AFTER_S,
                use_gpu=gpus > 0,
                resources_per_worker={"CPU": workers.cpus, **({"GPU": gpus} if gpus else {})},
            ),
            run_config=ray.train.RunConfig(
                name=RAY_FOLDER,
                storage_path=key.folder,
                failure_config=ray.train.FailureConfig(max_failures=LOST_WORKERS),
            ),
        ).fit()
    if isinstance(result.return_value, UserError):
        raise result.return_value


def _train_worker(settings: dict[str, Any]) -> UserError | None:
    """Run the trial as one of its workers, each on its part of every batch; rank 0 prints, tracks and writes.

    Returns:
        A user's mistake; raised, Ray Train would try again.

    Raises:
        TrialError: If the trial failed and others may wait for this worker: Ray Train ends them too, and starts a group
            that finds the record and does nothing.
    """
    config, key = TrainConfig.model_validate(settings["config"]), settings["key"]
    if key.record() is not None:
        return None  # written since `train_in_workers` began, by an earlier group of the same workers: final
    context = ray.train.get_context()
    rank, count = context.get_world_rank(), context.get_world_size()
    worker = _worker(config.workers, rank=rank, count=count, device=str(get_device()))
    data, print_from_worker = get_training_set(settings["data"]), settings["print_line"]
    epochs = run_trial(key, config.training_set, worker=worker, data=data)
    if worker.is_rank_zero:
        if worker.count < worker.configured:
            print_from_worker(f"{worker.count} of {worker.configured} workers train, in batches of the same size")
        printed = observed(epochs, lambda metrics: print_from_worker(epoch_line(metrics)))
        epochs = tracked(TrackedTrial(config.tracking, key, data.card, worker, print_from_worker), printed)
    try:
        record = run_to_end(epochs)
    except UserError as error:
        return error
    if record.status == "failed" and worker.count > 1:
        raise TrialError(record.reason)
    return None


class NodeLossPolicy(DefaultFailurePolicy):
    """Starts the workers again however often a node was lost; other losses of workers are counted."""

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        """Return whether the workers start again. Where one was lost with its node, the others fail for it too."""
        failures = training_failed_error.worker_failures if isinstance(training_failed_error, WorkerGroupError) else {}
        if any(is_node_loss(str(failure)) for failure in failures.values()):
            return FailureDecision.RETRY
        return super().make_decision(training_failed_error)


def is_node_loss(message: str) -> bool:
    """Return whether a process was lost with its node, from Ray's message about it."""
    return any(words in message for words in NODE_LOST)


class WorkersTrainer(TorchTrainer):
    """Counts no lost nodes, and leaves the job's handler of SIGINT in place, which ends the job at once.

    Ray Train's own asks its controller to end the run, which does not answer while it waits for resources.
    """

    def _register_sigint_handler(self, controller: Any) -> None:
        """Do nothing."""

    def _initialize_and_run_controller(self, **options: Any) -> Any:
        """Run with `NodeLossPolicy` in place of Ray Train's."""
        settings: Any = self.run_config.failure_config
        run: Any = super()._initialize_and_run_controller  # type: ignore[misc]  # typed as Train V1's trainer
        return run(**{**options, "failure_policy": NodeLossPolicy(settings)})


class WorkerLines:
    """Prints lines in the process that made it, from whatever process calls it; without an effect once that is gone."""

    def __init__(self, queue: Queue) -> None:
        """Take the queue through which lines come."""
        self.queue = queue

    def __call__(self, line: str) -> None:
        """Send a line. That it cannot be shown is no reason for a trial to fail."""
        with suppress(RayError):
            self.queue.put(line)


@contextmanager
def printed_lines() -> Iterator[WorkerLines]:
    """Give a function for workers that prints a line on this process's standard error.

    The queue is on this process's node, so that it is lost with it alone: nodes of workers may come and go.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})

    def show() -> None:
        with suppress(RayError):  # the queue is lost where a signal also ends Ray's processes
            while (line := queue.get()) is not None:
                print_line(line)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield WorkerLines(queue)
    finally:
        actor: Any = queue.actor
        actor.put.remote(None)  # not awaited: the queue may be lost
        thread.join(LAST_LINES_S)
        queue.shutdown(force=True)


def _report_missing_resources(config: TrainConfig, gpus: float) -> None:
    """Print what the cluster lacks now; see `require_capacity` for one that cannot grow."""
    fewest = config.workers.fewest
    needed = trial_needs(config.workers.model_copy(update={"count": fewest}), gpus)
    available = require_capacity(config.cluster, needed)
    if any(available[kind] < amount for kind, amount in needed.items()):
        field = "count" if config.workers.min_count == "all" else "min_count"
        print_line(
            f"waiting for {in_words(needed)} (workers.{field} {fewest}); the cluster has "
            f"{in_words(available)} now: unless it grows by itself, give fewer or smaller workers"
        )


def failure_reason(error: TrainingFailedError) -> str:
    """Return why a worker group ended: what all failed workers raised, else Ray Train's message about lost ones."""
    failures = list(error.worker_failures.values()) if isinstance(error, WorkerGroupError) else []
    raised = [failure._base_exc for failure in failures if isinstance(failure, UserExceptionWithTraceback)]
    if raised and len(raised) == len(failures):
        return f"{type(raised[0]).__name__}: {raised[0]}"
    return f"the workers were lost: {str(error).strip().splitlines()[-1]}"
