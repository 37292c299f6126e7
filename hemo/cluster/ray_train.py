"""The `train` job: one trial on one or several workers, by Ray Train."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import ray
import ray.train
from ray.train.torch import get_device
from ray.train.v2.api.config import ScalingConfig
from ray.train.v2.api.exceptions import TrainingFailedError

from hemo.cluster.capacity import (
    gpus_per_worker,
    in_words,
    present_in_words,
    require_capacity,
    trial_needs,
    workers_held,
)
from hemo.cluster.feed import SharedTrainingSet, feed_of, get_training_set, put_training_set
from hemo.cluster.ray_data import LOST_WORKERS
from hemo.cluster.session import connected
from hemo.cluster.tracking.trial_tracker import TrackedTrial, check_tracking, track_test, tracked
from hemo.cluster.worker_group import WorkersTrainer, failure_reason, printed_lines
from hemo.config.trial import TrialConfig
from hemo.config.tune import TrainConfig, TuneConfig, WorkersConfig
from hemo.console import print_line
from hemo.curation.card import TrainingSetCard, read_card
from hemo.errors import TrialError, UserError
from hemo.output_lock import output_lock
from hemo.storage import WrittenFiles, join, remove
from hemo.training.data.dataset import read_training_set, task_classes, with_target
from hemo.training.data.read_studies import encoder_notes
from hemo.training.distributed import Worker
from hemo.training.reporting import epoch_line, observed, run_to_end
from hemo.trials.checks import check_batch_size, check_trials
from hemo.trials.key import TrialKey, TrialKeys
from hemo.trials.make_record import failed_record
from hemo.trials.record import TrialRecord, read_record, write_record
from hemo.trials.run import evaluate_on_test, run_trial, trial_data

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


def train_model(config: TrainConfig) -> TrialRecord:
    """Train one model and return its record; a finished one is returned at once, a killed one resumes.

    Of a trial that a search trained, and of which it read no test, test is read. Ray is connected to only where there
    is something to do, after all checks.

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
    if (record := key.finished_record()) and "test" in record.metrics:
        return record
    print_findings([config.trial], card)
    with output_lock(key.folder):
        record = key.finished_record()  # another run may have ended it since
        if record and "test" in record.metrics:
            return record
        with connected(config.cluster):
            if record:
                print_line("a search has trained this trial; now its test split is read")
                return read_tests([(key, record)], config, gpus_per_worker(config.workers))[0]
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
        UserError: If the trial cannot work with these rows, or the workers' record is on a disk of another machine.
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
    written = WrittenFiles()
    written.add(join(key.folder, "record.json"))
    written.wait()
    record = read_record(key.records, key.digest)
    if record.status == "failed":
        raise TrialError(f"the trial failed: {record.reason} (record {key.folder})")
    return record


def read_tests(
    trained: Sequence[tuple[TrialKey, TrialRecord]], config: TrainConfig | TuneConfig, gpus: float
) -> list[TrialRecord]:
    """Return records with the test metrics that they lack, one worker for each; they are written, and tracked.

    Args:
        trained: Trials with a complete record without test, and these records.
        config: Of the training set, the tracker, and a worker's CPUs.
        gpus: Of a worker.

    Raises:
        ConfigError: If this machine does not hold a worker, see `require_capacity`.
        UserError: If the training set or a checkpoint is gone.
        TrialError: If a batch does not fit into memory.
    """
    require_capacity(config.cluster, trial_needs(config.workers.model_copy(update={"count": 1}), gpus))
    task = ray.remote(num_cpus=config.workers.cpus, num_gpus=gpus)(_read_test)
    tested: list[TrialRecord] = ray.get([task.remote(key, record, config, gpus) for key, record in trained])
    return tested


def _read_test(key: TrialKey, record: TrialRecord, config: TrainConfig | TuneConfig, gpus: float) -> TrialRecord:
    worker = _worker(config.workers, rank=0, count=1, device="cuda" if gpus else "cpu")
    if record.config.model.is_sequence:
        data = trial_data(record.config, config.training_set, None)
    else:
        data = read_training_set(config.training_set, streaming=True)
    tested = evaluate_on_test(key, record, data, worker)
    track_test(TrackedTrial(config.tracking, key, data.card, worker), tested)
    return tested


def print_findings(trials: Iterable[TrialConfig], card: TrainingSetCard) -> None:
    """Print which splits have too few patients to choose or compare these trials by, and what else limits them."""
    trials = list(trials)
    for finding in card.findings_of({name for trial in trials for name in task_classes(trial, card)}):
        print_line(finding.text)
    for note in dict.fromkeys(note for trial in trials for note in encoder_notes(trial, card)):
        print_line(note)


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


def _report_missing_resources(config: TrainConfig, gpus: float) -> None:
    """Print what the cluster lacks now; see `require_capacity` for one that cannot grow."""
    fewest = config.workers.fewest
    needed = trial_needs(config.workers.model_copy(update={"count": fewest}), gpus)
    require_capacity(config.cluster, needed)
    held = workers_held(config.workers, gpus)
    if held < fewest:
        field = "count" if config.workers.min_count == "all" else "min_count"
        print_line(
            f"waiting for {in_words(needed)} (workers.{field} {fewest}); the cluster has {present_in_words(needed)} "
            f"now, where {held} of {fewest} workers fit: unless it grows by itself, give fewer or smaller workers"
        )
