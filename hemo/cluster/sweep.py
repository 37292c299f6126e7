"""A grid or a search, by Ray Tune: one record a trial, whatever becomes of it."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import ray
from optuna.study import Study

from hemo.cluster.budget import Budget
from hemo.cluster.capacity import gpus_per_trial_worker, plan_in_words, trials_at_once
from hemo.cluster.cells import CellSearcher
from hemo.cluster.chosen import chosen_record, front_lines, with_test
from hemo.cluster.feed import put_training_set
from hemo.cluster.fit import RAY_FOLDER, check_workers
from hemo.cluster.searcher import StudySearcher, ended_trials, open_study, plan_points
from hemo.cluster.session import connected
from hemo.cluster.track import TrackedTrial, check_tracking, track_test
from hemo.cluster.trainable import training_job, trial_worker
from hemo.cluster.tuning import run_trials
from hemo.config.trial import TrialConfig
from hemo.config.tune import GridConfig, SearchConfig, TuneConfig
from hemo.curation.card import TrainingSetCard, read_card
from hemo.digest import digest_of
from hemo.errors import ConfigError, HemoError
from hemo.storage import join, remove, require_writable
from hemo.sweeps.grid import grid_trials
from hemo.sweeps.space import point_trial, search_space, searched_trials
from hemo.training.data.dataset import read_training_set
from hemo.training.data.task_rows import task_classes
from hemo.training.reporting import to_stderr
from hemo.trials.progress import PlannedTrial, SweepPlan, write_choice, write_plan
from hemo.trials.provenance import now
from hemo.trials.record import TrialRecord, has_record, is_finished, read_record, record_digest, write_record
from hemo.trials.run import check_trial, finished_record


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
