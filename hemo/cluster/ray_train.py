"""One trial on one or several workers, by Ray Train."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchTrainer, get_device
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError
from ray.util.queue import Queue

from hemo.cluster.capacity import gpus_per_worker
from hemo.cluster.feed import SharedTrainingSet, get_training_set, put_training_set
from hemo.cluster.session import connected
from hemo.cluster.tracking.trial_tracker import TrackedTrial, check_tracking, track_trial
from hemo.config.tune import TrainConfig, WorkersConfig
from hemo.curation.card import TrainingSetCard, read_card
from hemo.errors import TrialError, UserError
from hemo.storage import join, remove, require_writable
from hemo.training.distributed import Worker
from hemo.training.reporting import LineReporter, QuietReporter, to_stderr
from hemo.trials.record import TrialRecord, has_record, read_record, record_digest, write_record
from hemo.trials.run import check_shares, check_trial, failed_record, finished_record, run_trial

RAY_FOLDER = "ray"
"""Beside the record while a trial runs: Ray Train's own notes; removed when the trial is recorded."""

GROUP_RETRIES = 2
"""How often lost workers are replaced; each time the trial goes on after its last whole epoch."""


def train_model(config: TrainConfig, shared: SharedTrainingSet | None = None) -> TrialRecord:
    """Train one model and return its record; one that is finished is returned at once, a killed one goes on.

    Ray is connected to only where there is something to train, after all checks.

    Args:
        config: Training set, trial, workers and where the record goes.
        shared: The training set, if trials share it already; else it is put into the object store.

    Raises:
        UserError: If the trial cannot work, see `check_trial`, `check_workers` and `check_tracking`.
        TrialError: If the trial failed; its record says so too.
    """
    card = shared.card if shared else read_card(config.training_set)
    check_tracking(config.tracking, config.out)
    check_workers(config, card)
    check_trial(config.trial, card)
    require_writable(config.out)
    digest = record_digest(config.trial, card.digest)
    if finished := finished_record(config.trial, digest, config.out):
        return finished
    with connected(config.cluster):
        _train(config, card, digest, shared)
    remove(join(config.out, digest, RAY_FOLDER))
    record = read_record(config.out, digest)
    if record.status == "failed":
        raise TrialError(f"the trial failed: {record.reason} (record {join(config.out, digest)})")
    return record


def _train(config: TrainConfig, card: TrainingSetCard, digest: str, shared: SharedTrainingSet | None) -> None:
    """Run the trial to its record; where the workers are lost for good, the record says that."""
    gpus = gpus_per_worker(config.workers)
    remove(join(config.out, digest, "record.json"))  # of an earlier failure: what is there afterwards is new
    try:
        _run_workers(config, digest, gpus, shared or put_training_set(config.training_set, config.feed))
    except TrainingFailedError as error:
        if not has_record(config.out, digest):
            lost = _worker(config.workers, rank=0, device="cuda" if gpus else "cpu")
            write_record(config.out, failed_record(config.trial, card, lost, failure_reason(error)), None)


def check_workers(config: TrainConfig, card: TrainingSetCard) -> None:
    """Refuse more workers than a batch has images for, by the card's rows alone.

    Raises:
        ConfigError: See `check_shares`.
    """
    check_shares(card.splits["train"].rows, workers=config.workers.count, training=config.trial.training)


def _worker(workers: WorkersConfig, *, rank: int, device: str) -> Worker:
    return Worker(rank=rank, count=workers.count, device=device, threads=max(1, int(workers.cpus)))


def _run_workers(config: TrainConfig, digest: str, gpus: float, shared: SharedTrainingSet) -> None:
    """Run the trial in a Ray Train worker group, showing its epochs on standard error."""
    workers = config.workers
    resources = {"CPU": workers.cpus, **({"GPU": gpus} if gpus else {})}
    _say_if_waiting(resources, workers.count)
    remove(join(config.out, digest, RAY_FOLDER))  # a trial resumes from its own state, not from Ray Train's
    settings = {"config": config.model_dump(mode="json"), "digest": digest, "data": shared}
    with interruption_raised(), _lines_shown() as say:
        result: Any = TorchTrainer(  # typed as Train V1's result, which has no return_value
            _train_worker,  # type: ignore[arg-type]  # it may return a value since Ray 2.60
            train_loop_config={**settings, "say": say},
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers.count, use_gpu=gpus > 0, resources_per_worker=resources
            ),
            run_config=ray.train.RunConfig(
                name=RAY_FOLDER,
                storage_path=join(config.out, digest),
                failure_config=ray.train.FailureConfig(max_failures=GROUP_RETRIES),
            ),
        ).fit()
    if isinstance(result.return_value, UserError):
        raise result.return_value


def _train_worker(settings: dict[str, Any]) -> UserError | None:
    """Run in each worker: the same trial, each on its share of every batch.

    Returns:
        What the user must mend, if that ended it; raised, Ray Train would try again.

    Raises:
        TrialError: If the trial failed and others may wait for this worker: Ray Train ends them too, and starts a group
            that finds the record and does nothing.
    """
    config = TrainConfig.model_validate(settings["config"])
    if has_record(config.out, settings["digest"]):
        return None  # written since `train_model` began, by an earlier group of the same workers: final
    worker = _worker(config.workers, rank=ray.train.get_context().get_world_rank(), device=str(get_device()))
    try:
        record = _run_share(config, worker, settings)
    except UserError as error:
        return error
    if record.status == "failed" and worker.count > 1:
        raise TrialError(record.reason)
    return None


def _run_share(config: TrainConfig, worker: Worker, settings: dict[str, Any]) -> TrialRecord:
    """Run the trial as one of its workers; the first one reports and tracks."""
    data = get_training_set(settings["data"])
    run = partial(run_trial, config.trial, config.training_set, config.out, worker=worker, data=data)
    if not worker.leads:
        return run(reporter=QuietReporter())
    say = settings["say"]
    tracked = TrackedTrial(config.tracking, config.out, settings["digest"], config.trial, data.card, worker, say)
    return track_trial(tracked, LineReporter(say), lambda reporter: run(reporter=reporter))


@contextmanager
def interruption_raised() -> Iterator[None]:
    """Turn Ray Train's answer to Ctrl-C, leaving the process without a word, into KeyboardInterrupt.

    Ray Train also leaves its signal handler behind; the one that was there before is put back.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


@contextmanager
def _lines_shown() -> Iterator[Any]:
    """Give a function that workers say lines to; they appear on this process's standard error."""
    queue = Queue(actor_options={"num_cpus": 0})

    def show() -> None:
        while (line := queue.get()) is not None:
            to_stderr(line)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield queue.put
    finally:
        queue.put(None)
        thread.join()
        queue.shutdown()


def _say_if_waiting(resources: dict[str, float], count: int) -> None:
    """Say so where the cluster is too small now: an autoscaling one grows, any other waits for ever."""
    present = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for kind, amount in resources.items():
        if present.get(kind, 0) < amount * count:
            to_stderr(
                f"waiting for {amount * count:g} {kind} ({count} workers x {amount:g}); the cluster has "
                f"{present.get(kind, 0):g} now: unless it grows by itself, ask for fewer workers.count or workers.cpus"
            )


def failure_reason(error: TrainingFailedError) -> str:
    """Return why a worker group ended: what all failed workers raised, else what Ray Train says of lost ones."""
    failures = list(error.worker_failures.values()) if isinstance(error, WorkerGroupError) else []
    raised = [failure._base_exc for failure in failures if isinstance(failure, UserExceptionWithTraceback)]
    if raised and len(raised) == len(failures):
        return f"{type(raised[0]).__name__}: {raised[0]}"
    return f"the workers were lost: {str(error).strip().splitlines()[-1]}"
