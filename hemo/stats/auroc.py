"""AUROC of images that belong to patients: its variance and interval, and what each patient contributes to it.

AUROC is the fraction of pairs of a positive and a negative image in which the positive one has the higher score, ties
counted half. How often an image wins its pairs comes from ranks, so that time grows as n log n. Summed by patient,
these fractions give the variance of AUROC where images of one patient are correlated.

Sources:
    Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 143 (1982).
    DeLong, DeLong and Clarke-Pearson, Comparing the areas under two or more correlated receiver operating
    characteristic curves: a nonparametric approach, Biometrics 44 (1988).
    Obuchowski, Nonparametric analysis of clustered ROC curve data, Biometrics 53 (1997).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hemo.stats.intervals import Interval, combined_degrees, squares_degrees, t_quantile, too_few

BISECTIONS = 60
"""Halvings of 0 to 1 in the search of a limit, beyond double precision."""


@dataclass(frozen=True, eq=False)
class Auroc:
    """AUROC, or its mean over classes or seeds, with what each patient contributes to it.

    A class has two rows: its positive images and its negative ones.
    """

    value: float
    contributions: NDArray[np.float64]  # (rows, patients), each row has mean 0
    fractions: NDArray[np.float64]  # (rows, patients): of the row's images those of the patient, each row has sum 1
    perfect_variance: float = 0.0  # of classes at AUROC 0 or 1, where all contributions are 0

    @property
    def patients_each(self) -> NDArray[np.int64]:
        """Patients that have images of a row, shape (rows,)."""
        return np.asarray(np.count_nonzero(self.fractions, axis=1))

    @property
    def reason(self) -> str:
        """Why there are too few patients for an interval or a test; empty if there are enough."""
        positive, negative = self.patients_each[0::2].min(), self.patients_each[1::2].min()
        return too_few(self.contributions.shape[1], int(positive), int(negative))

    @property
    def left_out(self) -> NDArray[np.float64]:
        """By how much the value changes, near enough, if each patient is left out, shape (patients,)."""
        return np.asarray((self.contributions / (1 - self.fractions)).sum(axis=0))

    @property
    def variance(self) -> float:
        """Obuchowski's variance `S10 / M + S01 / N + 2 S11 / (M N)` with each patient left out in turn.

        Leaving out makes it larger where few patients have many of the positives: they carry the value as well.

        Source:
            Mancl and DeRouen, A covariance estimator for GEE with improved small-sample properties, Biometrics 57
            (2001).
        """
        squares, patients = self.left_out**2, self.contributions.shape[1]
        return float((patients - 1) / patients * squares.sum()) + self.perfect_variance

    @property
    def degrees(self) -> float:
        """Degrees of freedom of Student's t, of a sum of independent variances, one a row.

        Source:
            Brunner and Munzel, The nonparametric Behrens-Fisher problem, Biom. J. 42 (2000).
        """
        squares, freedom = (self.contributions**2).sum(axis=1), self.patients_each - 1
        return float(squares.sum() ** 2 / (squares**2 / freedom).sum()) if squares.any() else float(freedom.min())

    def interval(self, from_seeds: float = 0.0, noise: float = 0.0, seed_degrees: float = 0.0) -> Interval:
        """Return the value with its interval on the scale of the logit, which does not pass 0 and 1.

        Few patients carry the variance where AUROC is high or positives are rare. The degrees of freedom are therefore
        those of `squares_degrees`, if fewer. At 0 and 1 see `perfect_limit`.

        Args:
            from_seeds: Variance over seeds of a mean over seeds, see `hemo.stats.crossed`; 0 where it is not known.
            noise: Part of the variance over patients in which the seeds differ.
            seed_degrees: Degrees of freedom of `from_seeds`.

        Source:
            Pepe, The Statistical Evaluation of Medical Tests (2003), section 5.2: the logit.
        """
        value = self.value
        if self.reason:
            return Interval(value, None, self.reason)
        variance, degrees = self.variance, min(self.degrees, squares_degrees(self.left_out**2))
        if seed_degrees:
            degrees = float(combined_degrees(variance, degrees, from_seeds, noise, seed_degrees))
        half = t_quantile(degrees) * float(np.sqrt(variance + from_seeds))
        if value in (0, 1):
            return Interval(value, (max(0.0, value - half), min(1.0, value + half)))
        odds, factor = value / (1 - value), float(np.exp(half / (value * (1 - value))))
        return Interval(value, (odds / (odds + factor), odds / (odds + 1 / factor)))


def auroc(scores: NDArray[np.floating], labels: NDArray[np.integer], patients: NDArray[np.int64]) -> Auroc | None:
    """Return the mean AUROC over the classes with both labels; None without one.

    Args:
        scores: Higher is more likely positive, shape (images, classes).
        labels: 0 or 1, shape (images, classes).
        patients: Of each image, from 0 and none left out, shape (images,).
    """
    classes = [k for k in range(labels.shape[1]) if 0 < labels[:, k].sum() < len(labels)]
    if not classes:
        return None
    count = int(patients.max()) + 1
    parts = [_of_class(scores[:, k], labels[:, k] == 1, patients, count) for k in classes]
    return Auroc(
        float(np.mean([part.value for part in parts])),
        np.concatenate([part.contributions for part in parts]) / len(parts),
        np.concatenate([part.fractions for part in parts]),
        sum(part.perfect_variance for part in parts) / len(parts) ** 2,
    )


def mean_over_seeds(seeds: Sequence[Auroc]) -> Auroc:
    """Return the mean of AUROCs of the same images."""
    return Auroc(
        float(np.mean([each.value for each in seeds])),
        np.mean([each.contributions for each in seeds], axis=0),
        seeds[0].fractions,
        float(np.mean([each.perfect_variance for each in seeds])),
    )


def _of_class(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], patients: NDArray[np.int64], count: int
) -> Auroc:
    """Return the AUROC of one class; arrays of shape (images,), both labels present."""
    above, below = scores[positive], scores[~positive]
    won = (_wins(above, below), 1 - _wins(below, above))  # V10 and V01: of a positive, of a negative
    value = float(won[0].mean())
    sides = (patients[positive], patients[~positive])
    fractions = np.array([np.bincount(side, minlength=count) / len(side) for side in sides])
    sums = np.array([np.bincount(side, share, count) / len(side) for side, share in zip(sides, won, strict=True)])
    perfect = _perfect_variance(*map(int, np.count_nonzero(fractions, axis=1))) if value in (0, 1) else 0.0
    return Auroc(value, sums - value * fractions, fractions, perfect)


def _wins(scores: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return of each score the fraction of `others` below it, equal ones counted half."""
    ordered = np.sort(others)
    below, up_to = np.searchsorted(ordered, scores, "left"), np.searchsorted(ordered, scores, "right")
    return np.asarray((below + up_to) / (2 * len(others)))


def _perfect_variance(positive: int, negative: int) -> float:
    """Return the variance whose interval, of as many degrees of freedom as patients allow, ends at `perfect_limit`."""
    freedom = min(positive, negative) - 1
    return ((1 - perfect_limit(positive, negative)) / t_quantile(freedom)) ** 2 if freedom else 0.0


def perfect_limit(positive: int, negative: int) -> float:
    """Return the lower limit of an AUROC of 1: the score limit with each patient counted once.

    It is the area whose standard error, by the formula of Hanley and McNeil, reaches 1 in 1.96 steps. The number of
    patients takes the place of that of images, as in the interval of a proportion where all images are hits.

    Args:
        positive: Patients with images that show the finding, at least one.
        negative: Patients with images that do not.

    Source:
        Newcombe, Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2, Stat.
        Med. 25 (2006), method 5.
    """
    low, high, larger = 0.0, 1.0, (positive + negative) / 2 - 1
    reach = t_quantile(np.inf) ** 2 / (positive * negative)
    for _ in range(BISECTIONS):
        area = (low + high) / 2
        variance = area * (1 - area) * (1 + larger * ((1 - area) / (2 - area) + area / (1 + area)))
        low, high = (low, area) if (1 - area) ** 2 <= reach * variance else (area, high)
    return high
