"""Results of searches from their records: trials of each search, importance of settings, compute used."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from hemo.config.tune import Choices, Range, flattened, varying
from hemo.trials.progress import SweepPlan
from hemo.trials.record import TrialRecord, title_of

MIN_TRIALS = 8
"""Trials below which the importance of settings is not computed."""
RESAMPLES, RESAMPLE_TREES = 40, 8
"""Resamples of trials behind the interval of an importance, and trees of the forest of each."""
LOG_RATIO = 10.0
"""Ratio of the largest to the smallest value from which on a setting is on a logarithmic scale."""


@dataclass(frozen=True, eq=False)
class SearchedTrials:
    """The trials of one search in one comparison; at least one."""

    records: tuple[TrialRecord, ...]
    selected: TrialRecord | None  # the last one it selected, if it is in this comparison
    plan: SweepPlan | None  # None: the folder of records has none


@dataclass(frozen=True)
class SearchPoint:
    """A trial that ran, as a search sees it."""

    record: TrialRecord
    value: float  # of the epoch with the lowest validation loss
    settings: dict[str, Any]  # dotted setting -> value, of those that the search changed


@dataclass(frozen=True)
class Search:
    """Trials in the order in which they ended."""

    title: str  # `Search`; of several in one comparison `Search 2 of 3`
    metric: str  # what was optimised: val_loss, val_accuracy, val_auroc
    trials: tuple[SearchPoint, ...]
    selected: TrialRecord | None = None
    space: Mapping[str, Choices | Range] = field(default_factory=dict)  # empty if it is not recorded

    @property
    def metric_name(self) -> str:
        """The metric's name in plots: `validation loss`, `validation AUROC`."""
        return self.metric.replace("val_", "validation ").replace("auroc", "AUROC")

    @property
    def less_is_better(self) -> bool:
        """Whether the metric is a loss."""
        return self.metric == "val_loss"

    @property
    def keys(self) -> list[str]:
        """Dotted settings that differ between trials."""
        return list(self.trials[0].settings)


@dataclass(frozen=True)
class Importance:
    """Fractions of the variance of values that each setting explains, 0 to 1, largest first."""

    fractions: dict[str, float]
    ends: dict[str, tuple[float, float]]  # of the 95 % interval of each, over resamples of the trials
    trials: int
    epoch: int | None  # after which values were compared; None: each trial's last


def group_by_search(records: Sequence[TrialRecord], plans: Sequence[SweepPlan]) -> tuple[SearchedTrials, ...]:
    """Return each search with its trials; those in no plan are one search, if any of them was selected or pruned.

    Args:
        records: Trials of one comparison.
        plans: Of all grids and searches of the folder of records.

    Returns:
        Searches with a trial among the records, by the time at which their first trial ended.
    """
    searches = [_of_plan(plan, records) for plan in plans if plan.kind == "search"]
    planned = {trial.digest for plan in plans for trial in plan.trials}
    others = [record for record in records if record.digest not in planned]
    if any(record.selected_by or record.status == "pruned" for record in others):
        searches.append(SearchedTrials(tuple(others), _last_selected(others), None))
    return tuple(sorted((search for search in searches if search.records), key=_first_end))


def _of_plan(plan: SweepPlan, records: Sequence[TrialRecord]) -> SearchedTrials:
    digests = {trial.digest for trial in plan.trials}
    members = [record for record in records if record.digest in digests]
    if not plan.selected:
        return SearchedTrials(tuple(members), _last_selected(members), plan)
    selected = next((record for record in members if record.digest == plan.selected), None)
    return SearchedTrials(tuple(members), selected, plan)


def _last_selected(records: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return the trial that a search selected, the last one if it was continued and selected again."""
    selected = [record for record in records if record.selected_by]
    return max(selected, key=lambda record: (record.selected_among, record.finished), default=None)


def _first_end(search: SearchedTrials) -> tuple[str, str]:
    return min((record.finished, record.digest) for record in search.records)


def searches_of(parts: Sequence[SearchedTrials]) -> list[Search]:
    """Return the searches of which a trial ran, in the order of `parts`.

    Args:
        parts: As `group_by_search` returns them.
    """
    searches = [(part, trials) for part in parts if (trials := _trials(part))]
    return [
        Search(
            f"Search {number} of {len(searches)}" if len(searches) > 1 else "Search",
            metric_of(part),
            trials,
            part.selected,
            part.plan.space if part.plan else {},
        )
        for number, (part, trials) in enumerate(searches, 1)
    ]


def metric_of(part: SearchedTrials) -> str:
    """Return the metric by which a search selected: of its plan, else of the selected trial, else validation loss."""
    if part.plan and part.plan.metric:
        return part.plan.metric
    return selection_metric(part.selected) if part.selected else "val_loss"


def _trials(part: SearchedTrials) -> tuple[SearchPoint, ...]:
    records = [record for record in part.records if record.status != "failed"]
    ran = sorted(records, key=lambda record: (record.finished, record.digest))
    keys = [key for key in varying([record.config for record in ran]) if key != "seed"] if ran else []
    trials = []
    for record in ran:
        value = _value(record, metric_of(part), len(record.epochs))
        settings = dict(flattened(record.config.deciding()))
        if value is not None:
            trials.append(SearchPoint(record, value, {key: settings[key] for key in keys}))
    return tuple(trials)


def selection_metric(record: TrialRecord) -> str:
    """Return the metric by which a search selected a trial: `val_auroc` of `val_auroc on the Pareto front of ...`."""
    return record.selected_by.partition(" ")[0]


def importance(search: Search, seed: int) -> Importance | None:
    """Return the importance of each setting; None below `MIN_TRIALS` trials, with one setting, or with equal results.

    If trials were pruned, values are those after as many epochs as the shortest pruned trial ran, so that all trials
    are compared after the same number of epochs.

    Args:
        search: Its trials.
        seed: Of the random forest.

    Source:
        Hutter et al., An efficient approach for assessing hyperparameter importance (fANOVA), ICML 2014.
    """
    pruned = [len(trial.record.epochs) for trial in search.trials if trial.record.status == "pruned"]
    epoch = min(pruned) if pruned else None
    values = [trial.value if epoch is None else _value(trial.record, search.metric, epoch) for trial in search.trials]
    known = [(trial, value) for trial, value in zip(search.trials, values, strict=True) if value is not None]
    if len(known) < MIN_TRIALS or len(search.keys) < 2 or len({value for _, value in known}) == 1:
        return None
    fractions = _fanova(search.keys, known, seed)
    ordered = dict(sorted(fractions.items(), key=lambda item: -item[1]))
    return Importance(ordered, _importance_ends(search.keys, known, seed), len(known), epoch)


def _importance_ends(
    keys: Sequence[str], known: Sequence[tuple[SearchPoint, float]], seed: int
) -> dict[str, tuple[float, float]]:
    """Return the ends of 95 % intervals over resamples of the trials, each with a smaller forest of its own.

    Source:
        docs/decisions/0018-page.md: why fANOVA, and not PED-ANOVA.
    """
    generator = np.random.default_rng(seed)
    found: dict[str, list[float]] = {key: [] for key in keys}
    for number in range(RESAMPLES):
        resample = [known[index] for index in generator.integers(len(known), size=len(known))]
        if len({value for _, value in resample}) > 1:
            for key, fraction in _fanova(keys, resample, seed + number, RESAMPLE_TREES).items():
                found[key].append(fraction)
    return {key: (float(np.quantile(each, 0.025)), float(np.quantile(each, 0.975))) for key, each in found.items()}


def search_lines(parts: Sequence[SearchedTrials]) -> Iterator[tuple[str, str]]:
    """Yield the heading lines of each search as pairs of term and text: trials, space, selected trial, compute."""
    searches = searches_of(parts)
    for search in searches:
        if len(searches) == 1:
            yield search.title, search_summary(search)
            yield "Compute of the search", compute_used(search)
            continue
        choice = f"{search.metric} selected {title_of(search.selected)}" if search.selected else "none selected yet"
        yield search.title, f"{search_summary(search)}; {choice}"
        yield f"Compute of {search.title.lower()}", compute_used(search)


def search_summary(search: Search) -> str:
    """Return the number of trials of a search, and its space."""
    space = [f"{_plain(key)} {_values_text(values)}" for key, values in search.space.items()]
    return f"{len(search.trials)} trials over {'; '.join(space or map(_plain, search.keys)) or 'one point'}"


def _values_text(values: Choices | Range) -> str:
    if isinstance(values, Choices):
        return ", ".join(map(str, values.choices))
    return f"{values.low:g} to {values.high:g}{' (log)' if values.log else ''}"


def _plain(key: str) -> str:
    return key.rsplit(".", 1)[-1].replace("_", " ")


def compute_used(search: Search) -> str:
    """Return the number of epochs that ran, relative to the most that were configured and to those of a full grid."""
    ran = sum(len(trial.record.epochs) for trial in search.trials)
    whole = sum(trial.record.config.training.epochs for trial in search.trials)
    counts = {key: _grid_values([trial.settings[key] for trial in search.trials]) for key in search.keys}
    epochs = max(trial.record.config.training.epochs for trial in search.trials)
    grid = math.prod(counts.values()) * epochs
    axes = ", ".join(f"{_plain(key)} {count}" for key, count in counts.items())
    return (
        f"{len(search.trials)} trials ran {ran:,} epochs: {ran / whole:.0%} of the {whole:,} at most (early stopping "
        f"and pruning), {ran / grid:.1%} of the {grid:,} of a full grid of the values tried ({axes}; real-valued "
        "settings with one value for each factor of ten)"
    )


def _value(record: TrialRecord, metric: str, epochs: int) -> float | None:
    """Return the metric at the lowest validation loss of the first epochs; None where there is none."""
    first = record.epochs[:epochs]
    if not first:
        return None
    return min(first, key=lambda epoch: epoch.val["loss"]).val.get(metric.removeprefix("val_"))


def _grid_values(values: Sequence[Any]) -> int:
    """Return how many values of a setting a full grid would have."""
    if all(isinstance(value, float) for value in values) and min(values) > 0:
        return 1 + math.ceil(math.log10(max(values) / min(values)) - 1e-9)
    return len(set(map(str, values)))


def _fanova(
    keys: Sequence[str], known: Sequence[tuple[SearchPoint, float]], seed: int, trees: int = 64
) -> dict[str, float]:
    """Return the importance of each setting; of one that has a single value it is 0."""
    space = {key: _distribution([trial.settings[key] for trial, _ in known]) for key in keys}
    space = {key: values for key, values in space.items() if not values.single()}
    with _optuna_quiet():
        study = optuna.create_study()
        for trial, value in known:
            point = {key: _sample(trial.settings[key], space[key]) for key in space}
            study.add_trial(optuna.trial.create_trial(params=point, distributions=space, value=value))
        fractions = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed, n_trees=trees))
    return {key: float(fractions.get(key, 0.0)) for key in keys}


def _distribution(values: Sequence[Any]) -> BaseDistribution:
    """Return a distribution that contains all values: a range of numbers, or a choice of texts."""
    if all(isinstance(value, float) for value in values):
        low, high = min(values), max(values)
        return FloatDistribution(low, high, log=low > 0 and high / low >= LOG_RATIO)
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return IntDistribution(min(values), max(values))
    return CategoricalDistribution(sorted(set(map(str, values))))


def _sample(value: Any, distribution: BaseDistribution) -> Any:
    return str(value) if isinstance(distribution, CategoricalDistribution) else value


@contextmanager
def _optuna_quiet() -> Iterator[None]:
    """Suppress Optuna's log line on a new study, which is internal here."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
