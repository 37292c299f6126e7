"""Figures of parts of the test split: the images of one pixel format, and one class against the rest."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hemo.stats.curves import average_precision
from hemo.stats.intervals import Interval, accuracy_interval, auroc_interval, mean_auroc, patient_resamples
from hemo.trials.predictions import Scores


@dataclass(frozen=True)
class FormatFigures:
    """How the images of one pixel format did: where the format goes with the label, a model may learn the format."""

    pixel_format: str
    images: int
    positive: float  # share of labels that are 1, 0 to 1
    accuracy: Interval
    auroc: float | None  # None where no class has both labels
    auroc_interval: Interval | None  # None where too few patients have both labels as well


@dataclass(frozen=True)
class ClassFigures:
    """How one class did against all others."""

    name: str
    true_negatives: int
    false_positives: int
    false_negatives: int
    true_positives: int
    auroc: Interval | None  # None where the class has too few patients with both labels
    average_precision: float | None  # None without positives


def figures_by_format(scores: Scores, samples: int, seed: int) -> tuple[FormatFigures, ...]:
    """Return figures of each pixel format, commonest first; empty if there is one format only.

    Args:
        scores: Predictions of a split.
        samples: Resamples of patients behind each interval.
        seed: Of the resampling.
    """
    formats, counts = np.unique(scores.pixel_formats, return_counts=True)
    if len(formats) < 2:
        return ()
    return tuple(_of_format(scores, str(formats[at]), samples, seed) for at in np.argsort(-counts, kind="stable"))


def figures_by_class(scores: Scores, classes: Sequence[str], samples: int, seed: int) -> tuple[ClassFigures, ...]:
    """Return figures of each class, in the order of the columns; empty if there is one class only.

    Args:
        scores: Predictions of a split.
        classes: Name of each column.
        samples: Resamples of patients behind each interval.
        seed: Of the resampling.
    """
    if len(classes) < 2:
        return ()
    return tuple(_of_class(scores, column, name, samples, seed) for column, name in enumerate(classes))


def _of_format(scores: Scores, pixel_format: str, samples: int, seed: int) -> FormatFigures:
    mine = scores.where(scores.pixel_formats == pixel_format)
    draws, column = patient_resamples(mine.patients, samples, seed)
    return FormatFigures(
        pixel_format,
        len(mine.labels),
        float(mine.labels.mean()),
        accuracy_interval(mine.correct, draws, column),
        mean_auroc(mine.scores, mine.labels),
        auroc_interval(mine.scores, mine.labels, draws, column),
    )


def _of_class(scores: Scores, column: int, name: str, samples: int, seed: int) -> ClassFigures:
    one = slice(column, column + 1)
    draws, patient = patient_resamples(scores.patients, samples, seed)
    truth, called = scores.labels[:, column].astype(bool), scores.called[:, column]
    return ClassFigures(
        name,
        int((~truth & ~called).sum()),
        int((~truth & called).sum()),
        int((truth & ~called).sum()),
        int((truth & called).sum()),
        auroc_interval(scores.scores[:, one], scores.labels[:, one], draws, patient),
        average_precision(scores.scores[:, column], scores.labels[:, column]) if truth.any() else None,
    )
