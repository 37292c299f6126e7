"""Comparisons: trials that may share a table, grouped from the records, with paired differences and subgroups."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from hemo.config.trial import STUDIES, TrialConfig
from hemo.digest import digest_of
from hemo.reporting.cells import ORDERS, Cell, CellComparison, Order, cells_of, compare_on_test, order_of, place_of
from hemo.reporting.probabilities import ClassProbabilities, DecisionSettings, class_probabilities
from hemo.reporting.selection import Choice, Resampled, choice_among
from hemo.reporting.trial_row import (
    ClassMetrics,
    Row,
    SubsetMetrics,
    metrics_by_class,
    metrics_by_group,
    read_row,
    read_scores,
)
from hemo.sweeps.results import SearchedTrials, group_by_search, metric_of
from hemo.trials.predictions import Scores
from hemo.trials.progress import SweepPlan, read_plans
from hemo.trials.record import TrialRecord, title_of

STATUS_ORDER = ("complete", "pruned", "failed")
MAX_PLOTTED = 6
"""Trials whose predictions are plotted, at most: more curves cannot be distinguished."""


@dataclass(frozen=True, eq=False)
class PlottedTrial:
    """A trial whose predictions on test are plotted."""

    record: TrialRecord
    scores: Scores
    evaluated: list[ClassProbabilities]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Trials of one training set, task and target, all of images or all of studies, in the order of `order`."""

    rows: tuple[Row, ...]
    tested: CellComparison | None = None  # all pairs of cells on test; None where there is nothing to compare
    # of each of the best cells the trial with the lowest validation loss; of several classes of the best one's only
    probabilities: tuple[ClassProbabilities, ...] = ()
    by_format: tuple[SubsetMetrics, ...] = ()  # of the best trial; empty with only one pixel format
    by_class: tuple[ClassMetrics, ...] = ()  # of the best trial; empty with only one class
    plans: tuple[SweepPlan, ...] = ()  # of the grids and searches of the folder of records
    choices: tuple[Choice, ...] = ()  # of each search the trial it selected, else the best trial, with its correction
    samples: int = 0  # resamples of patients

    @property
    def first(self) -> TrialRecord:
        """A record with what all have in common: one that ran, if any did."""
        return self.rows[0].record

    @property
    def key(self) -> str:
        """A short name for files and anchors."""
        return digest_of(_group_key(self.first))[:8]

    @property
    def order(self) -> Order:
        """What the trials are ordered by."""
        return order_of([row.record for row in self.rows])

    @property
    def ran(self) -> tuple[TrialRecord, ...]:
        """Records of the trials with metrics: complete or pruned."""
        return tuple(row.record for row in self.rows if row.record.status != "failed")

    @property
    def trained(self) -> list[TrialConfig]:
        """Settings of the trials that hemo trained."""
        return [row.record.config for row in self.rows if not row.record.external]

    @cached_property
    def searches(self) -> tuple[SearchedTrials, ...]:
        """The searches to which trials of this comparison belong, with the trials of each."""
        return group_by_search([row.record for row in self.rows], self.plans)

    @cached_property
    def cells(self) -> list[Cell]:
        """The complete trials, grouped by their settings without the seed."""
        return cells_of(self.rows)

    @property
    def tested_cells(self) -> int:
        """How many cells have a trial that was evaluated on test."""
        return sum(any(row.test for row in cell.rows) for cell in self.cells)

    @cached_property
    def letters(self) -> dict[str, str]:
        """Digest of a trial -> letters of its cell: trials that share one cannot be told apart on test."""
        cells = self.tested.cells if self.tested and self.tested.pairs else ()
        return {row.record.digest: cell.letters for cell in cells for row in cell.cell.rows if cell.letters}

    @property
    def selected_rows(self) -> list[Row]:
        """The last trial that each search selected; the best by `order` comes first."""
        selected = {search.selected.digest for search in self.searches if search.selected}
        return [row for row in self.rows if row.record.digest in selected]

    @cached_property
    def unsearched(self) -> list[Row]:
        """The trials of no search: those of grids, and single ones."""
        cells = {trial.digest for plan in self.plans if plan.kind == "grid" for trial in plan.trials}
        searched = {record.digest for search in self.searches for record in search.records} - cells
        return [row for row in self.rows if row.record.digest not in searched]

    @cached_property
    def candidates(self) -> list[Row]:
        """All trials but those that a search passed over when it selected another one."""
        kept = {row.record.digest for row in [*self.selected_rows, *self.unsearched]}
        kept |= {record.digest for search in self.searches if not search.selected for record in search.records}
        return [row for row in self.rows if row.record.digest in kept]

    @property
    def best(self) -> Row | None:
        """The best trial by `order` that no search passed over, if one is complete."""
        return next((row for row in self.candidates if row.record.status == "complete"), None)

    @property
    def chosen_by(self) -> str:
        """Why the best trial is the best: `selected by val_auroc`, `lowest val loss` or `highest val AUROC`."""
        if self.best is None or self.best not in self.selected_rows:
            return ORDERS[self.order].replace("validation", "val")
        return f"selected by {self.best.record.selected_by}"

    @property
    def majority_accuracy(self) -> float | None:
        """Accuracy on test of predicting the most frequent class; None if no trial was evaluated on test."""
        return next((row.test.majority_accuracy for row in self.rows if row.test), None)


@dataclass(frozen=True)
class Known:
    """What was computed before, with the same samples and seed, of trials whose files have not changed since."""

    rows: Mapping[str, Row] = field(default_factory=dict)  # by digest
    resampled: Mapping[str, Mapping[str, Resampled]] = field(default_factory=dict)  # metric -> by digest


def compare_trials(
    records: Sequence[TrialRecord],
    folder: str,
    *,
    samples: int,
    seed: int,
    decisions: DecisionSettings | None = None,
    known: Known | None = None,
) -> list[Comparison]:
    """Group records that may be compared, with intervals and tests from their predictions.

    Args:
        records: As `read_records` returns them.
        folder: Folder of records with the predictions.
        samples: Resamples of patients.
        seed: Of the resampling; the same for every trial, so that differences are paired.
        decisions: Operating points and prevalence; by default those of `DecisionSettings`.
        known: What need not be computed again.

    Raises:
        SourceError: If predictions are missing, or trials of one training set were tested on different images.
    """
    known = known or Known()
    rows = [known.rows.get(record.digest) or read_row(record, folder, samples, seed) for record in records]
    chosen = decisions or DecisionSettings()
    return [
        replace(
            _with_test_results(each, folder, samples, seed, chosen),
            choices=tuple(_choices(each, folder, samples, seed, known.resampled)),
        )
        for each in grouped(rows, folder)
    ]


def grouped(rows: Sequence[Row], folder: str) -> list[Comparison]:
    """Group trials that may be compared, the best of each group first; nothing is computed from predictions."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[_group_key(row.record)].append(row)
    plans = tuple(read_plans(folder))
    return [Comparison(tuple(_ordered(groups[key])), plans=plans) for key in sorted(groups)]


def _with_test_results(
    comparison: Comparison, folder: str, samples: int, seed: int, decisions: DecisionSettings
) -> Comparison:
    """Return a comparison with paired differences, predictions to plot, and the best's subgroups."""
    plotted = _plotted(comparison, folder, decisions)
    known = replace(
        comparison,
        tested=compare_on_test(comparison.cells, seed),
        probabilities=tuple(_probabilities(plotted)),
        samples=samples,
    )
    if comparison.best is None or not plotted or plotted[0].record is not comparison.best.record:
        return known
    best, classes = plotted[0].scores, plotted[0].record.classes
    return replace(
        known, by_format=metrics_by_group(best, best.pixel_formats, classes), by_class=metrics_by_class(best, classes)
    )


def _choices(
    comparison: Comparison, folder: str, samples: int, seed: int, known: Mapping[str, Mapping[str, Resampled]]
) -> Iterator[Choice]:
    """Yield the choice of each search; of the trials of no search that of the best one, if it is one of them."""
    made = [(part.selected, part.records, metric_of(part)) for part in comparison.searches if part.selected]
    best = comparison.best
    if best and best in comparison.unsearched and best not in comparison.selected_rows:
        made.append((best.record, tuple(row.record for row in comparison.unsearched), comparison.order))
    for chosen, records, metric in made:
        before = known.get(metric, {})
        if choice := choice_among([chosen, *records], metric, folder, samples=samples, seed=seed, known=before):
            yield choice


def _probabilities(plotted: Sequence[PlottedTrial]) -> list[ClassProbabilities]:
    """Return what to show: of a binary task each trial, else the classes of the best trial."""
    if plotted and plotted[0].record.config.task != "binary":
        return plotted[0].evaluated
    return [each for trial in plotted for each in trial.evaluated]


def _plotted(comparison: Comparison, folder: str, decisions: DecisionSettings) -> list[PlottedTrial]:
    """Return the best trial, then the best one of each next cell."""
    best = [comparison.best] if comparison.best else []
    others = [cell.rows[0] for cell in comparison.cells if comparison.best not in cell.rows]
    tested = [row.record for row in [*best, *others] if row.test][:MAX_PLOTTED]
    return [plotted for record in tested if (plotted := _evaluated(record, folder, decisions)) is not None]


def _evaluated(record: TrialRecord, folder: str, decisions: DecisionSettings) -> PlottedTrial | None:
    """Return a trial with its probabilities evaluated; None if its test split was not predicted."""
    scores = read_scores(record, folder)
    return PlottedTrial(record, scores[1], class_probabilities(record, *scores, decisions)) if scores else None


def _group_key(record: TrialRecord) -> tuple[str, ...]:
    """Return what two records must have in common to share a table."""
    target = record.config.target if record.config.task == "binary" else ""
    of_studies = ("studies",) if record.config.row_noun == STUDIES else ()
    return record.training_set, record.split, record.config.task, target, *of_studies


def _ordered(rows: Sequence[Row]) -> list[Row]:
    """Return complete trials first, the best of them by what orders them."""
    order = order_of([row.record for row in rows])

    def rank(row: Row) -> tuple[int, float, str]:
        return STATUS_ORDER.index(row.record.status), place_of(row.record, order), title_of(row.record)

    return sorted(rows, key=rank)
