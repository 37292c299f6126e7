"""Trial records to what can be compared: one comparison for each training set and target."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from hemo.digest import digest_of
from hemo.reporting.best_cell_test import Difference, differences
from hemo.reporting.cells import Cell, cells_of
from hemo.reporting.subgroups import ClassFigures, FormatFigures, figures_by_class, figures_by_format
from hemo.reporting.trial_row import Row, figures_of, read_row, read_test
from hemo.sweeps.results import SearchedTrials, searches_among
from hemo.trials.predictions import Scores
from hemo.trials.progress import SweepPlan, read_plans
from hemo.trials.record import TrialRecord, title_of

STATUS_ORDER = ("complete", "pruned", "failed")
SHOWN = 6
"""Trials at most whose predictions are drawn: more lines than that cannot be told apart."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A trial whose predictions on test are drawn."""

    record: TrialRecord
    scores: Scores


@dataclass(frozen=True, eq=False)
class Comparison:
    """Trials of one training set, task, target and loss; that with the lowest validation loss comes first."""

    rows: tuple[Row, ...]
    differences: tuple[Difference, ...] = ()  # the best cell against each other one
    shown: tuple[Shown, ...] = ()  # the trial of each of the best cells that has the lowest validation loss
    by_format: tuple[FormatFigures, ...] = ()  # of the trial to look at; empty with one pixel format only
    by_class: tuple[ClassFigures, ...] = ()  # of the trial to look at; empty with one class only
    plans: tuple[SweepPlan, ...] = ()  # of the grids and searches of the folder of records

    @property
    def first(self) -> TrialRecord:
        """A record that says what all have in common: one that ran, if any did."""
        return self.rows[0].record

    @property
    def key(self) -> str:
        """A short name for files and anchors."""
        return digest_of(_comparable(self.first))[:8]

    @property
    def ran(self) -> tuple[TrialRecord, ...]:
        """Records of the trials that gave figures: complete or pruned."""
        return tuple(row.record for row in self.rows if row.record.status != "failed")

    @cached_property
    def searches(self) -> tuple[SearchedTrials, ...]:
        """The searches that made trials of these, with the trials of each."""
        return searches_among([row.record for row in self.rows], self.plans)

    @cached_property
    def cells(self) -> list[Cell]:
        """The complete trials, those that differ by seed only taken together."""
        return cells_of(self.rows)

    @property
    def choices(self) -> list[Row]:
        """The trials that searches chose, each its last one; that with the lowest validation loss comes first."""
        chosen = {search.chosen.digest for search in self.searches if search.chosen}
        return [row for row in self.rows if row.record.digest in chosen]

    @property
    def selected(self) -> Row | None:
        """The trial a search chose, of several searches the one with the lowest validation loss; None without one."""
        return self.choices[0] if self.choices else None

    @property
    def best(self) -> Row | None:
        """The trial to look at: the one a search chose, else the one with the lowest validation loss, if complete."""
        return self.selected or (self.rows[0] if self.first.status == "complete" else None)

    @property
    def majority_accuracy(self) -> float | None:
        """Accuracy on test of always giving the commonest answer; None if no trial read test."""
        known = [row.majority_accuracy for row in self.rows if row.majority_accuracy is not None]
        return known[0] if known else None


def compared(records: Sequence[TrialRecord], folder: str, *, samples: int, seed: int) -> list[Comparison]:
    """Group records that may be compared, with intervals and tests from their predictions.

    Args:
        records: As `read_records` gives them.
        folder: Folder of records, where the predictions lie.
        samples: Resamples of patients behind each interval, and permutations behind each test.
        seed: Of the resampling; the same for every trial, so that their intervals are paired.

    Raises:
        SourceError: If predictions are missing, or trials of one training set were tested on different images.
    """
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for record in records:
        groups[_comparable(record)].append(read_row(record, folder, samples, seed))
    plans = tuple(read_plans(folder))
    plain = [Comparison(tuple(sorted(groups[key], key=_rank)), plans=plans) for key in sorted(groups)]
    return [_judged(comparison, folder, samples, seed) for comparison in plain]


def _judged(plain: Comparison, folder: str, samples: int, seed: int) -> Comparison:
    """Return a comparison with what predictions tell beyond each trial's own figures."""
    shown = tuple(_shown(plain, folder))
    told = replace(plain, differences=differences(plain.cells, samples=samples, seed=seed), shown=shown)
    if plain.best is None or not shown or shown[0].record is not plain.best.record:
        return told
    best, classes = shown[0].scores, shown[0].record.classes
    return replace(
        told,
        by_format=figures_by_format(best, samples, seed),
        by_class=figures_by_class(best, classes, samples, seed),
    )


def _shown(comparison: Comparison, folder: str) -> list[Shown]:
    """Return the trial to look at, and the best one of each next cell."""
    best = [comparison.best] if comparison.best else []
    others = [cell.rows[0] for cell in comparison.cells if comparison.best not in cell.rows]
    tested = [row.record for row in [*best, *others] if row.accuracy is not None][:SHOWN]
    read = [(record, read_test(record, folder)) for record in tested]
    return [Shown(record, scores) for record, scores in read if scores is not None]


def _comparable(record: TrialRecord) -> tuple[str, ...]:
    """Return what two records must share to stand in one table."""
    target = record.config.target if record.config.task == "binary" else ""
    return record.training_set, record.split, record.config.task, target, record.config.training.loss


def _rank(row: Row) -> tuple[int, float, str]:
    loss = figures_of(row.record, "val").get("loss", float("inf"))
    return STATUS_ORDER.index(row.record.status), loss, title_of(row.record)
