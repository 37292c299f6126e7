"""Cells (trials that differ only by seed), and the paired difference of the best cell from each other one on test."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from hemo.config.tune import settings_name, varying
from hemo.digest import digest_of
from hemo.errors import SourceError
from hemo.reporting.trial_row import Evaluation, Row, estimate, p_text
from hemo.stats import SIGNIFICANCE
from hemo.stats.auroc import Auroc, mean_over_seeds
from hemo.stats.bootstrap import resampled_variance
from hemo.stats.intervals import Interval, difference_interval, holm, too_few
from hemo.trials.record import metrics_of, title_of

DELONG = "DeLong's test with patients as clusters (Obuchowski 1997)"
BOOTSTRAP = "bootstrap of patients"


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
    """Metrics on test of the best cell minus those of another; only that in AUROC is tested."""

    best: Cell
    other: Cell
    auroc: Interval
    average_precision: Interval
    log_loss: Interval
    p: float | None  # None with too few patients for a test
    p_holm: float | None  # adjusted for the number of cells that the best one is compared with
    test: str  # name of the test
    images: int
    patients: int
    comparisons: int

    @property
    def verdict(self) -> str:
        """Whether the difference in AUROC is significant, or why that was not tested."""
        if self.p_holm is None:
            return f"not tested: {self.auroc.reason}"
        if self.p_holm < SIGNIFICANCE:
            return f"statistically significant (Holm-adjusted p < {SIGNIFICANCE})"
        return "not significant"


def cells_of(rows: Sequence[Row]) -> list[Cell]:
    """Return the cells of all complete trials, the one with the lowest mean validation loss first."""
    complete = [row for row in rows if row.record.status == "complete"]
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in complete:
        own = {"external": row.record.digest} if row.record.external else {"seed": 0}
        groups[digest_of({**row.record.settings, **own})].append(row)
    trained = [row.record.config for row in complete if not row.record.external]
    settings = [key for key in varying(trained) if key != "seed"] if trained else []
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


@dataclass(frozen=True, eq=False)
class SeedMeans:
    """Means over the seeds of a cell, each with its values in the same resamples of patients, shape (samples,)."""

    auroc: Auroc
    resampled_auroc: NDArray[np.float64]
    average_precision: float
    resampled_average_precision: NDArray[np.float64]
    log_loss: float
    resampled_log_loss: NDArray[np.float64]


def compare_best_cell(cells: Sequence[Cell]) -> tuple[Difference, ...]:
    """Compare the first cell that was evaluated on test with each later one that was, on the same images.

    The mean over a cell's seeds is compared, so that the comparison is between settings. Cells are ordered by
    validation, so that test does not select the cell it evaluates. AUROC is tested because it needs no threshold:
    thresholds come from the few patients of validation, and differ more by chance than models do.

    Args:
        cells: Best first.

    Returns:
        Nothing with fewer than two such cells, or where all test images have one label.

    Raises:
        SourceError: If trials of one training set were tested on different images.
    """
    tested = [cell for cell in cells if all(row.test for row in cell.rows)]
    evaluations = [row.test for cell in tested for row in cell.rows if row.test]
    if len({evaluation.images for evaluation in evaluations}) > 1:
        raise SourceError(
            "records of one training set were tested on different images; keep such records in separate folders"
        )
    if len(tested) < 2 or not all(evaluation.ranking for evaluation in evaluations):
        return ()
    best = _seed_means(tested[0])
    found = [_difference(tested[0], best, other, evaluations[0], len(tested) - 1) for other in tested[1:]]
    known = [each.p for each in found if each.p is not None]
    if len(known) < len(found):  # too few patients, which are the same for all
        return tuple(found)
    return tuple(replace(each, p_holm=p_holm) for each, p_holm in zip(found, holm(known), strict=True))


def _seed_means(cell: Cell) -> SeedMeans:
    evaluations = [row.test for row in cell.rows if row.test]
    rankings = [evaluation.ranking for evaluation in evaluations if evaluation.ranking]
    return SeedMeans(
        mean_over_seeds([ranking.auroc for ranking in rankings]),
        np.mean([ranking.resampled_auroc for ranking in rankings], axis=0),
        fmean(ranking.average_precision for ranking in rankings),
        np.mean([ranking.resampled_average_precision for ranking in rankings], axis=0),
        fmean(evaluation.log_loss for evaluation in evaluations),
        np.mean([evaluation.resampled_log_loss for evaluation in evaluations], axis=0),
    )


def _difference(best: Cell, first: SeedMeans, other: Cell, test: Evaluation, comparisons: int) -> Difference:
    """Return the difference of two cells, its p not yet adjusted.

    The variance of the difference in AUROC is its own; for the mean of several classes that of the resamples. Where a
    ranking is perfect in every resample, the variance that AUROC has at 1 is added.
    """
    second = _seed_means(other)
    area = first.auroc.minus(second.auroc)
    one_class = len(area.contributions) == 2
    areas = resampled_variance(first.resampled_auroc - second.resampled_auroc) + area.perfect_variance
    variance = None if one_class else areas
    precisions = resampled_variance(first.resampled_average_precision - second.resampled_average_precision)
    precisions += area.perfect_variance
    losses = resampled_variance(first.resampled_log_loss - second.resampled_log_loss)
    precision, loss = first.average_precision - second.average_precision, first.log_loss - second.log_loss
    return Difference(
        best,
        other,
        auroc=area.difference_interval(variance),
        average_precision=_interval(precision, precisions, area.degrees, area.reason),
        log_loss=_interval(loss, losses, test.patient_count - 1, too_few(test.patient_count)),
        p=area.p_value(variance),
        p_holm=None,
        test=DELONG if one_class else BOOTSTRAP,
        images=test.image_count,
        patients=test.patient_count,
        comparisons=comparisons,
    )


def _interval(difference: float, variance: float, degrees: float, reason: str) -> Interval:
    return Interval(difference, None, reason) if reason else difference_interval(difference, variance, degrees)


def describe_difference(first: Difference) -> str:
    """Return a sentence on the best cell and the next: difference in AUROC, interval, test and verdict."""
    interval = first.auroc
    leader = first.best if interval.value >= 0 else first.other
    if interval.value < 0:
        low, high = interval.ends or (0.0, 0.0)
        interval = replace(interval, value=-interval.value, ends=interval.ends and (-high, -low))
    gap, _, ends = estimate(interval, signed=True).partition(" (")
    higher = f"the AUROC of {leader.name} is higher by {gap.removeprefix('+')}"
    result = higher if interval.value else "both have the same AUROC"
    where = f"on the same {first.images:,} test images of {first.patients:,} patients"
    start = f"{first.best.name} and {first.other.name} have the lowest validation losses of the cells evaluated on test"
    if first.p is None or first.p_holm is None or interval.ends is None:
        return f"{start}; {result} {where}; {first.verdict}."
    adjusted = "" if first.comparisons == 1 else f", p (Holm, {first.comparisons} comparisons) {p_text(first.p_holm)}"
    seeds = min(len(first.best.rows), len(first.other.rows))
    scope = f"mean of {seeds} seeds each" if seeds > 1 else "one seed only: another may change the order"
    return (
        f"{start}; {result} {where} (95 % interval {ends[:-1]}; {first.test}: p {p_text(first.p)}{adjusted}). "
        f"The difference is {first.verdict}; {scope}."
    )
