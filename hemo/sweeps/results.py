"""Searches read back from records: which trials belong to which, what the settings mattered, and what it all cost."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from hemo.config.tune import Choices, Range
from hemo.sweeps.trial_changes import flattened, varying
from hemo.trials.progress import SweepPlan
from hemo.trials.record import TrialRecord, title_of

HANDFUL = 8
"""Trials below which nothing is said about the importance of settings."""
LOG_RATIO = 10.0
"""Ratio of the largest to the smallest value from which on a setting counts by its logarithm."""


@dataclass(frozen=True, eq=False)
class SearchedTrials:
    """The trials of one search that stand in one comparison; at least one."""

    records: tuple[TrialRecord, ...]
    chosen: TrialRecord | None  # the last one it chose, if that stands here
    plan: SweepPlan | None  # None: the folder of records does not tell


@dataclass(frozen=True)
class Trial:
    """A trial that ran, as a search sees it."""

    record: TrialRecord
    value: float  # of the epoch with the lowest validation loss
    settings: dict[str, Any]  # dotted setting -> value, of those that the search changed


@dataclass(frozen=True)
class Search:
    """Trials in the order in which they ended."""

    title: str  # Search, or of several in one comparison Search 2 of 3
    metric: str  # what was optimised: val_loss, val_accuracy, val_auroc
    trials: tuple[Trial, ...]
    chosen: TrialRecord | None = None
    space: Mapping[str, Choices | Range] = field(default_factory=dict)  # empty: the records do not tell

    @property
    def metric_in_words(self) -> str:
        """What the metric is called in figures: `validation loss`, `validation AUROC`."""
        return self.metric.replace("val_", "validation ").replace("auroc", "AUROC")

    @property
    def less_is_better(self) -> bool:
        """Whether the metric is a loss."""
        return self.metric == "val_loss"

    @property
    def keys(self) -> list[str]:
        """Dotted settings that differ between trials."""
        return list(self.trials[0].settings)

    def ranked(self) -> list[Trial]:
        """Return the complete trials, the best first."""
        complete = [trial for trial in self.trials if trial.record.status == "complete"]
        return sorted(complete, key=lambda trial: trial.value if self.less_is_better else -trial.value)


@dataclass(frozen=True)
class Importance:
    """Shares of the spread of values that each setting explains, 0 to 1, largest first."""

    shares: dict[str, float]
    trials: int
    epoch: int | None  # after which values were compared; None: in the end of each trial


def searches_among(records: Sequence[TrialRecord], plans: Sequence[SweepPlan]) -> tuple[SearchedTrials, ...]:
    """Return each search with its trials; those in no plan are one search, if any of them was chosen or stopped.

    Args:
        records: Trials of one comparison.
        plans: Of all grids and searches of the folder of records.

    Returns:
        Those with a trial among the records, the one that began first comes first.
    """
    found = [_of_plan(plan, records) for plan in plans if plan.kind == "search"]
    planned = {trial.digest for plan in plans for trial in plan.trials}
    others = [record for record in records if record.digest not in planned]
    if any(record.selected_by or record.status == "pruned" for record in others):
        found.append(SearchedTrials(tuple(others), _last_chosen(others), None))
    return tuple(sorted((each for each in found if each.records), key=_first_end))


def _of_plan(plan: SweepPlan, records: Sequence[TrialRecord]) -> SearchedTrials:
    digests = {trial.digest for trial in plan.trials}
    mine = [record for record in records if record.digest in digests]
    if not plan.selected:
        return SearchedTrials(tuple(mine), _last_chosen(mine), plan)
    chosen = [record for record in mine if record.digest == plan.selected]
    return SearchedTrials(tuple(mine), chosen[0] if chosen else None, plan)


def _last_chosen(records: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return the trial a search chose, the last one if it went on and chose anew."""
    chosen = [record for record in records if record.selected_by]
    return max(chosen, key=lambda record: (record.selected_among, record.finished), default=None)


def _first_end(search: SearchedTrials) -> tuple[str, str]:
    return min((record.finished, record.digest) for record in search.records)


def searches_of(parts: Sequence[SearchedTrials]) -> list[Search]:
    """Return the searches of which a trial ran, in the order given.

    Args:
        parts: As `searches_among` returns them.
    """
    found = [(part, trials) for part in parts if (trials := _trials(part))]
    return [
        Search(
            f"Search {number} of {len(found)}" if len(found) > 1 else "Search",
            _metric(part),
            trials,
            part.chosen,
            part.plan.space if part.plan else {},
        )
        for number, (part, trials) in enumerate(found, 1)
    ]


def _metric(part: SearchedTrials) -> str:
    """Return what a search chose by, as its plan has it, else its choice: validation loss where neither says it."""
    if part.plan and part.plan.metric:
        return part.plan.metric
    return metric_chosen_by(part.chosen) if part.chosen else "val_loss"


def _trials(part: SearchedTrials) -> tuple[Trial, ...]:
    records = [record for record in part.records if record.status != "failed"]
    ran = sorted(records, key=lambda record: (record.finished, record.digest))
    keys = [key for key in varying([record.config for record in ran]) if key != "seed"] if ran else []
    trials = []
    for record in ran:
        value = _value(record, _metric(part), len(record.epochs))
        settings = dict(flattened(record.config.deciding()))
        if value is not None:
            trials.append(Trial(record, value, {key: settings[key] for key in keys}))
    return tuple(trials)


def metric_chosen_by(record: TrialRecord) -> str:
    """Return the metric by which a search chose: `val_auroc` of `val_auroc on the Pareto front of ...`."""
    return record.selected_by.partition(" ")[0]


def importance(search: Search, seed: int) -> Importance | None:
    """Return how much each setting mattered; None under `HANDFUL` trials, with one setting, or where all did as well.

    Where trials were stopped early, values are those after as many epochs as the first stopped one had, so that all
    trials count and none is blamed for its shortness.

    Args:
        search: What was tried.
        seed: Of the forest.

    Source:
        Hutter et al., An efficient approach for assessing hyperparameter importance (fANOVA), ICML 2014.
    """
    stopped = [len(trial.record.epochs) for trial in search.trials if trial.record.status == "pruned"]
    epoch = min(stopped) if stopped else None
    values = [trial.value if epoch is None else _value(trial.record, search.metric, epoch) for trial in search.trials]
    known = [(trial, value) for trial, value in zip(search.trials, values, strict=True) if value is not None]
    if len(known) < HANDFUL or len(search.keys) < 2 or len({value for _, value in known}) == 1:
        return None
    shares = _fanova(search.keys, known, seed)
    return Importance(dict(sorted(shares.items(), key=lambda share: -share[1])), len(known), epoch)


def search_lines(parts: Sequence[SearchedTrials]) -> Iterator[tuple[str, str]]:
    """Yield what stands above a table of each search, as pairs of term and text: trials, space, choice and compute."""
    found = searches_of(parts)
    for search in found:
        choice = f"{search.metric} chose {title_of(search.chosen)}" if search.chosen else "none is chosen yet"
        yield search.title, f"{in_short(search)}; {choice}" if len(found) > 1 else in_short(search)
        yield "Compute of the search" if len(found) == 1 else f"Compute of {search.title.lower()}", compute_used(search)


def in_short(search: Search) -> str:
    """Return a search in a line: how many trials ran, and what they were drawn from."""
    drawn = [f"{_plain(key)} {_values_text(values)}" for key, values in search.space.items()]
    over = "; ".join(drawn or map(_plain, search.keys)) or "one point"
    return f"{len(search.trials)} trials ran, over {over}"


def _values_text(values: Choices | Range) -> str:
    if isinstance(values, Choices):
        return ", ".join(map(str, values.choices))
    return f"{values.low:g} to {values.high:g}{' (log)' if values.log else ''}"


def _plain(key: str) -> str:
    return key.rsplit(".", 1)[-1].replace("_", " ")


def compute_used(search: Search) -> str:
    """Return a sentence on the epochs that ran, against those without stopping, and against a full grid."""
    ran = sum(len(trial.record.epochs) for trial in search.trials)
    whole = sum(trial.record.config.training.epochs for trial in search.trials)
    counts = {key: _grid_values([trial.settings[key] for trial in search.trials]) for key in search.keys}
    epochs = max(trial.record.config.training.epochs for trial in search.trials)
    grid = math.prod(counts.values()) * epochs
    axes = ", ".join(f"{_plain(key)} {count}" for key, count in counts.items())
    return (
        f"{len(search.trials)} trials ran {ran:,} epochs, {ran / whole:.0%} of the {whole:,} without stopping, "
        f"and {ran / grid:.1%} of the {grid:,} of a full grid of the values tried ({axes}; of a number with decimals "
        "one a factor of ten)"
    )


def _value(record: TrialRecord, metric: str, epochs: int) -> float | None:
    """Return the metric at the lowest validation loss of the first epochs; None where there is none."""
    first = record.epochs[:epochs]
    if not first:
        return None
    return min(first, key=lambda epoch: epoch.val["loss"]).val.get(metric.removeprefix("val_"))


def _grid_values(values: Sequence[Any]) -> int:
    """Return how many values of a setting a grid would have."""
    if all(isinstance(value, float) for value in values) and min(values) > 0:
        return 1 + math.ceil(math.log10(max(values) / min(values)) - 1e-9)
    return len(set(map(str, values)))


def _fanova(keys: Sequence[str], known: Sequence[tuple[Trial, float]], seed: int) -> dict[str, float]:
    space = {key: _distribution([trial.settings[key] for trial, _ in known]) for key in keys}
    with _quietly():
        study = optuna.create_study()
        for trial, value in known:
            point = {key: _drawn(trial.settings[key], space[key]) for key in keys}
            study.add_trial(optuna.trial.create_trial(params=point, distributions=space, value=value))
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))
    return {key: float(share) for key, share in shares.items()}


def _distribution(values: Sequence[Any]) -> BaseDistribution:
    """Return what holds all values: numbers between the smallest and the largest, or one of several texts."""
    if all(isinstance(value, float) for value in values):
        low, high = min(values), max(values)
        return FloatDistribution(low, high, log=low > 0 and high / low >= LOG_RATIO)
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return IntDistribution(min(values), max(values))
    return CategoricalDistribution(sorted(set(map(str, values))))


def _drawn(value: Any, distribution: BaseDistribution) -> Any:
    return str(value) if isinstance(distribution, CategoricalDistribution) else value


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep Optuna from telling that it made a study, which is none of the user's."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
