"""What the page shows of one trial's predictions on test: counts at thresholds, calibration, net benefit, subgroups.

All numbers and their intervals are computed here. The page only looks them up, and turns likelihood ratios into
predictive values at the prevalence that its reader sets: both limits of an interval move with the value.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemo.reporting.trial_row import estimate, metrics_by_class, metrics_by_format
from hemo.stats.auroc import auroc
from hemo.stats.intervals import Interval, patient_correlation, rate_interval
from hemo.stats.metrics import average_precision
from hemo.stats.operating_points import decision_curve, ratio_interval
from hemo.stats.reliability import mean_difference, probability_metrics, reliability_bins
from hemo.trials.predictions import Scores
from hemo.trials.record import TrialRecord

MOST_THRESHOLDS = 64
"""Thresholds of a class on the slider: a curve through as many points looks the same as the whole one."""
DECISION_THRESHOLDS = tuple(round(number / 20, 2) for number in range(1, 20))
"""Threshold probabilities of the decision curve."""
DIGITS = 4
"""Significant digits of a number on the page."""


def significant(value: float | None) -> float | None:
    """Return a number with `DIGITS` significant digits; None for None, and for what JSON cannot hold."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.{DIGITS}g}")


def triple(interval: Interval | None) -> list[float | None] | None:
    """Return value, lower and upper end; the ends are None where there is no interval."""
    if interval is None:
        return None
    return [significant(each) for each in (interval.value, *(interval.ends or (None, None)))]


def trial_evidence(record: TrialRecord, test: Scores) -> dict[str, Any]:
    """Return what the page shows of a trial's predictions on test.

    Args:
        record: The trial.
        test: Its calibrated predictions.
    """
    thresholds = record.thresholds or (None,) * len(record.classes)
    return {
        "classes": [
            {"name": name, **class_evidence(test, column, thresholds[column] or 0.5)}
            for column, name in enumerate(record.classes)
        ],
        "exclusive": test.exclusive,
        "matrix": record.confusion["test"][0] if test.exclusive and "test" in record.confusion else None,
        "formats": [
            [each.pixel_format, each.images, f"{each.prevalence:.1%}", estimate(each.auroc), estimate(each.accuracy)]
            for each in metrics_by_format(test)
        ],
        "by_class": [
            [each.name, each.positives, estimate(each.auroc), estimate(each.recall), estimate(each.specificity)]
            for each in metrics_by_class(test, record.classes)
        ],
    }


def class_evidence(test: Scores, column: int, applied: float) -> dict[str, Any]:
    """Return what the page shows of one class against all others; without one of both labels only counts.

    Args:
        test: Predictions.
        column: Of the class.
        applied: Threshold that the trial applies.
    """
    probabilities, labels = test.probabilities[:, column], test.labels[:, column]
    positives = int(labels.sum())
    found: dict[str, Any] = {
        "positives": positives,
        "negatives": len(labels) - positives,
        "patients": len(np.unique(test.patients)),
        "applied": significant(applied),
        "calibration": _calibration(probabilities, labels, test.patients),
        "rates": None,
    }
    if not 0 < positives < len(labels):
        return found
    one = slice(column, column + 1)
    area = auroc(test.scores[:, one], test.labels[:, one], test.patients)
    return found | {
        "auroc": triple(area.interval() if area else None),
        "average_precision": significant(average_precision(test.scores[:, column], labels)),
        "rates": rates_at_thresholds(probabilities, labels, test.patients, applied),
        "decision": [
            [each.threshold, *(triple(each.model) or []), significant(each.treat_all)]
            for each in decision_curve(probabilities, labels, test.patients, DECISION_THRESHOLDS, positives / len(labels))
        ],
    }


def _calibration(
    probabilities: NDArray[np.float64], labels: NDArray[np.uint8], patients: NDArray[np.int64]
) -> dict[str, Any]:
    metrics = probability_metrics(probabilities, labels)
    return {
        "bins": [
            [significant(each.predicted), *(triple(each.observed) or []), each.images]
            for each in reliability_bins(probabilities, labels, patients)
        ],
        "error": significant(metrics.calibration_error),
        "brier": significant(metrics.brier),
        "mean_difference": triple(mean_difference(probabilities, labels, patients)),
    }


def shown_thresholds(
    probabilities: NDArray[np.float64], labels: NDArray[np.uint8], applied: float, most: int = MOST_THRESHOLDS
) -> list[float]:
    """Return thresholds, ascending: between all distinct probabilities, or where the curves need them.

    Where there are more than `most`, they are quantiles of the positives and of the negatives in equal parts, so that
    both rates move in small steps. The applied threshold is always there, and 0, above which everything is predicted
    that has a probability above 0.

    Args:
        probabilities: Shape (images,).
        labels: 0 or 1, both present, shape (images,).
        applied: Threshold that the trial applies.
        most: How many at most, beside 0, 1 and the applied one.
    """
    values = np.unique(probabilities)
    if len(values) > most:
        steps = np.linspace(0, 1, most // 2)
        sides = [np.quantile(probabilities[labels == label], steps, method="nearest") for label in (0, 1)]
        values = np.unique(np.concatenate(sides))
    middles = (values[1:] + values[:-1]) / 2
    return sorted({0.0, *middles.tolist(), applied, 1.0})


def rates_at_thresholds(
    probabilities: NDArray[np.float64], labels: NDArray[np.uint8], patients: NDArray[np.int64], applied: float
) -> dict[str, Any]:
    """Return counts and rates of the predictions above each shown threshold, as lists that are equally long.

    `positive_ratio` is sensitivity / (1 - specificity), `negative_ratio` specificity / (1 - sensitivity); each is the
    value and both ends, null where infinite or unknown. At prevalence odds `o` the positive predictive value is
    `r o / (r o + 1)` of the first, the negative one `r / (r + o)` of the second.

    Args:
        probabilities: Shape (images,).
        labels: 0 or 1, both present, shape (images,).
        patients: Of each image, shape (images,).
        applied: Threshold that the trial applies.
    """
    found: dict[str, list[Any]] = {
        name: []
        for name in ("threshold", "tp", "fp", "sensitivity", "specificity", "positive_ratio", "negative_ratio")
    }
    for threshold in shown_thresholds(probabilities, labels, applied):
        predicted = probabilities > threshold
        sensitivity, specificity = (rate_interval(predicted == label, labels, patients, label) for label in (1, 0))
        assert sensitivity
        assert specificity
        correlation = -patient_correlation(predicted, labels, patients)
        found["threshold"].append(significant(threshold))
        found["tp"].append(int((predicted & (labels == 1)).sum()))
        found["fp"].append(int((predicted & (labels == 0)).sum()))
        found["sensitivity"].append(triple(sensitivity))
        found["specificity"].append(triple(specificity))
        found["positive_ratio"].append(_ratio(sensitivity, specificity, correlation))
        found["negative_ratio"].append(_ratio(specificity, sensitivity, correlation))
    return found


def _ratio(right: Interval, other: Interval, correlation: float) -> Sequence[float | None]:
    """Return right / (1 - other) with its ends; None for what is infinite or unknown."""
    wrong = Interval(1 - other.value, other.ends and (1 - other.ends[1], 1 - other.ends[0]))
    value = right.value / wrong.value if wrong.value else None
    if right.ends is None or wrong.ends is None or (right.value == 0 and wrong.value == 0):
        return [significant(value), None, None]
    return [significant(each) for each in (value, *ratio_interval(right, wrong, correlation))]
