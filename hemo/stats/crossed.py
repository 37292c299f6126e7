"""Metrics of cells that were trained from several seeds: variances over patients and over seeds, and all differences.

Every trained model scores every patient: patients are crossed with models, and seeds are nested in their cell, because
one seed gives two cells different models. The variance of the difference of two cells has therefore two parts: over
patients, for these trained models, and over the seeds of both. What the seeds of a cell differ by on these patients is
partly chance of these patients; that part is subtracted before it counts as variance over seeds.

Sources:
    Obuchowski and Rockette, Hypothesis testing of diagnostic accuracy for multiple readers and multiple tests: an ANOVA
    approach with dependent observations, Commun. Stat. Simul. Comput. 24 (1995): seeds are their readers.
    Hillis, A marginal-mean ANOVA approach for analyzing multireader multicase radiological imaging data, Stat. Med. 33
    (2014): readers nested in treatments, degrees of freedom.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from string import ascii_lowercase

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from scipy.special import stdtr, stdtrit

from hemo.stats import SIGNIFICANCE
from hemo.stats.auroc import Auroc
from hemo.stats.intervals import combined_degrees, holm

Floats = NDArray[np.float64]
ROUNDING = 1e-12
"""Differences of means below it are 0: those of equal metrics differ by rounding, and so does their variance."""


@dataclass(frozen=True, eq=False)
class Measured:
    """A metric of models on the same patients, and how it depends on which patients they are."""

    values: Floats  # (models,)
    deviations: Floats  # (models, any): the product of two rows is the covariance of their values over patients
    at_limit: Floats  # (models,): variance over patients that deviations lack, of an AUROC of 0 or 1

    def means(self, cells: NDArray[np.int64]) -> "Measured":
        """Return the mean over the models of each cell; `cells` as `compare_cells` takes them."""
        weights = (np.arange(cells.max() + 1)[:, None] == cells).astype(np.float64)
        weights /= weights.sum(axis=1, keepdims=True)
        return Measured(weights @ self.values, weights @ self.deviations, weights @ self.at_limit)

    @property
    def variances(self) -> Floats:
        """Variance of each value over patients, shape (models,)."""
        return np.asarray((self.deviations**2).sum(axis=1) + self.at_limit)


def measured_auroc(models: Sequence[Auroc]) -> Measured:
    """Return the AUROC of models of the same images, with the variance of `hemo.stats.auroc`."""
    left_out = np.array([model.left_out for model in models])
    patients = left_out.shape[1]
    return Measured(
        np.array([model.value for model in models]),
        left_out * np.sqrt((patients - 1) / patients),
        np.array([model.perfect_variance for model in models]),
    )


def measured_by_resampling(
    values: Sequence[float] | Floats, resampled: Floats, at_limit: Floats | None = None
) -> Measured:
    """Return a metric whose variance over patients comes from resamples, shape (models, samples), same for all models.

    Those in which the metric is not defined are left out.
    """
    defined = resampled[:, ~np.isnan(resampled).any(axis=0)]
    deviations = (defined - defined.mean(axis=1, keepdims=True)) / np.sqrt(defined.shape[1] - 1)
    return Measured(np.asarray(values), deviations, np.zeros(len(values)) if at_limit is None else at_limit)


@dataclass(frozen=True, eq=False)
class SeedVariance:
    """Variance of a metric between models of one cell that differ by seed, on all patients there are."""

    seeds: NDArray[np.int64]  # (cells,)
    own: Floats  # (cells,): of each cell, below 0 by chance; of a cell with one seed the pooled one
    noise: Floats  # (cells,): variance between seeds because these patients are a sample, pooled as `own`
    pooled: float  # over cells with several seeds, at least 0; NaN if there is none
    degrees: float  # of freedom of `pooled`; 0 if there is none

    @property
    def known(self) -> bool:
        """Whether any cell has several seeds."""
        return self.degrees > 0

    @property
    def of_means(self) -> Floats:
        """Variance over seeds of the mean of each cell, the larger of its own and the pooled; 0 where it is not known.

        Shape (cells,). A cell whose seeds differ more than those of others keeps that; one whose few seeds agree is not
        trusted more.
        """
        return np.maximum(self.pooled, self.own) / self.seeds if self.known else np.zeros(len(self.seeds))

    def of_differences(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> Floats:
        """Return the variance over seeds of differences of means, the larger of the pair's own and the pooled."""
        if not self.known:
            return np.zeros(len(first))
        pooled = self.pooled * (1 / self.seeds[first] + 1 / self.seeds[second])
        own = self.own[first] / self.seeds[first] + self.own[second] / self.seeds[second]
        return np.maximum(pooled, own)


def seed_variance(measured: Measured, cells: NDArray[np.int64]) -> SeedVariance:
    """Estimate the variance over seeds, corrected for the patients being a sample.

    `cells` are as `compare_cells` takes them. The degrees of freedom are fewer than those of all cells together where
    few cells make up most of the variance.

    Source:
        Welch, The generalization of Student's problem when several different population variances are involved,
        Biometrika 34 (1947): degrees of freedom of a sum of variances with few degrees each.
    """
    seeds = np.bincount(cells)
    freedom = seeds - 1
    means = measured.means(cells)
    squares = (measured.values - means.values[cells]) ** 2
    noise_squares = ((measured.deviations - means.deviations[cells]) ** 2).sum(axis=1)
    total, noise_total = np.bincount(cells, squares), np.bincount(cells, noise_squares)
    if not freedom.any():
        unknown = np.full(len(seeds), np.nan)
        return SeedVariance(seeds, unknown, np.zeros(len(seeds)), np.nan, 0.0)
    several = freedom > 0
    pooled_noise = noise_total.sum() / freedom.sum()
    pooled = max(0.0, total.sum() / freedom.sum() - pooled_noise)
    divisor = np.maximum(freedom, 1)
    own = np.where(several, (total - noise_total) / divisor, pooled)
    noise = np.where(several, noise_total / divisor, pooled_noise)
    parts = (total[several] ** 2 / (freedom[several] + 2)).sum()
    degrees = min(float(freedom.sum()), total.sum() ** 2 / parts - 2) if parts else float(freedom.sum())
    return SeedVariance(seeds, own, noise, pooled, degrees)


@dataclass(frozen=True, eq=False)
class Differences:
    """The first cell's metric minus the second's, for all pairs in the order (0, 1), (0, 2), ..., (1, 2), ...

    All arrays have the shape (pairs,).
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    values: Floats
    from_patients: Floats  # variance over patients, of these trained models
    from_seeds: Floats  # variance over seeds; 0 where it is not known
    noise: Floats  # part of `from_patients` in which the seeds of a cell differ: more seeds reduce it as well
    patient_degrees: Floats  # degrees of freedom of `from_patients`
    seed_degrees: float  # of `from_seeds`, 0 where it is not known

    @cached_property
    def variances(self) -> Floats:
        """Variance over patients and seeds."""
        return self.from_patients + self.from_seeds

    @cached_property
    def degrees(self) -> Floats:
        """Degrees of freedom of the sum of both parts."""
        if not self.seed_degrees:
            return self.patient_degrees
        return combined_degrees(
            self.from_patients, self.patient_degrees, self.from_seeds, self.noise, self.seed_degrees
        )

    @cached_property
    def half_widths(self) -> Floats:
        """Half the length of 95 % intervals."""
        return np.asarray(stdtrit(self.degrees, 1 - SIGNIFICANCE / 2) * np.sqrt(self.variances))

    @cached_property
    def p(self) -> Floats:
        """Two-sided p-values by Student's t; 1 for a difference of 0, whatever its variance."""
        errors = np.sqrt(self.variances)
        ratios = np.divide(-np.abs(self.values), errors, out=np.full(len(errors), -np.inf), where=errors > 0)
        return np.where(self.values == 0, 1.0, 2 * stdtr(self.degrees, ratios))

    @cached_property
    def p_holm(self) -> Floats:
        """p-values adjusted by Holm's method for the number of pairs."""
        return holm(self.p)

    @cached_property
    def not_better(self) -> Floats:
        """Probability, 0 to 0.5, that the cell with the better value is not the better one.

        It is P(true difference <= 0) where nothing was known about the difference before (a flat prior), which is half
        of the two-sided p-value.
        """
        return self.p / 2

    @cached_property
    def significant(self) -> NDArray[np.bool_]:
        """Whether the Holm-adjusted p-value is significant."""
        return np.asarray(self.p_holm < SIGNIFICANCE)

    @property
    def next_level(self) -> float:
        """Level that Holm's method has for the next pair: `SIGNIFICANCE` over the number of pairs not significant."""
        return SIGNIFICANCE / max(1, int((~self.significant).sum()))

    def index(self, first: int, second: int) -> int:
        """Return the place of a pair of cells, `first` < `second`."""
        cells = int(self.second[-1]) + 1
        return first * cells - first * (first + 1) // 2 + second - first - 1


def compare_cells(measured: Measured, cells: NDArray[np.int64], patient_degrees: Floats | float) -> Differences:
    """Compare the means of all pairs of cells.

    Args:
        measured: Metric of all models.
        cells: Number of each model's cell, from 0 and none left out, two at least, shape (models,).
        patient_degrees: Degrees of freedom of the variance over patients, of each pair or of all.
    """
    seeds, means = seed_variance(measured, cells), measured.means(cells)
    first, second = np.triu_indices(len(means.values), 1)
    values = means.values[first] - means.values[second]
    from_patients = pdist(means.deviations, "sqeuclidean") + means.at_limit[first] + means.at_limit[second]
    noise = seeds.noise[first] / seeds.seeds[first] + seeds.noise[second] / seeds.seeds[second]
    return Differences(
        first,
        second,
        np.where(np.abs(values) < ROUNDING, 0.0, values),
        from_patients,
        seeds.of_differences(first, second),
        noise,
        np.broadcast_to(np.asarray(patient_degrees, np.float64), len(first)),
        seeds.degrees,
    )


def pair_degrees(cells: Sequence[Auroc]) -> Floats:
    """Return `Auroc.degrees` for the difference of each pair of cells, in the order of `Differences`."""
    rows = len(cells[0].contributions)
    squares = np.array([pdist([cell.contributions[row] for cell in cells], "sqeuclidean") for row in range(rows)])
    freedom = cells[0].patients_each[:, None] - 1
    parts = (squares**2 / freedom).sum(axis=0)
    least = np.full(squares.shape[1], float(freedom.min()))
    return np.asarray(np.divide(squares.sum(axis=0) ** 2, parts, out=least, where=parts > 0))


def compact_letters(alike: NDArray[np.bool_], order: Sequence[int]) -> list[str]:
    """Return the letters of each cell: two cells share one if and only if they are alike.

    A letter is a group of cells that are all alike. Groups are added until every pair that is alike is in one, and
    those that the others make superfluous are dropped. Letters are named in the order in which cells have them; past
    `z` come `aa`, `ab`, ..., and a space then separates them.

    Args:
        alike: Whether two cells cannot be told apart, symmetric, true on the diagonal, shape (cells, cells).
        order: The cells by their value: groups of neighbours in this order need the fewest letters.

    Source:
        Piepho, An algorithm for a letter-based representation of all-pairwise comparisons, J. Comput. Graph. Stat. 13
        (2004), for the display; groups are found greedily, since all of them can be very many.
    """
    covered = ~alike
    groups: list[NDArray[np.int64]] = []
    for place, cell in enumerate(order):
        onwards = [*order[place:], *order[:place]]
        for other in onwards:
            if not covered[cell, other]:
                group = _grown([cell, other], alike, onwards)
                covered[np.ix_(group, group)] = True
                groups.append(group)
    needed = _needed(groups, alike)
    names = [_letter_name(number) for number in range(len(needed))]
    named = zip(names, sorted(needed, key=lambda group: sorted(group)), strict=True)
    members = [(name, set(group.tolist())) for name, group in named]
    separator = " " if len(names) > len(ascii_lowercase) else ""
    return [separator.join(name for name, group in members if cell in group) for cell in range(len(alike))]


def _grown(group: list[int], alike: NDArray[np.bool_], candidates: Sequence[int]) -> NDArray[np.int64]:
    """Return a group with all candidates that are alike to each of it, in their order."""
    fitting = np.asarray(alike[group].all(axis=0))
    grown = set(group)
    for candidate in candidates:
        if fitting[candidate]:
            grown.add(candidate)
            fitting &= alike[candidate]
    return np.array(sorted(grown))


def _needed(groups: Sequence[NDArray[np.int64]], alike: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Return the groups without those whose pairs are all in others."""
    times = np.zeros(alike.shape, np.int64)
    for group in groups:
        times[np.ix_(group, group)] += 1
    needed = []
    for group in groups:
        pairs = np.ix_(group, group)
        if (times[pairs] > 1).all():
            times[pairs] -= 1
        else:
            needed.append(group)
    return needed


def _letter_name(number: int) -> str:
    name, rest = "", number + 1
    while rest:
        rest, letter = divmod(rest - 1, len(ascii_lowercase))
        name = ascii_lowercase[letter] + name
    return name
