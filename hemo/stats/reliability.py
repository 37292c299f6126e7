"""How well probabilities agree with what occurs: bins with intervals, ECE, Brier score and its parts.

Bins of equal width are closed below, with counts, as torchmetrics and the records have them: scikit-learn's
`calibration_curve` closes its bins above and returns no counts.
Trials import this module, and nothing of scikit-learn: so each of their processes starts sooner.

In a small sample even perfect probabilities have an ECE and a reliability above 0: bins differ by chance. The intervals
of the bins, and of the mean difference, show how much.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from hemo.stats import CALIBRATION_BINS
from hemo.stats.calibration import logistic_line
from hemo.stats.intervals import Interval, difference_interval, proportion_interval, squares_degrees, too_few

MOST_BINS = 10
LEAST_IMAGES_A_BIN = 20
"""Fewer images say nothing about a frequency: a smaller sample has fewer bins."""
ALMOST = 1e-15
"""Nearest that a probability comes to 0 or 1 where its logarithm is taken."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Images of neighbouring probabilities."""

    predicted: float  # mean probability
    observed: Interval  # fraction of positive images
    images: int


@dataclass(frozen=True)
class ProbabilityMetrics:
    """How far the probabilities of one class are from what occurred; `record.json` stores it."""

    images: int
    prevalence: float  # fraction of positive images
    mean_probability: float
    log_loss: float  # natural logarithms
    brier: float  # mean squared difference: reliability - resolution + uncertainty + within_bins
    reliability: float  # of the bins' mean probabilities, 0 is best
    resolution: float  # how far the bins' frequencies are from the prevalence, more is better
    uncertainty: float  # prevalence x (1 - prevalence), whatever the model
    within_bins: float  # what the parts of the bins leave out, near 0
    calibration_error: float  # ECE in bins of equal count
    calibration_error_equal_width: float  # in 15 bins of equal width, as the metric `calibration_error`


@dataclass(frozen=True, eq=False)
class EqualWidthBins:
    """Predicted probability and observed frequency in the bins that are not empty; arrays of shape (bins,)."""

    predicted: NDArray[np.float64]  # mean probability, 0 to 1
    observed: NDArray[np.float64]  # fraction of positives, 0 to 1
    counts: NDArray[np.int64]

    @property
    def calibration_error(self) -> float:
        """Expected calibration error (ECE), 0 to 1: mean |predicted - observed|, weighted by counts."""
        return float((self.counts * np.abs(self.predicted - self.observed)).sum() / self.counts.sum())


def reliability(probabilities: NDArray[np.floating], outcomes: NDArray[np.integer], bins: int) -> EqualWidthBins:
    """Return the reliability of probabilities in bins of equal width, each closed below.

    Args:
        probabilities: 0 to 1, shape (rows,).
        outcomes: 1 where the predicted event occurred, else 0, shape (rows,).
        bins: Their number.

    Source:
        Guo et al., On calibration of modern neural networks, ICML 2017, arXiv:1706.04599.
    """
    index = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    counts = np.bincount(index, minlength=bins)
    filled = counts > 0
    predicted = np.bincount(index, weights=probabilities, minlength=bins)[filled] / counts[filled]
    observed = np.bincount(index, weights=outcomes, minlength=bins)[filled] / counts[filled]
    return EqualWidthBins(predicted, observed, counts[filled])


def bin_numbers(probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the number of each image's bin, from 0 and none left out, shape (images,).

    Bins have equal counts but for equal probabilities, which stay together: at most `MOST_BINS`, and at least
    `LEAST_IMAGES_A_BIN` images in each on average.

    Args:
        probabilities: Shape (images,).
    """
    bins = max(1, min(MOST_BINS, len(probabilities) // LEAST_IMAGES_A_BIN))
    _, index, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    middle_rank = np.cumsum(counts) - counts / 2
    return np.unique((middle_rank * bins / len(probabilities)).astype(np.int64)[index], return_inverse=True)[1]


def reliability_bins(
    probabilities: NDArray[np.floating], outcomes: NDArray[np.integer], patients: NDArray[np.int64]
) -> list[ReliabilityBin]:
    """Return bins of equal count, by probability, with intervals that have patients as the unit.

    Args:
        probabilities: 0 to 1, shape (images,).
        outcomes: 1 where the predicted event occurred, else 0, shape (images,).
        patients: Of each image, shape (images,).
    """
    numbers = bin_numbers(probabilities)
    found = []
    for number in range(int(numbers.max()) + 1):
        mask = numbers == number
        observed = proportion_interval(outcomes[mask] == 1, patients[mask])
        found.append(ReliabilityBin(float(probabilities[mask].mean()), observed, int(mask.sum())))
    return found


def probability_metrics(probabilities: NDArray[np.floating], outcomes: NDArray[np.integer]) -> ProbabilityMetrics:
    """Return the metrics of one class's probabilities.

    Args:
        probabilities: 0 to 1, shape (images,), at least one.
        outcomes: 1 where the predicted event occurred, else 0, shape (images,).

    Source:
        Murphy, A new vector partition of the probability score, J. Appl. Meteorol. 12 (1973); of probabilities that
        differ within a bin, Stephenson, Coelho and Jolliffe, Two extra components in the Brier score decomposition,
        Weather Forecast. 23 (2008), whose two are `within_bins`.
    """
    wide = probabilities.astype(np.float64)
    numbers, prevalence = bin_numbers(wide), float(outcomes.mean())
    counts = np.bincount(numbers)
    predicted = np.bincount(numbers, weights=wide) / counts
    observed = np.bincount(numbers, weights=outcomes) / counts
    weights = counts / len(wide)
    brier = float(((wide - outcomes) ** 2).mean())
    reliable = float((weights * (predicted - observed) ** 2).sum())
    resolution = float((weights * (observed - prevalence) ** 2).sum())
    uncertainty = prevalence * (1 - prevalence)
    of_outcome = np.clip(np.where(outcomes == 1, wide, 1 - wide), ALMOST, 1)
    return ProbabilityMetrics(
        images=len(wide),
        prevalence=prevalence,
        mean_probability=float(wide.mean()),
        log_loss=-float(np.log(of_outcome).mean()),
        brier=brier,
        reliability=reliable,
        resolution=resolution,
        uncertainty=uncertainty,
        within_bins=brier - (reliable - resolution + uncertainty),
        calibration_error=float((weights * np.abs(predicted - observed)).sum()),
        calibration_error_equal_width=reliability(wide, outcomes, CALIBRATION_BINS).calibration_error,
    )


def mean_difference(
    probabilities: NDArray[np.floating], outcomes: NDArray[np.integer], patients: NDArray[np.int64]
) -> Interval:
    """Return mean probability minus prevalence, calibration in the large, with its interval; above 0: too high.

    Args:
        probabilities: 0 to 1, shape (images,).
        outcomes: 0 or 1, shape (images,).
        patients: Of each image, shape (images,).
    """
    numbers = np.unique(patients, return_inverse=True)[1]
    differences = probabilities - outcomes
    value, clusters = float(differences.mean()), int(numbers.max()) + 1
    if reason := too_few(clusters):
        return Interval(value, None, reason)
    squares = (np.bincount(numbers, weights=differences - value) / len(differences)) ** 2
    if not squares.any():
        return Interval(value, (value, value))
    variance = clusters / (clusters - 1) * float(squares.sum())
    return difference_interval(value, variance, min(clusters - 1, squares_degrees(squares)))


def calibration_slope(
    probabilities: NDArray[np.floating], outcomes: NDArray[np.integer], patients: NDArray[np.int64]
) -> Interval | None:
    """Return the slope of a logistic regression of the outcome on the log odds; 1 is right, below 1: too extreme.

    None where it has no limit, as one probability separates the outcomes, or where one outcome is missing.
    Probabilities nearer than `ALMOST` to 0 or 1 count as that near.

    Args:
        probabilities: 0 to 1, shape (images,).
        outcomes: 0 or 1, shape (images,).
        patients: Of each image, shape (images,).

    Source:
        Cox, Two further applications of a model for binary regression, Biometrika 45 (1958); Van Calster et al., J.
        Clin. Epidemiol. 74 (2016). Variance: Liang and Zeger, Biometrika 73 (1986), with patients as clusters.
    """
    positive = outcomes == 1
    if positive.all() or not positive.any():
        return None
    odds = logit(np.clip(probabilities.astype(np.float64), ALMOST, 1 - ALMOST))
    among, others = odds[positive], odds[~positive]
    if among.min() >= others.max() or among.max() <= others.min():
        return None  # separated: the slope is infinite; or all equal: it is any number
    slope, intercept = logistic_line(odds, outcomes.astype(np.float64))
    numbers = np.unique(patients, return_inverse=True)[1]
    counts = [len(np.unique(numbers[positive == side])) for side in (True, False)]
    if reason := too_few(int(numbers.max()) + 1, *counts):
        return Interval(slope, None, reason)
    design = np.stack([odds, np.ones(len(odds))], axis=1)
    fitted = expit(slope * odds + intercept)
    bread = np.linalg.inv(design.T @ (design * (fitted * (1 - fitted))[:, None]))
    residuals = outcomes - fitted
    sums = np.stack([np.bincount(numbers, weights=column * residuals) for column in design.T], axis=1)
    influences = np.asarray((sums @ bread)[:, 0], np.float64)
    clusters = len(influences)
    variance = clusters / (clusters - 1) * float((influences**2).sum())
    return difference_interval(slope, variance, min(clusters - 1, squares_degrees(influences**2)))
