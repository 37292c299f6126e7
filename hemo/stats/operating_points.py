"""Operating points: thresholds chosen by a named rule, and what a threshold is worth at a prevalence.

The prevalence is taken as known: intervals cover the sampling of patients with and without the finding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from hemo.stats.choices import OperatingPoint
from hemo.stats.intervals import Interval, patient_correlation, rate_interval

ALMOST = 1e-7
"""A float32 probability nearer to 0 or 1 cannot be told from it."""


def choose_threshold(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], point: OperatingPoint
) -> float | None:
    """Return the threshold of an operating point, above which a class is predicted; None without both labels.

    `balanced_accuracy`: the highest (sensitivity + specificity) / 2. `sensitivity`: of the thresholds that reach it,
    the one with the highest specificity; `specificity` likewise. `cost_ratio`: the lowest cost of the errors, at the
    prevalence of these images. Thresholds lie half way, in log odds, between neighbouring probabilities; of equally
    good ones the one in the widest gap is taken. So a calibration that is a line in log odds moves thresholds and
    probabilities together, and decisions stay.

    Args:
        probabilities: (images,), 0..1, of the validation split.
        labels: (images,), 0 or 1.
        point: The rule.

    Source:
        Youden, Index for rating diagnostic tests, Cancer 3 (1950): balanced accuracy has the maximum of his J.
    """
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return None
    values, index = np.unique(probabilities.astype(np.float64), return_inverse=True)
    positives_at = np.bincount(index, weights=labels, minlength=len(values))
    sensitivity = 1 - np.concatenate([[0], np.cumsum(positives_at)]) / positives
    specificity = np.concatenate([[0], np.cumsum(np.bincount(index) - positives_at)]) / negatives
    cuts, gaps = _cuts(values)
    if values[0] == 0:  # no threshold within 0..1 predicts the class for all images
        cuts, gaps, sensitivity, specificity = (each[1:] for each in (cuts, gaps, sensitivity, specificity))
    best = np.arange(len(cuts))
    for criterion in _criteria(point, sensitivity, specificity, positives, negatives):
        rounded = np.round(criterion[best], 12)  # equal ones tie whatever the rounding
        best = best[rounded == rounded.max()]
    return float(cuts[best[np.argmax(gaps[best])]])


def _cuts(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return thresholds below, between and above sorted probabilities, and the gap, in log odds, each lies in.

    The two at the ends have a gap of 0: they are the last resort.
    """
    clipped = logit(np.clip(values, ALMOST, 1 - ALMOST))
    middles = np.where(
        (values[:-1] <= ALMOST) | (values[1:] >= 1 - ALMOST),
        (values[:-1] + values[1:]) / 2,
        expit((clipped[:-1] + clipped[1:]) / 2),
    )
    cuts = np.concatenate([[values[0] / 2], middles, [(values[-1] + 1) / 2]])
    return cuts, np.concatenate([[0], np.diff(clipped), [0]])


def _criteria(
    point: OperatingPoint,
    sensitivity: NDArray[np.float64],
    specificity: NDArray[np.float64],
    positives: int,
    negatives: int,
) -> list[NDArray[np.float64]]:
    """Return what a threshold shall have most of; the next one decides between those that are equal in the first."""
    if point.rule == "sensitivity":
        return [np.minimum(sensitivity, point.value), specificity, sensitivity]
    if point.rule == "specificity":
        return [np.minimum(specificity, point.value), sensitivity, specificity]
    if point.rule == "cost_ratio":
        return [-(point.value * positives * (1 - sensitivity) + negatives * (1 - specificity))]
    return [(sensitivity + specificity) / 2]


@dataclass(frozen=True)
class ThresholdRates:
    """What predictions at a threshold are worth, each with its interval."""

    sensitivity: Interval
    specificity: Interval
    ppv: Interval | None  # positive predictive value at the prevalence; None where nothing is predicted
    npv: Interval | None  # negative predictive value; None where everything is predicted


def threshold_rates(
    predicted: NDArray[np.bool_], labels: NDArray[np.integer], patients: NDArray[np.int64], prevalence: float
) -> ThresholdRates | None:
    """Return sensitivity, specificity and predictive values, with intervals that have patients as the unit.

    Args:
        predicted: Shape (images,).
        labels: 0 or 1, shape (images,).
        patients: Of each image, shape (images,).
        prevalence: Where the predictions are to be used, between 0 and 1.

    Returns:
        None without both labels.
    """
    sides = [rate_interval(predicted == label, labels, patients, label) for label in (1, 0)]
    sensitivity, specificity = sides
    if sensitivity is None or specificity is None:
        return None
    opposite = -patient_correlation(predicted, labels, patients)
    odds = prevalence / (1 - prevalence)
    return ThresholdRates(
        sensitivity,
        specificity,
        _predictive_value(odds, sensitivity, _complement(specificity), opposite),
        _predictive_value(1 / odds, specificity, _complement(sensitivity), opposite),
    )


def _complement(interval: Interval) -> Interval:
    ends = interval.ends and (1 - interval.ends[1], 1 - interval.ends[0])
    return Interval(1 - interval.value, ends, interval.reason)


def _predictive_value(odds: float, right: Interval, wrong: Interval, correlation: float) -> Interval | None:
    """Return right x odds / (right x odds + wrong), which rises with the ratio of the two rates."""
    if right.value == 0 and wrong.value == 0:
        return None
    value = right.value * odds / (right.value * odds + wrong.value)
    if right.ends is None or wrong.ends is None:
        return Interval(value, None, right.reason or wrong.reason)
    low, high = ratio_interval(right, wrong, correlation)
    return Interval(value, (low * odds / (low * odds + 1), 1.0 if np.isinf(high) else high * odds / (high * odds + 1)))


def ratio_interval(numerator: Interval, denominator: Interval, correlation: float) -> tuple[float, float]:
    """Return the ends of the interval of a ratio of two rates, the upper one infinite where the lower rate may be 0.

    They are the ratios R at which the interval of numerator - R x denominator ends at 0.

    Args:
        numerator: With ends.
        denominator: With ends.
        correlation: Of the two estimates, -1 to 1.

    Source:
        Donner and Zou, Closed-form confidence intervals for functions of the normal mean and standard deviation, Stat.
        Methods Med. Res. 21 (2012): variance estimates recovery (MOVER) for a ratio.
    """
    assert numerator.ends
    assert denominator.ends
    top, bottom = numerator.value, denominator.value
    (low_top, high_top), (low_bottom, high_bottom) = numerator.ends, denominator.ends
    half = top * bottom - correlation * (top - low_top) * (high_bottom - bottom)
    constant, square = low_top * (2 * top - low_top), high_bottom * (2 * bottom - high_bottom)
    divisor = half + np.sqrt(max(0.0, half**2 - square * constant))
    low = constant / divisor if divisor > 0 else 0.0
    half = top * bottom - correlation * (high_top - top) * (bottom - low_bottom)
    constant, square = high_top * (2 * top - high_top), low_bottom * (2 * bottom - low_bottom)
    root = np.sqrt(max(0.0, half**2 - square * constant))
    high = (half + root) / square if square > 0 else np.inf
    return float(max(0.0, low)), float(high)


@dataclass(frozen=True)
class NetBenefit:
    """Net benefit at one threshold probability, in true positives an image."""

    threshold: float
    model: Interval  # of acting where the probability is above the threshold
    treat_all: float  # of acting on every image; on none it is 0


def decision_curve(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    patients: NDArray[np.int64],
    thresholds: Sequence[float],
    prevalence: float,
) -> list[NetBenefit]:
    """Return the net benefit at each threshold: prevalence x sensitivity - odds x (1 - prevalence) x (1 - specificity).

    The odds are those of the threshold: whoever acts from a probability of 0.1 on accepts nine false positives for a
    true one. A model that is below `treat_all` or 0 is worse than none.

    Args:
        probabilities: 0 to 1, shape (images,).
        labels: 0 or 1, both present, shape (images,).
        patients: Of each image, shape (images,).
        thresholds: Each above 0 and below 1.
        prevalence: Where the predictions are to be used, between 0 and 1.

    Source:
        Vickers and Elkin, Decision curve analysis, Med. Decis. Making 26 (2006); of a difference of two rates, Zou, Am.
        J. Epidemiol. 168 (2008).
    """
    return [_net_benefit(probabilities > each, labels, patients, each, prevalence) for each in thresholds]


def _net_benefit(
    predicted: NDArray[np.bool_],
    labels: NDArray[np.integer],
    patients: NDArray[np.int64],
    threshold: float,
    prevalence: float,
) -> NetBenefit:
    cost = threshold / (1 - threshold) * (1 - prevalence)
    treat_all = prevalence - cost
    sensitivity, specificity = (rate_interval(predicted == label, labels, patients, label) for label in (1, 0))
    assert sensitivity
    assert specificity
    value = prevalence * sensitivity.value - cost * (1 - specificity.value)
    if sensitivity.ends is None or specificity.ends is None:
        return NetBenefit(threshold, Interval(value, None, sensitivity.reason or specificity.reason), treat_all)
    correlation = patient_correlation(predicted, labels, patients)
    halves = [
        _joined(
            prevalence * abs(sensitivity.value - of_positives),
            cost * abs(specificity.value - of_negatives),
            correlation,
        )
        for of_positives, of_negatives in zip(sensitivity.ends, specificity.ends, strict=True)
    ]
    return NetBenefit(threshold, Interval(value, (value - halves[0], value + halves[1])), treat_all)


def _joined(one: float, other: float, correlation: float) -> float:
    return float(np.sqrt(max(0.0, one**2 + other**2 + 2 * correlation * one * other)))
