"""95 % intervals of proportions whose images belong to patients, the words where there is none, degrees, Holm.

Images of one patient are correlated. The patient is therefore the unit: variances come from sums over patients, and
Student's t takes the place of the normal distribution, with degrees of freedom from the number of patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from hemo.stats import MIN_PATIENTS, MIN_PATIENTS_EACH, SIGNIFICANCE

FloatOrArray = float | NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95 % interval, or the reason why it has none."""

    value: float
    ends: tuple[float, float] | None
    reason: str = ""  # set where there are no ends


def too_few(patients: int, positive: int | None = None, negative: int | None = None) -> str:
    """Return why there are too few patients for an interval; empty if there are enough.

    Args:
        patients: All of them.
        positive: Those with images that show the finding; None where it does not matter.
        negative: Those with images that do not show it; None where it does not matter.
    """
    if patients < MIN_PATIENTS:
        return f"{_patients(patients)}, at least {MIN_PATIENTS} are needed"
    for count, word in ((positive, "with"), (negative, "without")):
        if count is not None and count < MIN_PATIENTS_EACH:
            return f"{_patients(count)} {word} the finding, at least {MIN_PATIENTS_EACH} are needed"
    return ""


def _patients(count: int) -> str:
    return "1 patient" if count == 1 else f"{count} patients"


def t_quantile(degrees: float) -> float:
    """Return the quantile of Student's t that leaves `SIGNIFICANCE` in both tails together."""
    return float(stdtrit(degrees, 1 - SIGNIFICANCE / 2))


def difference_interval(difference: float, variance: float, degrees: float) -> Interval:
    """Return a difference with its interval by Student's t."""
    half = t_quantile(degrees) * float(np.sqrt(variance))
    return Interval(difference, (difference - half, difference + half))


def combined_degrees(
    from_patients: FloatOrArray,
    patient_degrees: FloatOrArray,
    from_seeds: FloatOrArray,
    noise: FloatOrArray,
    seed_degrees: FloatOrArray,
) -> NDArray[np.float64]:
    """Return the degrees of freedom of a variance that is the sum of one over patients and one over seeds.

    The variance over seeds is a mean square less a noise that is known; its error is that of the mean square.

    Args:
        from_patients: Variance over patients.
        patient_degrees: Its degrees of freedom.
        from_seeds: Variance over seeds.
        noise: What was subtracted from the mean square of the seeds.
        seed_degrees: Degrees of freedom of that mean square, not 0.

    Source:
        Satterthwaite, An approximate distribution of estimates of variance components, Biometrics Bull. 2 (1946), as
        Hillis, A comparison of denominator degrees of freedom methods for multiple observer ROC analysis, Stat. Med. 26
        (2007) takes it for readers. There patients have no degrees of freedom; here they do, since they may be few.
    """
    errors = np.asarray(from_patients**2 / patient_degrees + (from_seeds + noise) ** 2 / seed_degrees)
    squared = np.asarray(from_patients + from_seeds) ** 2
    least = np.broadcast_to(np.asarray(patient_degrees, np.float64), errors.shape).copy()
    return np.asarray(np.divide(squared, errors, out=least, where=errors > 0))


def wilson(fraction: float, size: float, quantile: float) -> tuple[float, float]:
    """Return the ends of the score interval of a proportion.

    Args:
        fraction: 0 to 1.
        size: Number of independent observations, or the effective one.
        quantile: Standard errors from the value to an end, 1.96 for the normal distribution.

    Source:
        Wilson, Probable inference, the law of succession, and statistical inference, J. Am. Stat. Assoc. 22 (1927).
    """
    ratio = quantile**2 / size
    centre = (fraction + ratio / 2) / (1 + ratio)
    half = np.sqrt(ratio * fraction * (1 - fraction) + ratio**2 / 4) / (1 + ratio)
    return (0.0 if fraction == 0 else float(centre - half)), (1.0 if fraction == 1 else float(centre + half))


def squares_degrees(squares: NDArray[np.float64]) -> float:
    """Return the degrees of freedom of a variance that is a sum of one square a patient, from the squares' own spread.

    Few where few patients carry the sum; infinite where all squares are equal.

    Args:
        squares: Shape (patients,), not all 0.

    Source:
        Pan and Wall, Small-sample adjustments in using the sandwich variance estimator in generalized estimating
        equations, Stat. Med. 21 (2002): the scaled chi-square with the same mean and variance.
    """
    variance = float(squares.var(ddof=1)) * len(squares)
    return 2 * float(squares.sum()) ** 2 / variance if variance else np.inf


def proportion_interval(hits: NDArray[np.bool_ | np.floating], patients: NDArray[np.int64]) -> Interval:
    """Return the fraction of hits with Wilson's interval at the effective sample size.

    Args:
        hits: Shape (observations,), at least one; several of an image where it has several classes. Means of several
            models, from 0 to 1, vary less than hits do: the interval is then too long rather than too short.
        patients: Number of each one's patient, shape (observations,).

    Source:
        Korn and Graubard, Confidence intervals for proportions with small expected number of positive counts estimated
        from survey data, Survey Methodology 24 (1998).
    """
    return _score_interval(hits, patients, too_few(patient_count(patients)))


def rate_interval(
    hits: NDArray[np.bool_], labels: NDArray[np.integer], patients: NDArray[np.int64], label: int
) -> Interval | None:
    """Return the fraction of hits among the images with one label, as `proportion_interval`; None without such images.

    Args:
        hits: Shape (images,).
        labels: 0 or 1, shape (images,).
        patients: Of each image, shape (images,).
        label: 1 for recall, 0 for specificity.
    """
    mask = labels == label
    if not mask.any():
        return None
    counts = {"positive" if label else "negative": patient_count(patients[mask])}
    return _score_interval(hits[mask], patients[mask], too_few(patient_count(patients), **counts))


def patient_count(patients: NDArray[np.int64]) -> int:
    """Return how many patients there are; `patients` holds the number of each image's, 0 or more."""
    return int(np.count_nonzero(np.bincount(patients)))


def _renumbered(patients: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers of patients from 0 with none left out, in the same order; faster than by sorting them."""
    return np.asarray((np.cumsum(np.bincount(patients) > 0) - 1)[patients])


def _score_interval(hits: NDArray[np.bool_ | np.floating], patients: NDArray[np.int64], reason: str) -> Interval:
    fraction = float(hits.mean())
    if reason:
        return Interval(fraction, None, reason)
    size, degrees = effective_size(hits, _renumbered(patients))
    return Interval(fraction, wilson(fraction, size, t_quantile(degrees)))


def effective_size(hits: NDArray[np.bool_ | np.floating], patients: NDArray[np.int64]) -> tuple[float, float]:
    """Return the number of independent observations whose fraction would vary as much as this one, and the degrees.

    The number is that of the observations over the design effect: the variance between patients, by leaving each of
    them out, over the binomial one. The design effect is taken as 1 at least, as images of one patient do not differ
    more than those of several. At no hit or only hits it is undefined: then the number is that of patients. The degrees
    of freedom of Student's t are those of that variance, at most the number of patients less one.

    Args:
        hits: Shape (observations,).
        patients: Of each, from 0 and none left out, two at least, shape (observations,).

    Source:
        Kish, Survey Sampling (1965), for the design effect. Mancl and DeRouen, A covariance estimator for GEE with
        improved small-sample properties, Biometrics 57 (2001), for the variance.
    """
    count, clusters, fraction = len(hits), int(patients.max()) + 1, float(hits.mean())
    binomial = fraction * (1 - fraction) / count
    if binomial == 0:
        return float(clusters), float(clusters - 1)
    squares = _left_out(hits, patients) ** 2
    variance = (clusters - 1) / clusters * float(squares.sum())
    return count / max(1.0, variance / binomial), min(clusters - 1, squares_degrees(squares))


def _left_out(hits: NDArray[np.bool_ | np.floating], patients: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return by how much the fraction of hits falls if each patient is left out, shape (patients,)."""
    sums = np.bincount(patients, weights=hits - hits.mean())
    return np.asarray(sums / (len(hits) - np.bincount(patients)))


def balanced_accuracy_interval(
    predicted: NDArray[np.bool_], labels: NDArray[np.integer], patients: NDArray[np.int64]
) -> Interval | None:
    """Return the mean of recall and specificity with its interval, of several classes over those with both labels.

    The limits of the mean are recovered from those of recall and specificity, which do not collapse at 1, and from the
    correlations between patients.

    Args:
        predicted: Shape (images, classes).
        labels: 0 or 1, shape (images, classes).
        patients: Of each image, from 0 and none left out, shape (images,).

    Returns:
        None where no class has both labels.

    Source:
        Zou, On the estimation of additive interaction by use of the four-by-two table and beyond, Am. J. Epidemiol. 168
        (2008): variance estimates recovery (MOVER).
    """
    sides = [
        (predicted[:, k] == label, labels[:, k], label)
        for k in range(labels.shape[1])
        if 0 < labels[:, k].sum() < len(labels)
        for label in (1, 0)
    ]
    parts = [part for hits, truth, label in sides if (part := rate_interval(hits, truth, patients, label))]
    if not parts:
        return None
    value = float(np.mean([part.value for part in parts]))
    if reason := next((part.reason for part in parts if part.reason), ""):
        return Interval(value, None, reason)
    count = int(patients.max()) + 1
    residuals = [
        np.bincount(patients, weights=(truth == label) * (hits - part.value), minlength=count)
        for part, (hits, truth, label) in zip(parts, sides, strict=True)
    ]
    lengths = np.linalg.norm(residuals, axis=1)
    unit = np.divide(residuals, lengths[:, None], out=np.zeros((len(parts), count)), where=lengths[:, None] > 0)
    correlation = unit @ unit.T
    np.fill_diagonal(correlation, 1)
    below, above = np.array([[part.value - part.ends[0], part.ends[1] - part.value] for part in parts if part.ends]).T
    # where sides cancel, rounding may leave a variance below 0
    ends = [float(np.sqrt(max(0.0, gaps @ correlation @ gaps))) / len(parts) for gaps in (below, above)]
    return Interval(value, (max(0.0, value - ends[0]), min(1.0, value + ends[1])))


def patient_correlation(
    predicted: NDArray[np.bool_], labels: NDArray[np.integer], patients: NDArray[np.int64]
) -> float:
    """Return the correlation of sensitivity and specificity: 0 unless patients have images with and without a finding.

    Args:
        predicted: Shape (images,).
        labels: 0 or 1, both present, shape (images,).
        patients: Of each image, shape (images,).
    """
    numbers = _renumbered(patients)
    residuals = []
    for label in (1, 0):
        hits = predicted == label
        residuals.append(np.bincount(numbers, weights=(labels == label) * (hits - hits[labels == label].mean())))
    lengths = np.linalg.norm(residuals, axis=1)
    return float(residuals[0] @ residuals[1] / lengths.prod()) if lengths.all() else 0.0


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values adjusted for multiple comparisons, in the order of `p_values`, shape (comparisons,).

    The smallest is multiplied by their number, the next by one less, and so on; none is less than a smaller one's.

    Source:
        Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6 (1979).
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(order))
    multiplied = np.minimum(1.0, p_values[order] * np.arange(len(order), 0, -1))
    adjusted[order] = np.maximum.accumulate(multiplied)
    return adjusted


def unpaired_difference(first: Interval, second: Interval, by_seed: Sequence[float] = ()) -> Interval:
    """Return one metric minus another of other patients, with the interval recovered from theirs.

    The limits of both do not pass 0 and 1 and need not be symmetric; neither does that of the difference collapse where
    one of them is perfect.

    Args:
        first: With its interval.
        second: Of patients that are none of the first ones.
        by_seed: The difference of each training with another seed, where `first` and `second` are means over them: the
            variance of their mean is added, by Student's t.

    Source:
        Newcombe, Interval estimation for the difference between independent proportions, Stat. Med. 17 (1998), method
        10. Zou and Donner, Construction of confidence limits about effect measures: a general approach, Stat. Med. 27
        (2008): MOVER, for any two independent estimates.
    """
    difference = first.value - second.value
    if first.ends is None or second.ends is None:
        return Interval(difference, None, first.reason or second.reason)
    seeds = len(by_seed)
    spread = t_quantile(seeds - 1) ** 2 * float(np.var(by_seed, ddof=1)) / seeds if seeds > 1 else 0.0
    below = (first.value - first.ends[0]) ** 2 + (second.ends[1] - second.value) ** 2 + spread
    above = (first.ends[1] - first.value) ** 2 + (second.value - second.ends[0]) ** 2 + spread
    return Interval(difference, (difference - float(np.sqrt(below)), difference + float(np.sqrt(above))))
