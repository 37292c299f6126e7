"""Cells (trials that differ only by seed), and the differences of all pairs of them on test."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hemo.config.trial import Noun, TrainingConfig
from hemo.config.tune import settings_name, varying
from hemo.digest import digest_of
from hemo.errors import SourceError
from hemo.reporting.trial_row import Ranking, ResultOnTest, Row
from hemo.stats import SIGNIFICANCE
from hemo.stats.auroc import Auroc, mean_over_seeds
from hemo.stats.bootstrap import crossed_resamples
from hemo.stats.crossed import (
    Differences,
    Measured,
    SeedVariance,
    compact_letters,
    compare_cells,
    measured_auroc,
    measured_by_resampling,
    pair_degrees,
    seed_variance,
)
from hemo.stats.intervals import Interval, too_few
from hemo.stats.planning import Design, design_of
from hemo.trials.record import TrialRecord, metrics_of, title_of

Order = Literal["val_loss", "val_auroc"]
"""What trials and cells are ordered by: the lowest validation loss, or the highest validation AUROC."""

ORDERS: dict[Order, str] = {"val_loss": "lowest validation loss", "val_auroc": "highest validation AUROC"}
"""Order -> the first one in words."""


def order_of(records: Sequence[TrialRecord]) -> Order:
    """Return what orders the complete ones of some trials, see `order_by_losses`."""
    return order_by_losses([record.config.training for record in records if record.status == "complete"])


def order_by_losses(trainings: Sequence[TrainingConfig]) -> Order:
    """Return what orders trials that are trained so: their loss, or where they have several losses AUROC.

    The loss of an external model is `default`, as its config says: by that it is measured. Class weights are those of
    an epoch's images, so balanced in another way a class-weighted loss is another one.
    """
    return "val_auroc" if len({_measured_loss(training) for training in trainings}) > 1 else "val_loss"


def _measured_loss(training: TrainingConfig) -> tuple[str | float, ...]:
    """Return the settings that the measure of a validation loss depends on."""
    if training.loss != "class_weighted" or training.balance == "none":
        return (training.loss,)
    return training.loss, training.balance, training.balance_ratio


def place_of(record: TrialRecord, order: Order) -> float:
    """Return the value that orders a trial, less is better; infinite where it has none."""
    metrics = metrics_of(record, "val")
    return metrics.get("loss", float("inf")) if order == "val_loss" else -metrics.get("auroc", float("-inf"))


@dataclass(frozen=True, eq=False)
class Cell:
    """Trials with the same settings except the seed; at least one."""

    name: str
    rows: tuple[Row, ...]

    def values(self, split: str, metric: str) -> list[float]:
        """Return a metric of each trial that has it."""
        known = [metrics_of(row.record, split) for row in self.rows]
        return [metrics[metric] for metrics in known if metric in metrics]


@dataclass(frozen=True)
class TestedCell:
    """A cell as it did on test, the mean over its seeds."""

    __test__ = False  # no test class of pytest

    cell: Cell
    auroc: Interval  # with patients and, where their variance is known, seeds as sources of variation
    patients_error: float | None  # standard error of AUROC over patients, of these trained models
    seeds_error: float | None  # over seeds; None where not known
    borrowed: bool  # whether the variance over seeds is that of other cells alone
    letters: str  # cells that share one cannot be told apart; empty with too few patients


@dataclass(frozen=True)
class Difference:
    """Metrics on test of one cell minus those of another; only that in AUROC is tested."""

    first: TestedCell
    second: TestedCell
    auroc: Interval
    average_precision: Interval
    log_loss: Interval
    p: float | None  # two-sided; this and all below None with too few patients
    p_holm: float | None  # adjusted for the number of pairs
    not_better: float | None  # probability that the cell with the higher AUROC is not the better one
    detectable: float | None  # true difference that is found with 80 % power
    further_seeds: float | None  # of each cell to 80 % power; infinite: patients limit it; NaN: not known
    times_patients: float | None  # factor of the patients to 80 % power; infinite: seeds limit it; NaN: not known
    times_both: float | None  # factor of patients and seeds to 80 % power

    @property
    def verdict(self) -> str:
        """Whether the difference in AUROC is significant, or why that was not tested."""
        if self.p_holm is None:
            return f"not tested: {self.auroc.reason}"
        if self.p_holm < SIGNIFICANCE:
            return f"statistically significant (Holm-adjusted p < {SIGNIFICANCE})"
        return "not significant"


@dataclass(frozen=True, eq=False)
class CellComparison:
    """All pairs of the cells that were evaluated on test, in the order of the cells."""

    cells: tuple[TestedCell, ...]
    auroc: Differences
    average_precision: Differences
    log_loss: Differences
    design: Design  # variance components of the differences in AUROC
    bootstrap: Differences  # in AUROC, with the variance of a crossed bootstrap, as a check
    images: int
    patients: int
    reason: str  # why nothing is tested: too few patients; else empty
    log_loss_reason: str
    noun: Noun  # what was ranked: images or studies

    @property
    def pairs(self) -> int:
        """Number of comparisons."""
        return len(self.auroc.values)

    @cached_property
    def neighbours(self) -> list[Difference]:
        """The difference of each cell from the next."""
        return self.differences([self.auroc.index(cell, cell + 1) for cell in range(len(self.cells) - 1)])

    @property
    def from_best(self) -> list[Difference]:
        """The difference of the first cell from each other."""
        return self.differences(range(len(self.cells) - 1))

    def differences(self, pairs: Sequence[int]) -> list[Difference]:
        """Return some of the pairs, by their places in `auroc`; others are not planned, which takes long."""
        if self.reason:
            return [self._difference(pair, (None,) * 7) for pair in pairs]
        level, true, design = self.auroc.next_level, self.auroc.values[list(pairs)], self.design.of_pairs(pairs)
        columns = (
            *(column[list(pairs)] for column in (self.auroc.p, self.auroc.p_holm, self.auroc.not_better)),
            design.detectable(level),
            design.further_seeds(true, level),
            design.times_patients(true, level),
            design.times_both(true, level),
        )
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [self._difference(pair, row) for pair, row in zip(pairs, rows, strict=True)]

    def _difference(self, pair: int, tested: tuple[float | None, ...]) -> Difference:
        cells = (self.cells[self.auroc.first[pair]], self.cells[self.auroc.second[pair]])
        intervals = (
            _interval(self.auroc, pair, self.reason),
            _interval(self.average_precision, pair, self.reason),
            _interval(self.log_loss, pair, self.log_loss_reason),
        )
        return Difference(*cells, *intervals, *tested)


def _interval(differences: Differences, pair: int, reason: str) -> Interval:
    value = float(differences.values[pair])
    if reason:
        return Interval(value, None, reason)
    half = float(differences.half_widths[pair])
    return Interval(value, (value - half, value + half))


def cell_digest(record: TrialRecord) -> str:
    """Return what the trials of one cell have in common: their settings without the seed; an external model is one."""
    own = {"external": record.digest} if record.external else {"seed": 0}
    return digest_of({**record.settings, **own})


def cells_of(rows: Sequence[Row]) -> list[Cell]:
    """Return the cells of all complete trials, the one that is best by the mean of what orders them first."""
    complete = [row for row in rows if row.record.status == "complete"]
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in complete:
        groups[cell_digest(row.record)].append(row)
    trained = [row.record.config for row in complete if not row.record.external]
    settings = [key for key in varying(trained) if key != "seed"] if trained else []
    cells = [Cell(_name(group, settings), tuple(group)) for group in groups.values()]
    order = order_of([row.record for row in complete])
    return sorted(cells, key=lambda cell: fmean(place_of(row.record, order) for row in cell.rows))


def _name(rows: Sequence[Row], settings: Sequence[str]) -> str:
    """Return the trials' common name without the seed, else a name made of their settings."""
    if len(rows) == 1:
        return title_of(rows[0].record)
    names = {title_of(row.record).removesuffix(f", seed {row.record.config.seed}") for row in rows}
    if len(names) == 1:
        return names.pop()
    keys = ["model.backbone", *(key for key in settings if key != "model.backbone")]
    return settings_name(rows[0].record.config, keys)


def compare_on_test(cells: Sequence[Cell], seed: int) -> CellComparison | None:
    """Compare all pairs of the cells whose trials were all evaluated on test, on the same images.

    The mean over a cell's seeds is compared, so that the comparison is between settings. Cells are ordered by
    validation, so that test does not select the cell it evaluates. AUROC is tested because it needs no threshold:
    thresholds come from the few patients of validation, and differ more by chance than models do.

    Args:
        cells: The best on validation first.
        seed: Of the bootstrap of seeds.

    Returns:
        None where there is nothing to compare or to average: fewer than two such cells, unless one has several seeds,
        or all test images have one label.

    Raises:
        SourceError: If trials of one training set were tested on different images.
    """
    tested = [cell for cell in cells if all(row.test for row in cell.rows)]
    evaluations = [row.test for cell in tested for row in cell.rows if row.test]
    if len({evaluation.images for evaluation in evaluations}) > 1:
        raise SourceError(
            "records of one training set were tested on different images; keep such records in separate folders"
        )
    rankings = [evaluation.ranking for evaluation in evaluations if evaluation.ranking]
    if len(evaluations) < 2 or len(rankings) < len(evaluations):
        return None
    groups = np.repeat(np.arange(len(tested)), [len(cell.rows) for cell in tested])
    return _compare(tested, groups, evaluations, rankings, seed)


def _compare(
    tested: Sequence[Cell],
    groups: NDArray[np.int64],
    evaluations: Sequence[ResultOnTest],
    rankings: Sequence[Ranking],
    seed: int,
) -> CellComparison:
    """Compare cells; `groups` is the number of each trial's cell."""
    areas = [ranking.auroc for ranking in rankings]
    means = [mean_over_seeds([areas[trial] for trial in np.flatnonzero(groups == cell)]) for cell in range(len(tested))]
    patients, reason = evaluations[0].patient_count, areas[0].reason
    few = too_few(patients)
    degrees = 1.0 if reason else pair_degrees(means)
    area = _values([each.value for each in areas]) if reason else measured_auroc(areas)
    resampled = np.array([ranking.resampled_auroc for ranking in rankings])
    precisions, losses = [each.average_precision for each in rankings], [each.log_loss for each in evaluations]
    precision = _values(precisions)
    if not reason:
        resampled_precision = np.array([ranking.resampled_average_precision for ranking in rankings])
        precision = measured_by_resampling(precisions, resampled_precision, area.at_limit)
    loss = _values(losses)
    if not few:
        loss = measured_by_resampling(losses, np.array([each.resampled_log_loss for each in evaluations]))
    differences, seeds = compare_cells(area, groups, degrees), seed_variance(area, groups)
    return CellComparison(
        cells=_tested_cells(tested, means, seeds, differences, reason),
        auroc=differences,
        average_precision=compare_cells(precision, groups, degrees),
        log_loss=compare_cells(loss, groups, 1.0 if few else patients - 1.0),
        design=design_of(differences, seeds),
        bootstrap=differences if reason else _by_bootstrap(differences, area, resampled, groups, seed),
        images=evaluations[0].image_count,
        patients=patients,
        reason=reason,
        log_loss_reason=few,
        noun=tested[0].rows[0].record.config.row_noun,
    )


def _values(values: Sequence[float]) -> Measured:
    """Return a metric without variances, for which there are too few patients."""
    return Measured(np.asarray(values), np.zeros((len(values), 1)), np.zeros(len(values)))


def _by_bootstrap(
    differences: Differences, area: Measured, resampled: NDArray[np.float64], groups: NDArray[np.int64], seed: int
) -> Differences:
    """Return the differences in AUROC with variances of resampled patients and seeds."""
    means = area.means(groups)
    crossed = measured_by_resampling(means.values, crossed_resamples(resampled, groups, seed), means.at_limit)
    return compare_cells(crossed, np.arange(len(means.values)), differences.patient_degrees)


def _tested_cells(
    tested: Sequence[Cell], means: Sequence[Auroc], seeds: SeedVariance, differences: Differences, reason: str
) -> tuple[TestedCell, ...]:
    if reason:
        values = [Interval(mean.value, None, reason) for mean in means]
        return tuple(TestedCell(*each, None, None, False, "") for each in zip(tested, values, strict=True))
    alike = np.eye(len(tested), dtype=bool)
    alike[differences.first, differences.second] = ~differences.significant
    letters = compact_letters(alike | alike.T, np.argsort([-mean.value for mean in means], kind="stable").tolist())
    return tuple(
        TestedCell(
            cell=cell,
            auroc=mean.interval(float(from_seeds), float(noise), seeds.degrees),
            patients_error=float(np.sqrt(mean.variance)),
            seeds_error=float(np.sqrt(from_seeds)) if seeds.known else None,
            borrowed=seeds.known and len(cell.rows) == 1,
            letters=letter,
        )
        for cell, mean, from_seeds, noise, letter in zip(
            tested, means, seeds.of_means, seeds.noise / seeds.seeds, letters, strict=True
        )
    )
