"""A checkpoint evaluated on other images: metrics with intervals, as is and recalibrated, of groups and of studies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from hemo.inference.studies import BY_STUDY, STUDY_KEYS, log_odds_of_any, slices_of_stacks
from hemo.reporting.probabilities import Reliability, reliability_of
from hemo.reporting.trial_row import (
    ClassMetrics,
    Prevalence,
    ResultOnTest,
    evaluate_scores,
    metrics_by_class,
    prevalence_of,
)
from hemo.stats.auroc import auroc
from hemo.stats.calibration import Calibration, calibrated_logits
from hemo.stats.intervals import Interval, balanced_accuracy_interval, rate_interval
from hemo.stats.operating_points import ThresholdRates, threshold_rates
from hemo.stats.reliability import mean_difference
from hemo.training.results import column_weights
from hemo.trials.evaluation import EVALUATED, SUBGROUP, EvaluationRecord, read_evaluated_images
from hemo.trials.predictions import Scores, matrix, scores_of

AS_IS, AS_IS_OTHERS, RECALIBRATED = "as is", "as is, the others", "recalibrated, the others"
"""All images; those of patients who were not recalibrated on; and the same, recalibrated."""

AGGREGATES = {"max": "highest probability of its slices", "noisy_or": "noisy-or of its slices"}
"""How a study gets its probability, as in `hemo.inference.studies` -> in words."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the images with one calibration and its thresholds, evaluated."""

    name: str
    scores: Scores
    evaluation: ResultOnTest
    probabilities: tuple[Reliability, ...]  # one a class; of exclusive classes that of the most probable one
    rates: tuple[ThresholdRates | None, ...]  # one a class, None with one label only; none of exclusive classes


@dataclass(frozen=True)
class GroupMetrics:
    """Metrics of the images of one group, as is."""

    subgroup: str
    group: str
    images: int
    patients: int
    prevalence: Prevalence
    auroc: Interval | None
    balanced_accuracy: Interval | None
    recall: Interval | None  # of one class only
    specificity: Interval | None
    difference: Interval | None  # mean probability minus prevalence, of one class only


@dataclass(frozen=True)
class ClassOfStudies:
    """Metrics of one class at the level of studies, as is: a study has the class if one of its slices has it."""

    name: str  # of the class
    aggregate: str  # of `AGGREGATES`
    studies: int
    positives: int
    auroc: Interval | None
    recall: Interval | None  # at the threshold of images; None where that is not meant for the aggregate
    specificity: Interval | None


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """An evaluation with all that tables show of it."""

    record: EvaluationRecord
    parts: tuple[Part, ...]  # as is; with a recalibration also the others, as is and recalibrated
    classes: tuple[ClassMetrics, ...]  # as is; empty with one class
    groups: tuple[GroupMetrics, ...]
    studies: tuple[ClassOfStudies, ...]  # none of exclusive classes, and where no study has several images

    @property
    def key(self) -> str:
        """A short name for files and anchors."""
        return f"evaluation-{self.record.digest[:8]}"


def read_elsewhere(records: str, record: EvaluationRecord) -> Elsewhere:
    """Evaluate the predictions of an evaluation.

    Raises:
        SourceError: If they are missing or damaged.
    """
    rows = read_evaluated_images(records, record)
    checkpoint, own = record.checkpoint, record.checkpoint.calibration
    parts = [_part(AS_IS, rows, record, (own, checkpoint.thresholds))]
    if record.recalibration:
        others = rows.filter(pc.equal(rows["part"], pa.scalar(EVALUATED)))
        anew = (record.recalibration.calibration, record.recalibration.thresholds)
        parts.append(_part(AS_IS_OTHERS, others, record, (own, checkpoint.thresholds)))
        parts.append(_part(RECALIBRATED, others, record, anew))
    scores = parts[0].scores
    return Elsewhere(
        record,
        tuple(parts),
        metrics_by_class(scores, checkpoint.classes),
        tuple(_groups(rows, scores, record.subgroups, checkpoint.classes)),
        () if scores.exclusive else tuple(_studies(rows, record)),
    )


def _part(name: str, rows: pa.Table, record: EvaluationRecord, readout: tuple[Calibration, tuple[float, ...]]) -> Part:
    """Evaluate rows with a calibration and thresholds."""
    classes, exclusive = record.checkpoint.classes, record.checkpoint.task == "multi_class"
    calibration, thresholds = readout
    scores = scores_of(rows, exclusive=exclusive, calibration=calibration, thresholds=thresholds)
    evaluation = evaluate_scores(scores, column_weights(classes), record.bootstrap_samples, record.seed)
    if exclusive:
        hits = scores.hits[:, 0].astype(np.int64)
        return Part(
            name, scores, evaluation, (reliability_of(scores.probabilities.max(axis=1), hits, scores.patients),), ()
        )
    columns = [(scores.probabilities[:, k], scores.labels[:, k], scores.patients) for k in range(len(classes))]
    rates = tuple(_rates(scores, column, record.prevalence) for column in range(len(classes)))
    return Part(name, scores, evaluation, tuple(reliability_of(*each) for each in columns), rates)


def _rates(scores: Scores, column: int, prevalence: float | None) -> ThresholdRates | None:
    labels, predicted = scores.labels[:, column], scores.predicted[:, column]
    observed = float(labels.mean())
    if not 0 < observed < 1:
        return None
    return threshold_rates(predicted, labels, scores.patients, observed if prevalence is None else prevalence)


def _groups(rows: pa.Table, scores: Scores, subgroups: Sequence[str], classes: Sequence[str]) -> Iterator[GroupMetrics]:
    """Yield the metrics of each group: of numbers and ranges from the lowest on, of words the largest group first."""
    for subgroup in subgroups:
        values = np.asarray(rows[f"{SUBGROUP}{subgroup}"].to_pylist(), dtype=np.str_)
        names, counts = np.unique(values, return_counts=True)
        sizes = {str(name): int(count) for name, count in zip(names, counts, strict=True)}
        for name in sorted(sizes, key=lambda name: (_first_number(name), -sizes[name], name)):
            yield _group(subgroup, name, scores.where(values == name), classes)


def _first_number(group: str) -> float:
    """Return the number that a group is or begins with; infinity where it is a word."""
    try:
        return float(group.partition(" ")[0])
    except ValueError:
        return float("inf")


def _group(subgroup: str, group: str, part: Scores, classes: Sequence[str]) -> GroupMetrics:
    one = part.labels.shape[1] == 1
    labels, predicted, patients = part.labels[:, 0], part.predicted[:, 0], part.patients
    area = auroc(part.scores, part.labels, patients)
    recall, specificity = (rate_interval(predicted == k, labels, patients, k) if one else None for k in (1, 0))
    return GroupMetrics(
        subgroup,
        group,
        len(labels),
        int(patients.max()) + 1,
        prevalence_of(part, classes),
        area.interval() if area else None,
        None if part.exclusive else balanced_accuracy_interval(part.predicted, part.labels, patients),
        recall,
        specificity,
        mean_difference(part.probabilities[:, 0], labels, patients) if one else None,
    )


def _studies(rows: pa.Table, record: EvaluationRecord) -> Iterator[ClassOfStudies]:
    """Yield metrics of studies for each class and aggregate; none where no study has several slices."""
    classes = record.checkpoint.classes
    as_trained, labels = matrix(rows, "logits").astype(np.float32), matrix(rows, "labels").astype(np.uint8)
    logits = calibrated_logits(as_trained, record.checkpoint.calibration, exclusive=False)
    table = rows.select([*STUDY_KEYS, "flags"])
    for column, name in enumerate(classes):
        table = table.append_column(f"logit_{name}", pa.array(logits[:, column]))
        table = table.append_column(f"log_absent_{name}", pa.array(log_expit(-logits[:, column])))
        table = table.append_column(f"label_{name}", pa.array(labels[:, column]))
    slices = slices_of_stacks(table)
    kinds = (("logit", "max"), ("log_absent", "sum"), ("label", "max"))
    aggregations = [(f"{kind}_{name}", function) for name in classes for kind, function in kinds]
    known = slices.filter(pc.is_valid(slices["study"]))
    studies = known.group_by(STUDY_KEYS).aggregate([*aggregations, ([], "count_all")]).sort_by(BY_STUDY)
    if not len(studies) or pc.max(studies["count_all"]).as_py() == 1:
        return
    patients = np.unique(studies["patient"].to_numpy(), return_inverse=True)[1].astype(np.int64)
    for column, name in enumerate(classes):
        present = studies[f"label_{name}_max"].to_numpy()
        highest, absent = (studies[f"{each}_{name}_{how}"].to_numpy() for each, how in kinds[:2])
        yield _study(name, "max", (highest, present, patients), record.checkpoint.thresholds[column])
        yield _study(name, "noisy_or", (log_odds_of_any(absent), present, patients), None)


def _study(
    name: str,
    aggregate: str,
    found: tuple[NDArray[np.float64], NDArray[np.uint8], NDArray[np.int64]],
    threshold: float | None,
) -> ClassOfStudies:
    """Evaluate log odds of studies, which rank those whose probability rounds to 0 or 1 too."""
    log_odds, present, patients = found
    area = auroc(log_odds[:, None], present[:, None], patients)
    rates: list[Interval | None] = [None, None]
    if threshold is not None:
        rates = [rate_interval((expit(log_odds) > threshold) == label, present, patients, label) for label in (1, 0)]
    return ClassOfStudies(name, aggregate, len(present), int(present.sum()), area.interval() if area else None, *rates)
