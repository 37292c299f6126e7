"""The `tune` job: a grid or a search by Ray Tune, one record per trial; a search reads test for its choice alone."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.study import Study
from ray import tune
from ray.tune import TuneError
from ray.tune.experiment import Trial
from ray.tune.logger import JsonLoggerCallback
from ray.tune.schedulers import TrialScheduler

from hemo.cluster.capacity import gpus_per_trial_worker, plan_in_words, trials_at_once
from hemo.cluster.feed import feed_of, put_training_set
from hemo.cluster.ray_data import LOST_WORKERS
from hemo.cluster.ray_train import RAY_FOLDER, check_workers, print_findings, read_tests
from hemo.cluster.session import connected
from hemo.cluster.tracking.trial_tracker import check_tracking
from hemo.cluster.tuning.console import SweepConsole, shown_metric
from hemo.cluster.tuning.schedulers import trial_scheduler
from hemo.cluster.tuning.searchers import (
    CellSearcher,
    StudySearcher,
    TimeLimit,
    TrialSearcher,
    ended_trials,
    open_study,
    queue_points,
)
from hemo.cluster.tuning.trainable import StoppedTrials, TrialRun, training_config, trial_worker
from hemo.config.trial import TrialConfig
from hemo.config.tune import GridConfig, SearchConfig, TuneConfig
from hemo.console import print_line
from hemo.curation.card import TrainingSetCard, read_card
from hemo.digest import digest_of
from hemo.errors import ConfigError, HemoError, LockedError, without_passwords
from hemo.output_lock import output_lock
from hemo.storage import join, remove
from hemo.sweeps.grid import grid_trials
from hemo.sweeps.objectives import front_lines, selected_record
from hemo.sweeps.space import search_space, searched_trials
from hemo.training.data.dataset import task_classes, with_target
from hemo.training.option_checks import where_in_notes
from hemo.trials.checks import check_trials
from hemo.trials.key import TrialKey, TrialKeys
from hemo.trials.make_record import failed_record
from hemo.trials.progress import PlannedTrial, SweepPlan, write_plan, write_selection
from hemo.trials.record import TrialRecord, now, write_record

TUNE_FOLDER = "tune"
"""Below `OUT/ray`: Tune's own files of a sweep, which nothing reads afterwards."""

TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # records are ours; Tune itself needs the JSON one to look back
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the job at once; Tune would end the sweep as a finished one
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed trial has no metric
    "RAY_AIR_NEW_OUTPUT": "0",
}


def tune_models(config: TuneConfig) -> list[TrialRecord]:
    """Run every trial of a grid or a search that has no finished record, and return the records of all.

    A trial that fails is recorded too, and the others go on. In a search, test is read for the selected trial alone.
    Ray is connected to only where there is something to run, after all checks.

    Args:
        config: Training set, where records go, and a grid or a search.

    Raises:
        UserError: If a cell or the space cannot work, or another sweep writes in `out`, before any trial runs; after
            the first one if `out` is on a disk that the nodes do not share.
        HemoError: If all trials failed, or none ended.
    """
    check_tracking(config.tracking, config.out)
    card = read_card(config.training_set)
    keys = TrialKeys(config.out, card.digest)
    config = config.model_copy(update={"trial": with_target(config.trial, card)})
    config = with_group(config, card.digest)
    if config.grid is not None:
        records = _run_grid(config, config.grid, card, keys)
    elif config.search is not None:
        records = _run_search(config, config.search, card, keys)
    if not records:
        raise HemoError(f"no trial has a record in {config.out} yet; run the same command again to go on")
    if all(record.status == "failed" for record in records):
        first = records[0].reason
        raise HemoError(f"all {len(records)} trials failed; the first: {first} (records in {config.out})")
    return records


def _run_grid(config: TuneConfig, grid: GridConfig, card: TrainingSetCard, keys: TrialKeys) -> list[TrialRecord]:
    """Run the cells that have no finished record; every cell's test is read, as its source did."""
    trials = grid_trials(config.trial, grid)
    _check(config, {f"grid: {trial.name}": trial for trial in trials}, card)
    cells = [keys.key(trial) for trial in trials]
    missing = [cell for cell in cells if not cell.finished_record()]
    with (
        output_lock(config.out),
        closing(CellSearcher(missing, TimeLimit.of(config))) as searcher,
        connected(config.cluster) if missing else nullcontext(),
    ):
        _print_plan(config, len(cells), len(missing))
        if missing:
            plan = _plan(config, _grid_name(config, card.digest), cells, len(missing))
            _run_trials(config, card, searcher, plan, trial_scheduler(config), len(missing))
        return _with_test([record for cell in cells if (record := cell.record())], config, keys)


def _run_search(config: TuneConfig, search: SearchConfig, card: TrainingSetCard, keys: TrialKeys) -> list[TrialRecord]:
    """Run the trials the study still lacks, then read test for the selected one."""
    space = search_space(config.trial, search)
    _check_search(config, search, card)

    def recorded(trial: TrialConfig) -> bool:
        return keys.key(trial).record() is not None

    with output_lock(config.out):
        study = open_study(config, search, card.digest)
        left = queue_points(study, config, recorded)
        searcher = StudySearcher(study, space, config, keys, left)
        with closing(searcher), connected(config.cluster) if left else nullcontext(), database_errors(search.storage):
            _print_plan(config, search.trials, left)
            if left:
                known = _distinct(study, config, keys)
                plan = _plan(config, study.study_name, known, left)
                scheduler = trial_scheduler(config, [record for key in known if (record := key.record())])
                _run_trials(config, card, searcher, plan, scheduler, left)
            if searcher.exhausted:
                raise searcher.exhausted
            return _select(config, search, study, keys)


def _distinct(study: Study, config: TuneConfig, keys: TrialKeys) -> list[TrialKey]:
    """Return the trials of a study that ended, in its order; a point drawn twice is one trial."""
    ended = [keys.key(trial) for trial in ended_trials(study, config.trial)]
    return list({key.digest: key for key in ended}.values())


def _select(config: TuneConfig, search: SearchConfig, study: Study, keys: TrialKeys) -> list[TrialRecord]:
    """Return the records of a search, that of the selected trial with its test metrics."""
    records = [record for key in _distinct(study, config, keys) if (record := key.record())]
    if all(record.status != "complete" for record in records):
        return records
    selected = selected_record(records, search)
    for line in front_lines(records, search):
        print_line(line)
    print_line(f"selected by {selected.selected_by}: {selected.config.name}; now its test split is read")
    write_selection(config.out, study.study_name, selected.digest)
    if "test" in selected.metrics:
        write_record(config.out, selected, None)
    (selected,) = _with_test([selected], config, keys)
    return [selected if record.digest == selected.digest else record for record in records]


def _check_search(config: TuneConfig, search: SearchConfig, card: TrainingSetCard) -> None:
    """Refuse a search whose trials or metric cannot work."""
    if config.workers.count > 1:
        raise ConfigError(
            f"workers.count: a search runs each trial on one worker, not {config.workers.count}; "
            "set workers.count to 1, or write the cells as a grid"
        )
    _check(config, dict(searched_trials(config.trial, search)), card)
    if "latency_ms" in search.optimised and config.trial.model.is_sequence:
        raise ConfigError(
            "search.objectives: latency_ms is not measured of sequence models; give metric alone, or other objectives"
        )
    val, classes = card.splits["val"], task_classes(config.trial, card)
    needing = [metric for metric in search.optimised if metric in ("val_auroc", "val_accuracy")]
    if needing and not any(val.varies(name) for name in classes):
        raise ConfigError(
            f"search: {needing[0]} needs both labels of {', '.join(classes)} in the validation split; use val_loss"
        )


def _check(config: TuneConfig, trials: Mapping[str, TrialConfig], card: TrainingSetCard) -> None:
    """Refuse trials of a sweep that cannot work, the error names where the first is; print findings on the splits."""
    check_trials(trials, card)
    for where, trial in trials.items():
        with where_in_notes(where):
            check_workers(training_config(config, trial), card)
    print_findings(trials.values(), card)


def with_group(config: TuneConfig, training_set: str) -> TuneConfig:
    """Return the config with a W&B group for its trials: the same for the same grid, or search, grown or not."""
    tracking, search = config.tracking, config.search
    if tracking.group:
        return config
    name = _grid_name(config, training_set)
    if search:
        deciding = {"search": search.deciding(), "trial": config.trial.deciding(), "training_set": training_set}
        name = f"search-{digest_of(deciding)}"
    return config.model_copy(update={"tracking": tracking.model_copy(update={"group": name})})


def _grid_name(config: TuneConfig, training_set: str) -> str:
    """Return the name of a grid: a digest of what its cells have in common, which stays as cells are added."""
    return f"grid-{digest_of({'trial': config.trial.deciding(), 'training_set': training_set})}"


def _print_plan(config: TuneConfig, trials: int, left: int) -> None:
    plan = f"; {plan_in_words(config, left)}" if left else ""
    print_line(f"{trials} trials, {trials - left} of them finished already{plan}; records in {config.out}")


def _plan(config: TuneConfig, name: str, known: Sequence[TrialKey], left: int) -> SweepPlan:
    """Return the plan of a sweep, for `hemo status`; `known` are all cells, or the trials a search has run so far."""
    search = config.search
    finished = sum(key.state() in ("complete", "pruned") for key in known) if search else 0
    return SweepPlan(
        name=name,
        kind="search" if search else "grid",
        trials=tuple(
            PlannedTrial(digest=key.digest, name=key.config.name, epochs=key.config.training.epochs) for key in known
        ),
        count=left + finished if search else len(known),
        concurrent=trials_at_once(config, gpus_per_trial_worker(config), left),
        began=now(),
        space=search.space if search else {},
        metric=search.metric if search else "",
    )


def _run_trials(
    config: TuneConfig,
    card: TrainingSetCard,
    searcher: TrialSearcher,
    plan: SweepPlan,
    scheduler: TrialScheduler,
    left: int,
) -> None:
    """Run trials by Tune until each has a record, or the time is over."""
    write_plan(config.out, plan)
    os.environ.update(TUNE_SETTINGS)
    gpus = gpus_per_trial_worker(config)
    shared = put_training_set(config.training_set, feed_of(config.trial, config.feed))
    console = SweepConsole(plan, shown_metric(config), left=left, waiting=searcher.waiting, records=config.out)
    stopped = StoppedTrials(config.out)
    remove(join(config.out, RAY_FOLDER, TUNE_FOLDER))
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(TrialRun, job=_without_storage(config), shared=shared, gpus=gpus),
            trial_resources(config, gpus),
        ),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=left,
            max_concurrent_trials=plan.concurrent,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=TUNE_FOLDER,
            storage_path=join(config.out, RAY_FOLDER),
            verbose=0,
            callbacks=[
                stopped,
                console,
                SearcherErrors(searcher),
                ResultFiles(),  # type: ignore[no-untyped-call]
            ],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=LOST_WORKERS),
        ),
    )
    with errors_as_raised():
        tuner.fit()
    remove(join(config.out, RAY_FOLDER))
    record_lost_trials(console.lost, config, card, gpus)
    console.wait_for_records()
    stopped.print_unrecorded()
    if searcher.begun < left and config.hours != "unlimited":
        print_line(
            f"hours: {config.hours:g} h are over, {left - searcher.begun} of {left} trials were not begun; run the "
            "same command again to go on"
        )


class ResultFiles(JsonLoggerCallback):
    """Tune's own file of each trial's results, closed also if an error ends the sweep."""

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Close the files of trials that had not ended."""
        for trial in trials:
            self.log_trial_end(trial)


class SearcherErrors(tune.Callback):
    """Ends a sweep by the error that its searcher kept, which Tune would not let through."""

    def __init__(self, searcher: TrialSearcher) -> None:
        """Take the searcher."""
        self._searcher = searcher

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Raise what the searcher's `raise_error` raises."""
        self._searcher.raise_error()


@contextmanager
def errors_as_raised() -> Iterator[None]:
    """Raise an error of the searcher or the console itself: Tune puts the text of its traceback in its place."""
    try:
        yield
    except TuneError as error:
        raise (error.__context__ or error) from None


@contextmanager
def database_errors(storage: str) -> Iterator[None]:
    """Raise an error of the study's database as one that names it.

    Args:
        storage: `search.storage`.

    Raises:
        HemoError: If the database fails, or is gone.
    """
    try:
        yield
    except StorageInternalError as error:
        cause = error.__cause__ or error  # SQLAlchemy's: its own text has the whole statement
        reason = " ".join(str(getattr(cause, "orig", cause)).split())
        message = f"search.storage: {storage}: {reason}; run the same command again when the database works"
        raise HemoError(without_passwords(message)) from None


def _without_storage(config: TuneConfig) -> TuneConfig:
    """Return the config for trials, which need no study: its URL, and a password in it, stay in this process."""
    search = config.search and config.search.model_copy(update={"storage": "journal"})
    return config.model_copy(update={"search": search})


def trial_resources(config: TuneConfig, gpus: float) -> dict[str, float]:
    """Return what Ray reserves for one trial; one of several workers only waits for them, and takes no CPU away."""
    if config.workers.count > 1:
        return {"CPU": 0, "memory": 1}  # a byte: Ray refuses to reserve nothing
    return {"CPU": config.workers.cpus, **({"GPU": gpus} if gpus else {})}


def record_lost_trials(
    lost: Sequence[tuple[TrialKey, str]], config: TuneConfig, card: TrainingSetCard, gpus: float
) -> None:
    """Record each trial whose process was lost as failed, unless it was recorded before that, or runs elsewhere now.

    Args:
        lost: Trials, and why.
        config: Of the sweep.
        card: Of its training set.
        gpus: Of each worker.

    Raises:
        Exception: The first error of writing a record, after all others were written.
    """
    errors = []
    for key, reason in lost:
        try:
            with output_lock(key.folder):
                if not key.finished_record(pruned_counts=True):
                    write_record(config.out, failed_record(key, card, trial_worker(config, gpus), reason), None)
        except LockedError:
            print_line(f"{key.config.name} failed ({reason}); another run trains it now")
        except Exception as error:  # of whatever kind: the others are recorded first
            error.add_note(f"{key.config.name} failed ({reason}) and could not be recorded")
            errors.append(error)
    if errors:
        raise errors[0]


def _with_test(records: list[TrialRecord], config: TuneConfig, keys: TrialKeys) -> list[TrialRecord]:
    """Return the records with test metrics; a complete one may lack them if a search wrote it."""
    lacking = [record for record in records if record.status == "complete" and "test" not in record.metrics]
    if not lacking:
        return records
    with connected(config.cluster):
        trained = [(keys.key(record.config), record) for record in lacking]
        tested = read_tests(trained, config, gpus_per_trial_worker(config))
    by_digest = {record.digest: record for record in tested}
    return [by_digest.get(record.digest, record) for record in records]
