"""What the page shows of one trial's predictions on test: counts at thresholds, calibration, net benefit, subgroups.

All numbers and their intervals are computed here. The page only looks them up, and turns likelihood ratios into
predictive values at the prevalence that its reader sets: both limits of an interval move with the value.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from hemo.curation.evaluated_rows import MOST_GROUPS, OTHERS, UNKNOWN
from hemo.reporting.comparison import Comparison
from hemo.reporting.page.data_set import DataSet
from hemo.reporting.probabilities import (
    NOT_CHOSEN,
    DecisionSettings,
    Reliability,
    describe_calibration,
    operating_points,
    reliability_of,
)
from hemo.reporting.trial_row import Row, estimate, metrics_by_class, metrics_by_group, prevalence_of, read_scores
from hemo.stats.auroc import auroc
from hemo.stats.intervals import Interval, patient_correlation, rate_interval
from hemo.stats.operating_points import decision_curve, ratio_interval
from hemo.training.results import DEFAULT_THRESHOLD
from hemo.trials.predictions import Scores, split_rows, split_scores
from hemo.trials.record import TrialRecord, read_predictions

MOST_CURVES = 600
"""Trials times classes whose curves the page holds: some 4 MB."""
MOST_THRESHOLDS = 48
"""Thresholds of a class on the slider: a curve through as many points looks the same as the whole one."""
DECISION_THRESHOLDS = tuple(round(number / 20, 2) for number in range(1, 20))
"""Threshold probabilities of the decision curve."""
DIGITS = 6
"""Significant digits of a number on the page, but of thresholds, which decide. With four, texts of some numbers have
another last digit than in the tables."""


def significant(value: float | None) -> float | None:
    """Return a number with `DIGITS` significant digits; None for None, and for what JSON cannot hold."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.{DIGITS}g}")


def triple(interval: Interval | None) -> list[float | None] | None:
    """Return value, lower and upper end; the ends are None where there is no interval."""
    if interval is None:
        return None
    return [significant(each) for each in (interval.value, *(interval.ends or (None, None)))]


def read_evidence(
    comparison: Comparison, folder: str, decisions: DecisionSettings, known: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return digest -> `trial_evidence` of the trials whose curves the page holds.

    Args:
        comparison: The trials.
        folder: Folder of records with the predictions.
        decisions: Operating points and prevalence.
        known: Digest -> evidence, with the same `decisions`, of trials whose files have not changed since.

    Raises:
        SourceError: If predictions cannot be read.
    """
    found = {}
    for row in with_evidence(comparison):
        if known and row.record.digest in known:
            found[row.record.digest] = known[row.record.digest]
            continue
        if scores := read_scores(row.record, folder):
            found[row.record.digest] = trial_evidence(row.record, *scores, decisions)
    return found


def with_evidence(comparison: Comparison) -> list[Row]:
    """Return the trials whose curves the page holds: the best one, then by validation loss, `MOST_CURVES` at most.

    Of trials that were not evaluated on test there are no curves.
    """
    tested = [row for row in comparison.rows if row.test]
    ordered = sorted(tested, key=lambda row: row is not comparison.best)
    return ordered[: max(1, MOST_CURVES // max(1, len(comparison.first.classes)))]


def trial_evidence(
    record: TrialRecord, val: Scores | None, test: Scores, trained: Scores, decisions: DecisionSettings
) -> dict[str, Any]:
    """Return what the page shows of a trial's predictions on test.

    Args:
        record: The trial.
        val: Its calibrated predictions on validation, which choose thresholds that the record does not have.
        test: Its calibrated predictions on test.
        trained: The same before calibration.
        decisions: Operating points and prevalence.
    """
    observed, binary = test.labels.mean(axis=0), record.config.task == "binary"
    return {
        "classes": [
            {
                "name": name,
                **class_evidence(
                    test,
                    column,
                    operating_points(record, column, None if test.exclusive else val, decisions),
                    decisions.prevalence_of(name, float(observed[column]), binary=binary),
                ),
                "trained": None
                if record.calibration.method == "none"
                else reliability_data(
                    reliability_of(trained.probabilities[:, column], test.labels[:, column], test.patients)
                ),
                "calibrated_by": describe_calibration(record, column),
            }
            for column, name in enumerate(record.classes)
        ],
        "exclusive": test.exclusive,
        "matrix": record.confusion["test"][0] if test.exclusive and "test" in record.confusion else None,
        "prevalence_head": prevalence_of(test, record.classes).head,
        "formats": _subsets(test, test.pixel_formats, record.classes),
        "scanners": [],
        "by_class": [
            [each.name, each.positives, estimate(each.auroc), estimate(each.recall), estimate(each.specificity)]
            for each in metrics_by_class(test, record.classes)
        ],
    }


def _subsets(test: Scores, groups: NDArray[np.str_], classes: Sequence[str]) -> list[list[Any]]:
    """Return name, images, prevalence, AUROC and accuracy of each group of images."""
    return [
        [each.name, each.images, each.prevalence.text, estimate(each.auroc), estimate(each.accuracy)]
        for each in metrics_by_group(test, groups, classes)
    ]


def add_scanners(evidence: Mapping[str, Any], comparisons: Sequence[Comparison], folder: str, data: DataSet) -> None:
    """Add results by scanner, which predictions do not name, to the evidence of trials of a training set.

    Args:
        evidence: Digest -> `trial_evidence`; its `scanners` are filled where test has images of several scanners.
        comparisons: The trials.
        folder: Folder of records with the predictions.
        data: The training set; trials of others are left alone.

    Raises:
        SourceError: If predictions cannot be read.
    """
    names = pc.fill_null(data.rows["scanner"], UNKNOWN).to_pylist()
    scanners = dict(zip(data.rows["image_id"].to_pylist(), names, strict=True))
    if len(set(names)) < 2:
        return
    rows = [row for comparison in comparisons for row in comparison.rows if row.record.digest in evidence]
    for row in rows:
        found = evidence[row.record.digest]
        if row.record.training_set != data.card.digest or found["scanners"]:
            continue
        predictions = read_predictions(folder, row.record.digest)
        ids = split_rows(predictions, "test")["image_id"].to_pylist()
        test = split_scores(predictions, "test", row.record)
        assert test
        groups = most_frequent([scanners.get(name, UNKNOWN) for name in ids])
        found["scanners"] = _subsets(test, groups, row.record.classes)


def most_frequent(names: Sequence[str]) -> NDArray[np.str_]:
    """Return names with all but the `MOST_GROUPS` most frequent ones as `OTHERS`."""
    kept = {name for name, _ in Counter(names).most_common(MOST_GROUPS)}
    return np.array([name if name in kept else OTHERS for name in names], np.str_)


def class_evidence(test: Scores, column: int, points: Mapping[str, float], prevalence: float) -> dict[str, Any]:
    """Return what the page shows of one class against all others; without both labels only counts and calibration.

    `points` are rule, threshold, and its place among the thresholds of `rates`, null where there are none; `start` is
    the place of the threshold that is shown first, `note` says where it comes from.

    Args:
        test: Predictions.
        column: Of the class.
        points: Rule -> threshold, that of the trial first; none of exclusive classes.
        prevalence: Where the model is to be used, 0 to 1.
    """
    probabilities, labels = test.probabilities[:, column], test.labels[:, column]
    positives = int(labels.sum())
    found: dict[str, Any] = {
        "positives": positives,
        "negatives": len(labels) - positives,
        "patients": len(np.unique(test.patients)),
        "points": [[rule, threshold, None] for rule, threshold in points.items()],
        "prevalence": significant(prevalence),
        "calibration": reliability_data(reliability_of(probabilities, labels, test.patients)),
        "rates": None,
    }
    if not 0 < positives < len(labels):
        return found
    one = slice(column, column + 1)
    area = auroc(test.scores[:, one], test.labels[:, one], test.patients)
    columns = probabilities, labels, test.patients
    start = next(iter(points.values()), DEFAULT_THRESHOLD)
    rates = rates_at_thresholds(*columns, [start, *points.values()])
    return found | {
        "start": rates["threshold"].index(start),
        "note": _threshold_note(points),
        "points": [[rule, threshold, rates["threshold"].index(threshold)] for rule, threshold in points.items()],
        "auroc": triple(area.interval() if area else None),
        "average_precision": significant(average_precision_score(labels, test.scores[:, column])),
        "rates": rates,
        "decision": [
            [each.threshold, *(triple(each.model) or []), significant(each.treat_all)]
            for each in decision_curve(*columns, DECISION_THRESHOLDS, prevalence)
        ],
    }


def _threshold_note(points: Mapping[str, float]) -> str:
    if not points:
        return "The most probable class is predicted, without a threshold; here this class is against all others."
    if NOT_CHOSEN in points:
        return "Validation lacks one of the labels and could choose no threshold; any but 0.5 is chosen on test."
    return "The trial's own threshold was chosen on validation; any other here is chosen on test."


def reliability_data(found: Reliability) -> dict[str, Any]:
    """Return bins as `[predicted, observed, low, high, images]`, and the errors of all of them."""
    return {
        "bins": [[significant(each.predicted), *(triple(each.observed) or []), each.images] for each in found.bins],
        "error": significant(found.metrics.calibration_error),
        "brier": significant(found.metrics.brier),
    }


def shown_thresholds(
    probabilities: NDArray[np.float64], labels: NDArray[np.uint8], always: Sequence[float], most: int = MOST_THRESHOLDS
) -> list[float]:
    """Return thresholds, ascending: between all distinct probabilities, or where the curves need them.

    Where there are more than `most`, they are quantiles of the positives and of the negatives in equal parts, so that
    both rates move in small steps. At 0 everything is predicted that has a probability, at 1 nothing.

    Args:
        probabilities: Shape (images,).
        labels: 0 or 1, both present, shape (images,).
        always: Thresholds to have in any case.
        most: How many at most, beside 0, 1 and `always`.
    """
    values = np.unique(probabilities)
    if len(values) > most:
        steps = np.linspace(0, 1, most // 2)
        sides = [np.quantile(probabilities[labels == label], steps, method="nearest") for label in (0, 1)]
        values = np.unique(np.concatenate(sides))
    middles = (values[1:] + values[:-1]) / 2
    return sorted({0.0, *middles.tolist(), *always, 1.0})


def rates_at_thresholds(
    probabilities: NDArray[np.float64], labels: NDArray[np.uint8], patients: NDArray[np.int64], always: Sequence[float]
) -> dict[str, Any]:
    """Return counts and rates of the predictions above each shown threshold, as lists that are equally long.

    `positive_ratio` is sensitivity / (1 - specificity), `negative_ratio` specificity / (1 - sensitivity); each is the
    value and both ends, null where infinite or unknown. At prevalence odds `o` the positive predictive value is
    `r o / (r o + 1)` of the first, the negative one `r / (r + o)` of the second.

    Args:
        probabilities: Shape (images,).
        labels: 0 or 1, both present, shape (images,).
        patients: Of each image, shape (images,).
        always: Thresholds to have in any case.
    """
    found: dict[str, list[Any]] = {
        name: [] for name in ("threshold", "tp", "fp", "sensitivity", "specificity", "positive_ratio", "negative_ratio")
    }
    for threshold in shown_thresholds(probabilities, labels, always):
        predicted = probabilities > threshold
        sensitivity, specificity = (rate_interval(predicted == label, labels, patients, label) for label in (1, 0))
        assert sensitivity
        assert specificity
        correlation = -patient_correlation(predicted, labels, patients)
        found["threshold"].append(threshold)  # rounded, several are 1 where a model is overconfident
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
