"""Probabilities of trials on test: how far they are from what occurred, and what their thresholds are worth."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hemo.reporting.table_format import MISSING, Table, metric, number, probability_text
from hemo.reporting.trial_row import estimate
from hemo.stats.calibration import Calibration, SampledClass
from hemo.stats.choices import BALANCED_ACCURACY, OperatingPoint
from hemo.stats.intervals import Interval
from hemo.stats.operating_points import NetBenefit, ThresholdRates, choose_threshold, decision_curve, threshold_rates
from hemo.stats.reliability import (
    ProbabilityMetrics,
    ReliabilityBin,
    calibration_slope,
    mean_difference,
    probability_metrics,
    reliability_bins,
)
from hemo.training.results import DEFAULT_THRESHOLD
from hemo.trials.predictions import Scores
from hemo.trials.record import TrialRecord, title_of

TABLE_THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
"""Threshold probabilities of the table of net benefit."""
CURVE_THRESHOLDS = tuple(sorted({*TABLE_THRESHOLDS, *(number / 50 for number in range(1, 50))}))
MOST_PROBABLE = "most probable class"
NOT_CHOSEN = "0.5, not chosen"
"""Rule of the trial's own threshold where validation lacks one of the labels."""
CALIBRATION_HEADS = (
    *("mean - prevalence (95 %)", "slope (95 %)", "ECE (equal count)", "Brier"),
    *("reliability", "resolution", "uncertainty", "log loss"),
)
CALIBRATION_NOTES = (
    "Mean predicted probability minus prevalence: above 0, probabilities are too high. Slope of the outcome on the log "
    "odds: below 1, they are too extreme; `-` where one probability separates the labels.",
    "ECE (equal count): expected calibration error in bins of equal count; above 0 by chance as well. Brier score = "
    "reliability - resolution + uncertainty (Murphy 1973, in these bins; the rest is within bins). Less is better but "
    "for resolution.",
)


@dataclass(frozen=True)
class DecisionSettings:
    """What operating points are shown, and at which prevalence predictive values and net benefit are."""

    operating_points: tuple[str, ...] = (BALANCED_ACCURACY, "sensitivity=0.95", "specificity=0.95")
    # of the class to be used on, 0 to 1: that of the test split, one for the target of binary tasks, or by class
    prevalence: Literal["observed"] | float | Mapping[str, float] = "observed"

    def prevalence_of(self, name: str, observed: float, *, binary: bool) -> float:
        """Return the prevalence at which a class is evaluated.

        Args:
            name: Of the class.
            observed: Its prevalence on test.
            binary: Whether it is the target of a binary task.
        """
        if isinstance(self.prevalence, Mapping):
            return self.prevalence.get(name, observed)
        return self.prevalence if binary and self.prevalence != "observed" else observed


@dataclass(frozen=True, eq=False)
class Reliability:
    """Probabilities and what occurred."""

    metrics: ProbabilityMetrics
    bins: list[ReliabilityBin]
    mean_difference: Interval  # mean probability minus prevalence
    slope: Interval | None  # None where it has no limit


@dataclass(frozen=True)
class PointRates:
    """An operating point on test."""

    rule: str
    threshold: float
    rates: ThresholdRates


@dataclass(frozen=True, eq=False)
class ClassProbabilities:
    """Probabilities of one class of one trial on test; of exclusive classes those of the most probable one."""

    trial: str
    name: str  # of the class
    calibration: str  # what was done, in words
    trained: Reliability  # before calibration
    calibrated: Reliability | None  # None where nothing was calibrated
    prevalence: float  # at which the next two are
    points: tuple[PointRates, ...]  # none of exclusive classes, and without both labels
    curve: tuple[NetBenefit, ...]  # at `CURVE_THRESHOLDS`, likewise
    reason: str = ""  # why a part of the trial's calibration was left out, as `reason_of` has it


def class_probabilities(
    record: TrialRecord, val: Scores | None, test: Scores, trained: Scores, settings: DecisionSettings
) -> list[ClassProbabilities]:
    """Return the probabilities of each class of a trial on test, evaluated.

    Args:
        record: The trial.
        val: Its calibrated predictions on validation, which choose thresholds that the record does not have; None: no
            such thresholds.
        test: Its calibrated predictions on test.
        trained: The same as trained.
        settings: Operating points and prevalence.
    """
    states = [trained] if record.calibration.method == "none" else [trained, test]
    if test.exclusive:
        before, *after = [
            reliability_of(each.probabilities.max(axis=1), each.hits[:, 0].astype(np.int64), each.patients)
            for each in states
        ]
        name, prevalence = title_of(record), before.metrics.prevalence
        done = describe_calibration(record, 0)
        calibrated, reason = next(iter(after), None), reason_of(record.calibration)
        return [ClassProbabilities(name, MOST_PROBABLE, done, before, calibrated, prevalence, (), (), reason)]
    found = []
    for column, name in enumerate(record.classes):
        before, *after = [
            reliability_of(each.probabilities[:, column], each.labels[:, column], each.patients) for each in states
        ]
        observed = before.metrics.prevalence
        prevalence = settings.prevalence_of(name, observed, binary=record.config.task == "binary")
        points, curve = list[PointRates](), list[NetBenefit]()
        if 0 < observed < 1:
            points = list(_points(operating_points(record, column, val, settings), test, column, prevalence))
            curve = _curve(states[-1], column, prevalence)
        found.append(
            ClassProbabilities(
                trial=title_of(record),
                name=name,
                calibration=describe_calibration(record, column),
                trained=before,
                calibrated=next(iter(after), None),
                prevalence=prevalence,
                points=tuple(points),
                curve=tuple(curve),
                reason=reason_of(record.calibration),
            )
        )
    return found


def _curve(scores: Scores, column: int, prevalence: float) -> list[NetBenefit]:
    columns = scores.probabilities[:, column], scores.labels[:, column], scores.patients
    return decision_curve(*columns, CURVE_THRESHOLDS, prevalence)


def _points(thresholds: Mapping[str, float], test: Scores, column: int, prevalence: float) -> Iterator[PointRates]:
    """Yield each operating point of a class, evaluated on test."""
    for rule, threshold in thresholds.items():
        predicted = test.probabilities[:, column] > threshold
        rates = threshold_rates(predicted, test.labels[:, column], test.patients, prevalence)
        if rates is not None:
            yield PointRates(rule, threshold, rates)


def reliability_of(
    probabilities: NDArray[np.float64], outcomes: NDArray[np.integer], patients: NDArray[np.int64]
) -> Reliability:
    """Return how far probabilities are from outcomes; arrays of shape (images,)."""
    return Reliability(
        probability_metrics(probabilities, outcomes),
        reliability_bins(probabilities, outcomes, patients),
        mean_difference(probabilities, outcomes, patients),
        calibration_slope(probabilities, outcomes, patients),
    )


def operating_points(
    record: TrialRecord, column: int, val: Scores | None, settings: DecisionSettings
) -> dict[str, float]:
    """Return rule -> threshold of a class: the one that the trial applies first, then those of the configured rules.

    Exclusive classes have none, as the most probable one is predicted. Where validation could not choose the trial's
    own, it is `DEFAULT_THRESHOLD` under the name `NOT_CHOSEN`.

    Args:
        record: The trial.
        column: Of the class.
        val: Its calibrated predictions on validation, which choose thresholds that the record does not have; None: no
            such thresholds.
        settings: The rules.
    """
    if not record.thresholds:
        return {}
    chosen = record.thresholds[column]
    points = {NOT_CHOSEN: DEFAULT_THRESHOLD} if chosen is None else {record.config.training.operating_point: chosen}
    for rule in settings.operating_points:
        threshold = None
        if rule in record.operating_points:
            threshold = record.operating_points[rule][column]
        elif val is not None:
            point = OperatingPoint.parse(rule)
            threshold = choose_threshold(val.probabilities[:, column], val.labels[:, column], point)
        if threshold is not None:
            points.setdefault(rule, threshold)
    return points


def describe_calibration(record: TrialRecord, column: int) -> str:
    """Return what was done to the probabilities of a class: `temperature 1.8 after a prior of 50 % for 14 %`."""
    calibration = record.calibration
    if calibration.method == "none":
        return f"none: {calibration.reason}" if calibration.reason else "none"
    slope, intercept = calibration.slopes[column], calibration.intercepts[column]
    if calibration.method == "platt":
        return f"Platt: slope {slope:.2f}, intercept {intercept:+.2f}"
    parts = [f"temperature {1 / slope:.2f}"] if calibration.images else []
    if calibration.sampled:
        parts.append(describe_prior(calibration.sampled))
    if any(calibration.intercepts):
        parts.append(f"log odds {intercept:+.2f} for weights or sampling")
    return ", ".join(parts)


def describe_prior(sampled: SampledClass) -> str:
    """Return `prior 50.0% to 14.0%`."""
    return f"prior {sampled.train_prevalence:.1%} to {sampled.population_prevalence:.1%}"


def reason_of(calibration: Calibration) -> str:
    """Return why a part of a calibration was left out, ` (REASON)`; empty where nothing was or there is none at all."""
    return f" ({calibration.reason})" if calibration.reason and calibration.method != "none" else ""


def probability_tables(found: Sequence[ClassProbabilities], cells: int) -> list[Table]:
    """Return the tables of calibration, operating points and net benefit, those that have rows.

    Args:
        found: Of the trials that have rows, or of the classes of one trial.
        cells: How many cells were evaluated on test.
    """
    if not found:
        return []
    trials = len({each.trial for each in found})
    left_out = (f"Of {trials} of {cells} cells, the best ones on validation; the page draws those of the others.",)
    tables = [
        calibration_table(found),
        reliability_table(found[0]),
        operating_point_table(found),
        net_benefit_table(found),
    ]
    notes = left_out if 1 < trials < cells else ()
    return [replace(table, notes=(*notes, *table.notes)) for table in tables if table.rows]


def calibration_table(found: Sequence[ClassProbabilities]) -> Table:
    """Return how far probabilities are from what occurred, as trained and calibrated."""
    rows = []
    for each in found:
        for state, part in (("as trained", each.trained), ("calibrated", each.calibrated)):
            if part is not None:
                rows.append((*_names(each, found), state, *calibration_cells(part)))
    head = (
        *_heads(found),
        "probabilities",
        *CALIBRATION_HEADS,
    )
    notes = (*CALIBRATION_NOTES, f"Calibration, fitted on validation: {_methods(found)}.")
    return Table("Probabilities on test", head, tuple(rows), notes=notes)


def _methods(found: Sequence[ClassProbabilities]) -> str:
    """Return how each was calibrated, and behind the classes of a trial what was left out of its calibration."""
    texts = []
    for trial in dict.fromkeys(each.trial for each in found):
        own = [each for each in found if each.trial == trial]
        methods = dict.fromkeys(f"{' '.join(_names(each, found))}: {each.calibration}" for each in own)
        texts.append("; ".join(methods) + own[0].reason)
    return "; ".join(texts)


def calibration_cells(part: Reliability) -> tuple[str, ...]:
    """Return the cells below `CALIBRATION_HEADS`."""
    metrics, images = part.metrics, part.metrics.images
    parts = (metrics.reliability, metrics.resolution, metrics.uncertainty)
    return (
        estimate(part.mean_difference, signed=True),
        estimate(part.slope),
        metric(metrics.calibration_error, images),
        number(metrics.brier, 4),
        *(number(value, 4) for value in parts),
        metric(metrics.log_loss, images),
    )


def reliability_table(each: ClassProbabilities) -> Table:
    """Return the bins of a class's probabilities, as trained and calibrated."""
    rows = tuple(
        (state, f"{part_bin.images:,}", probability_text(part_bin.predicted), estimate(part_bin.observed))
        for state, part in (("as trained", each.trained), ("calibrated", each.calibrated))
        for part_bin in (part.bins if part else ())
    )
    notes = ("Bins of equal count by predicted probability. The page draws those of other trials and classes.",)
    head = ("probabilities", "count", "mean predicted", "observed (95 %)")
    return Table(f"Reliability of {each.name}, {each.trial}, on test", head, rows, notes=notes)


def operating_point_table(found: Sequence[ClassProbabilities]) -> Table:
    """Return sensitivity, specificity and predictive values of each operating point."""
    rows = tuple(
        (*_names(each, found), point.rule, probability_text(point.threshold), *_rate_cells(point.rates))
        for each in found
        for point in each.points
    )
    head = (*_heads(found), "rule", "threshold", "sensitivity (95 %)", "specificity (95 %)", "PPV (95 %)", "NPV (95 %)")
    notes = (
        "Thresholds are chosen on validation; on test the sensitivity or specificity of a rule may not be reached.",
        f"PPV and NPV: predictive values at a prevalence of {_prevalences(found)}.",
    )
    return Table("Operating points on test", head, rows, notes=notes)


def _rate_cells(rates: ThresholdRates) -> tuple[str, ...]:
    return tuple(estimate(each) for each in (rates.sensitivity, rates.specificity, rates.ppv, rates.npv))


def net_benefit_table(found: Sequence[ClassProbabilities]) -> Table:
    """Return net benefit at some threshold probabilities, beside that of acting on every image."""
    rows = []
    for each in found:
        for point in each.curve:
            if point.threshold in TABLE_THRESHOLDS:
                cells = (f"{point.threshold:g}", _benefit(point.model), number(point.treat_all, 3), _better(point))
                rows.append((*_names(each, found), *cells))
    head = (*_heads(found), "act above", "net benefit (95 %)", "acting on all", "best")
    notes = (
        "Net benefit in true positives a prediction: prevalence x sensitivity - (1 - prevalence) x (1 - specificity) x "
        f"odds of the threshold (Vickers and Elkin 2006). Acting on none: 0. Prevalence: {_prevalences(found)}.",
    )
    return Table("Net benefit on test", head, tuple(rows), notes=notes)


def _benefit(interval: Interval) -> str:
    if interval.ends is None:
        return number(interval.value, 3)
    low, high = interval.ends
    return f"{number(interval.value, 3)} ({number(low, 3)} to {number(high, 3)})"


def _better(point: NetBenefit) -> str:
    """Return what has the highest net benefit at a threshold."""
    benefits = {"acting on none": 0.0, "acting on all": point.treat_all, "the model": point.model.value}
    return max(benefits, key=lambda name: benefits[name])


def _several_trials(found: Sequence[ClassProbabilities]) -> bool:
    return len({each.name for each in found}) == 1


def _names(each: ClassProbabilities, found: Sequence[ClassProbabilities]) -> tuple[str, ...]:
    return (each.trial,) if _several_trials(found) else (each.name,)


def _heads(found: Sequence[ClassProbabilities]) -> tuple[str, ...]:
    return ("trial",) if _several_trials(found) else ("class",)


def _prevalences(found: Sequence[ClassProbabilities]) -> str:
    texts = dict.fromkeys(f"{each.prevalence:.3g}" for each in found)
    if len(texts) == 1:
        return next(iter(texts))
    return ", ".join(f"{each.prevalence:.3g} ({each.name})" for each in found) or MISSING
