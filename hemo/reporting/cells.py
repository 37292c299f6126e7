"""Cells (trials that differ only by seed), and the paired test of the best cell against each other one on test."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from hemo.config.tune import settings_name, varying
from hemo.digest import digest_of
from hemo.errors import SourceError
from hemo.reporting.table_format import number
from hemo.reporting.trial_row import PatientResults, Row, metrics_of
from hemo.stats.intervals import CONFIDENCE, Interval, patient_resamples
from hemo.stats.paired_tests import difference_interval, holm, sign_flip_p
from hemo.trials.record import title_of

SIGNIFICANCE = 1 - CONFIDENCE
TEST_NAME = "two-sided sign-flip permutation test, clustered by patient"


@dataclass(frozen=True, eq=False)
class Cell:
    """Trials with the same settings except the seed; at least one."""

    name: str
    rows: tuple[Row, ...]

    def values(self, split: str, metric: str) -> list[float]:
        """Return a metric of each trial that has it."""
        known = [metrics_of(row.record, split) for row in self.rows]
        return [metrics[metric] for metrics in known if metric in metrics]


@dataclass(frozen=True, eq=False)
class Difference:
    """Accuracy on test of the best cell minus that of another."""

    best: Cell
    other: Cell
    accuracy: Interval
    p: float
    p_holm: float  # adjusted for the number of cells that the best one is compared with
    images: int
    patients: int
    comparisons: int

    @property
    def significant(self) -> bool:
        """Whether the Holm-adjusted p-value is below 0.05."""
        return self.p_holm < SIGNIFICANCE


def cells_of(rows: Sequence[Row]) -> list[Cell]:
    """Return the cells of all complete trials, the one with the lowest mean validation loss first."""
    complete = [row for row in rows if row.record.status == "complete"]
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in complete:
        groups[digest_of({**row.record.config.deciding(), "seed": 0})].append(row)
    settings = [key for key in varying([row.record.config for row in complete]) if key != "seed"] if complete else []
    cells = [Cell(_name(group, settings), tuple(group)) for group in groups.values()]
    return sorted(cells, key=lambda cell: fmean(cell.values("val", "loss") or [float("inf")]))


def _name(rows: Sequence[Row], settings: Sequence[str]) -> str:
    """Return the trials' common name without the seed, else a name made of their settings."""
    if len(rows) == 1:
        return title_of(rows[0].record)
    names = {title_of(row.record).removesuffix(f", seed {row.record.config.seed}") for row in rows}
    if len(names) == 1:
        return names.pop()
    keys = ["model.backbone", *(key for key in settings if key != "model.backbone")]
    return settings_name(rows[0].record.config, keys)


def compare_best_cell(cells: Sequence[Cell], *, samples: int, seed: int) -> tuple[Difference, ...]:
    """Compare the first cell that was evaluated on test with each later one that was, paired by patient.

    The mean over a cell's seeds is compared, so that the comparison is between settings. Cells are ordered by
    validation, so that test does not select the cell it evaluates.

    Args:
        cells: Best first.
        samples: Resamples of patients, and random sign flips where they cannot all be evaluated.
        seed: Of both.

    Raises:
        SourceError: If trials of one training set were tested on different images.
    """
    tested = [(cell, mean) for cell in cells if (mean := _mean_by_patient(cell)) is not None]
    if len(tested) < 2:
        return ()
    (best, first), others = tested[0], tested[1:]
    if not all(first.same_images(mean) for _, mean in others):
        raise SourceError(
            "records of one training set were tested on different images; keep such records in separate folders"
        )
    draws, _ = patient_resamples(first.patients, samples, seed)
    gaps = [first.correct - mean.correct for _, mean in others]
    p_values = [sign_flip_p(gap, samples, seed) for gap in gaps]
    return tuple(
        Difference(
            best,
            other,
            difference_interval(gap, first.images, draws),
            p,
            p_holm,
            int(first.images.sum()),
            len(first.images),
            len(others),
        )
        for (other, _), gap, p, p_holm in zip(others, gaps, p_values, holm(p_values), strict=True)
    )


def _mean_by_patient(cell: Cell) -> PatientResults | None:
    """Return the mean over a cell's seeds; None if a seed was not evaluated on test."""
    known = [row.by_patient for row in cell.rows if row.by_patient is not None]
    if len(known) < len(cell.rows):
        return None
    correct: NDArray[np.float64] = np.mean([results.correct for results in known], axis=0)
    return PatientResults(known[0].image_ids, known[0].patients, known[0].images, correct)


def describe_difference(first: Difference) -> str:
    """Return a sentence on the best cell and the next: difference, interval, test and significance."""
    gap, low, high = first.accuracy.value, first.accuracy.low, first.accuracy.high
    if gap:
        leader, distance = (first.best, gap) if gap > 0 else (first.other, -gap)
        low, high = (low, high) if gap > 0 else (-high, -low)
        result = f"{leader.name} is more accurate by {number(distance)} on the same {first.images:,} test images"
    else:
        result = f"both have the same accuracy on the same {first.images:,} test images"
    adjusted = "" if first.comparisons == 1 else f", p (Holm, {first.comparisons} comparisons) {_p(first.p_holm)}"
    verdict = (
        "significant (Holm-adjusted p < 0.05)" if first.significant else "not significant (Holm-adjusted p >= 0.05)"
    )
    seeds = min(len(first.best.rows), len(first.other.rows))
    scope = f"mean of {seeds} seeds each" if seeds > 1 else "one seed only: another may change the order"
    return (
        f"{first.best.name} and {first.other.name} have the lowest validation losses of the cells evaluated on test; "
        f"{result} (95 % interval {number(low)} to {number(high)}; {TEST_NAME}, {first.patients:,} patients: "
        f"p {_p(first.p)}{adjusted}). The difference is {verdict}; {scope}."
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
