"""A grid or a search, by Ray Tune: one record a trial, and test read once for the trial that a search selects."""

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import pyarrow as pa
import ray
import torch
from optuna.study import Study
from ray import tune
from ray.tune.logger import JsonLoggerCallback
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from hemo.cluster.capacity import gpus_per_trial_worker, plan_in_words, trials_at_once
from hemo.cluster.feed import SharedTrainingSet, put_training_set
from hemo.cluster.ray_train import RAY_FOLDER, check_workers
from hemo.cluster.session import connected
from hemo.cluster.tracking.trial_tracker import TrackedTrial, check_tracking, track_test
from hemo.cluster.tuning.console import TrialLines
from hemo.cluster.tuning.searchers import (
    Budget,
    CellSearcher,
    StudySearcher,
    ended_trials,
    mode_of,
    open_study,
    plan_points,
)
from hemo.cluster.tuning.trainable import TrialRun, training_job, trial_worker
from hemo.config.trial import TrialConfig
from hemo.config.tune import GridConfig, Range, SearchConfig, TuneConfig
from hemo.curation.card import TrainingSetCard, read_card
from hemo.digest import digest_of
from hemo.errors import ConfigError, HemoError, SourceError, TrialError
from hemo.models.checkpoint import load_checkpoint
from hemo.storage import join, remove, require_writable
from hemo.sweeps.grid import grid_trials
from hemo.sweeps.objectives import cost, objective_values, pareto_front
from hemo.sweeps.space import point_trial, search_space, searched_trials
from hemo.training.data.dataset import TrialData, read_training_set
from hemo.training.data.task_rows import select_splits, task_classes
from hemo.training.distributed import Worker
from hemo.training.evaluate import evaluate
from hemo.training.loss import build_loss
from hemo.training.metrics import judge
from hemo.training.reporting import memory_told, to_stderr
from hemo.trials.progress import PlannedTrial, SweepPlan, write_choice, write_plan
from hemo.trials.provenance import now
from hemo.trials.record import (
    TrialRecord,
    has_record,
    is_finished,
    read_predictions,
    read_record,
    record_digest,
    write_record,
)
from hemo.trials.run import (
    check_trial,
    checkpoint_folder,
    failed_record,
    finished_record,
    judged_fields,
    one_sided,
    split_predictions,
)

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


def tune_models(config: TuneConfig) -> list[TrialRecord]:
    """Run every trial of a grid or a search that has no finished record, and return the records of all.

    A trial that fails is a record too, and the others go on. In a search, test is read for the chosen trial alone. Ray
    is connected to only where there is something to run, after all checks.

    Args:
        config: Training set, where records go, and a grid or a search.

    Raises:
        UserError: If a cell or the space cannot work, before any trial runs.
        HemoError: If all trials failed.
    """
    check_tracking(config.tracking, config.out)
    card = read_card(config.training_set)
    config = grouped(config, card.digest)
    if config.grid is not None:
        records = _grid(config, config.grid, card)
    elif config.search is not None:
        records = _search(config, config.search, card)
    remove(join(config.out, RAY_FOLDER))
    if all(record.status == "failed" for record in records):
        first = records[0].reason
        raise HemoError(f"all {len(records)} trials failed; the first: {first} (records in {config.out})")
    return records


def _grid(config: TuneConfig, grid: GridConfig, card: TrainingSetCard) -> list[TrialRecord]:
    """Run the cells that have no finished record; every cell's test is read, as its source did."""
    trials = grid_trials(config.trial, grid)
    for trial in trials:
        _check(config, trial, card, f"grid: {trial.name}")
    require_writable(config.out)
    digests = [record_digest(trial, card.digest) for trial in trials]
    missing = [
        trial for trial, digest in zip(trials, digests, strict=True) if not finished_record(trial, digest, config.out)
    ]
    with connected(config.cluster) if missing else nullcontext():
        _say_plan(config, len(trials), len(missing))
        if missing:
            plan = _plan(config, _grid_name(config, card.digest), trials, digests, len(missing))
            _run(config, CellSearcher(missing, _budget(config)), plan, len(missing))
        records = [read_record(config.out, digest) for digest in digests if has_record(config.out, digest)]
        return _tested(records, config)


def _search(config: TuneConfig, search: SearchConfig, card: TrainingSetCard) -> list[TrialRecord]:
    """Run the trials the study still lacks, then read test for the chosen."""
    search_space(config.trial, search)
    _check_space(config, search, card)
    require_writable(config.out)
    study = open_study(config, search, card.digest)

    def recorded(point: Mapping[str, Any]) -> bool:
        return has_record(config.out, record_digest(point_trial(config.trial, point), card.digest))

    left = plan_points(study, search, recorded)
    with connected(config.cluster) if left else nullcontext():
        _run_points(config, search, study, card, left)
        return _chosen_and_others(config, search, study, card)


def _run_points(config: TuneConfig, search: SearchConfig, study: Study, card: TrainingSetCard, left: int) -> None:
    """Run the trials that are left of a search."""
    _say_plan(config, search.trials, left)
    if left:
        ended = ended_trials(study, config.trial)
        named = {record_digest(trial, card.digest): trial for trial in ended}  # a point drawn twice is one trial
        plan = _plan(config, study.study_name, list(named.values()), list(named), left)
        space = search_space(config.trial, search)
        searcher = StudySearcher(study, space, config.trial, search.optimised, _budget(config))
        _run(config, searcher, plan, left)


def _chosen_and_others(
    config: TuneConfig, search: SearchConfig, study: Study, card: TrainingSetCard
) -> list[TrialRecord]:
    """Return the records of a search, the chosen trial's with its test figures."""
    digests = dict.fromkeys(record_digest(trial, card.digest) for trial in ended_trials(study, config.trial))
    records = [read_record(config.out, digest) for digest in digests if has_record(config.out, digest)]
    if not records:
        raise HemoError(f"no trial of the search has a record in {config.out}; run it again")
    if all(record.status != "complete" for record in records):
        return records
    chosen = chosen_record(records, search)
    for line in front_lines(records, search):
        to_stderr(line)
    to_stderr(f"chosen by {chosen.selected_by}: {chosen.config.name}; now its test split is read")
    write_choice(config.out, study.study_name, chosen.digest)
    if "test" in chosen.metrics:
        write_record(config.out, chosen, None)
    (chosen,) = _tested([chosen], config)
    return [chosen if record.digest == chosen.digest else record for record in records]


def _budget(config: TuneConfig) -> Budget:
    """Return how long trials may begin."""
    return Budget() if config.hours == "unlimited" else Budget(3600 * config.hours)


def _plan(config: TuneConfig, name: str, trials: Sequence[TrialConfig], digests: Sequence[str], left: int) -> SweepPlan:
    """Return what the sweep wants, for whoever looks at the folder of records."""
    finished = sum(is_finished(config.out, digest, pruned_counts=True) for digest in digests) if config.search else 0
    return SweepPlan(
        name=name,
        kind="search" if config.search else "grid",
        trials=tuple(
            PlannedTrial(digest=digest, name=trial.name, epochs=trial.training.epochs)
            for trial, digest in zip(trials, digests, strict=True)
        ),
        count=left + finished if config.search else len(trials),
        at_once=trials_at_once(config, gpus_per_trial_worker(config), left),
        began=now(),
        space=config.search.space if config.search else {},
        metric=config.search.metric if config.search else "",
    )


def _run(config: TuneConfig, searcher: CellSearcher | StudySearcher, plan: SweepPlan, left: int) -> None:
    """Run the trials that are left, and say so if the time was over before all had begun."""
    write_plan(config.out, plan)
    run_trials(config, put_training_set(config.training_set, config.feed), searcher, plan, left)
    if searcher.begun < left and config.hours != "unlimited":
        to_stderr(
            f"hours: {config.hours:g} h are over, {left - searcher.begun} of {left} trials were not begun; run the "
            "same command again to go on"
        )


def _tested(records: list[TrialRecord], config: TuneConfig) -> list[TrialRecord]:
    """Return the records with test figures; a complete one may lack them if a search wrote it."""
    lacking = [record for record in records if record.status == "complete" and "test" not in record.metrics]
    if not lacking:
        return records
    with connected(config.cluster):
        gpus = gpus_per_trial_worker(config)
        task = ray.remote(num_cpus=config.workers.cpus, num_gpus=gpus)(_read_test)
        found = ray.get([task.remote(record, config, gpus) for record in lacking])
    tested = {record.digest: record for record in found}
    return [tested.get(record.digest, record) for record in records]


def _read_test(record: TrialRecord, config: TuneConfig, gpus: float) -> TrialRecord:
    data, worker = read_training_set(config.training_set, streaming=True), trial_worker(config, gpus)
    tested = with_test(record, config.out, data, worker)
    track_test(TrackedTrial(config.tracking, config.out, record.digest, record.config, data.card, worker), tested)
    return tested


def grouped(config: TuneConfig, training_set_digest: str) -> TuneConfig:
    """Return the config with a W&B group for its trials: the same for the same grid, or search, grown or not."""
    tracking, search = config.tracking, config.search
    if tracking.group:
        return config
    name = _grid_name(config, training_set_digest)
    if search:
        deciding = {"search": search.deciding(), "trial": config.trial.digested(), "training_set": training_set_digest}
        name = f"search-{digest_of(deciding)}"
    return config.model_copy(update={"tracking": tracking.model_copy(update={"group": name})})


def _grid_name(config: TuneConfig, training_set_digest: str) -> str:
    """Return what a grid is known by: what its cells have in common, which stays as cells are added."""
    return f"grid-{digest_of({'trial': config.trial.digested(), 'training_set': training_set_digest})}"


def _check_space(config: TuneConfig, search: SearchConfig, card: TrainingSetCard) -> None:
    """Refuse a search whose trials or metric cannot work."""
    if config.workers.count > 1:
        raise ConfigError(
            f"workers.count: a search runs each trial on one worker, not {config.workers.count}; "
            "set workers.count to 1, or write the cells as a grid"
        )
    for where, trial in searched_trials(config.trial, search):
        _check(config, trial, card, where)
    val, classes = card.splits["val"], task_classes(config.trial, card)
    if "val_auroc" in search.optimised and not any(0 < val.positives.get(name, 0) < val.rows for name in classes):
        raise ConfigError(
            f"search: val_auroc needs both labels of {', '.join(classes)} in the validation split; use val_loss"
        )


def _check(config: TuneConfig, trial: TrialConfig, card: TrainingSetCard, where: str) -> None:
    """Refuse one trial of a sweep that cannot work, and say which it is."""
    try:
        check_trial(trial, card)
        check_workers(training_job(config, trial), card)
    except HemoError as error:
        error.add_note(f"in {where}")
        raise


def _say_plan(config: TuneConfig, trials: int, left: int) -> None:
    plan = f"; {plan_in_words(config, left)}" if left else ""
    to_stderr(f"{trials} trials, {trials - left} of them finished already{plan}; records in {config.out}")


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


def chosen_record(records: Sequence[TrialRecord], search: SearchConfig) -> TrialRecord:
    """Return the complete trial that a search chooses, marked as selected; of equal ones the first.

    It is the one with the best `metric`; of several objectives, the best of those that no other trial beats in all.

    Raises:
        HemoError: If no complete trial has these figures.
    """
    front = pareto_front(records, search.optimised)
    if not front:
        wanted = " and ".join(search.optimised)
        raise HemoError(f"no complete trial has {wanted}: nothing can be chosen; search on val_loss")
    best = min(front, key=lambda record: cost(objective_values(record)[search.metric], search.metric))
    return best.model_copy(update={"selected_by": selection_rule(search), "selected_among": len(records)})


def selection_rule(search: SearchConfig) -> str:
    """Return what a search chooses by: `val_loss`, or `val_auroc on the Pareto front of val_auroc, latency_ms`."""
    front = f" on the Pareto front of {', '.join(search.objectives)}" if search.objectives else ""
    return search.metric + front


def front_lines(records: Sequence[TrialRecord], search: SearchConfig) -> list[str]:
    """Return a line for each trial on the Pareto front of several objectives, below one that says what that is."""
    if not search.objectives:
        return []
    front = pareto_front(records, search.objectives)
    lines = [f"Pareto front of {', '.join(search.objectives)}: {len(front)} of {len(records)} trials"]
    for record in front:
        figures = objective_values(record)
        told = ", ".join(f"{objective} {figures[objective]:.4g}" for objective in search.objectives)
        lines.append(f"  {record.config.name}: {told}")
    return lines


def with_test(record: TrialRecord, out: str, data: TrialData, worker: Worker) -> TrialRecord:
    """Measure a complete trial's checkpoint on test, and write that into its record.

    Args:
        record: Of a complete trial.
        out: Folder of records.
        data: The training set, with its test split.
        worker: This process.

    Raises:
        SourceError: If the set's test split is held back, or the checkpoint is gone.
        TrialError: If the memory does not hold a batch.
    """
    splits = select_splits(data, record.config)
    if splits.test is None:
        raise SourceError(f"record {record.digest} cannot be tested: the test split is held back")
    module, card = load_checkpoint(checkpoint_folder(out, record.digest))
    device = torch.device(worker.device)
    batch_size = record.config.training.batch_size
    with memory_told(batch_size, TrialError):
        logits = evaluate(module.to(device), splits.test, card.normalisation, batch_size, worker)
    loss = build_loss(record.config, splits.classes, torch.from_numpy(splits.train.labels).to(device, torch.float32))
    figures = judge(record.config.task, splits.classes, logits, splits.test, loss, record.thresholds)
    fields = judged_fields({"test": figures})
    told = {name: {**getattr(record, name), **by_split} for name, by_split in fields.items()}
    new = [sentence for sentence in one_sided(splits, record.config.task) if sentence not in record.reductions]
    rows, reductions = {**record.rows, "test": len(splits.test)}, (*record.reductions, *new)
    tested = record.model_copy(update={**told, "rows": rows, "reductions": reductions})
    known = read_predictions(out, record.digest)
    write_record(out, tested, pa.concat_tables([known, split_predictions("test", splits.test, logits.cpu().numpy())]))
    return tested
