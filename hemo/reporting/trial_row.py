"""One trial as a table row: its record, and metrics with intervals from its stored predictions on test."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hemo.reporting.table_format import MISSING
from hemo.stats.intervals import Interval, accuracy_interval, auroc_interval, patient_resamples
from hemo.stats.metrics import average_precision, mean_auroc
from hemo.trials.predictions import Scores, split_scores
from hemo.trials.record import TrialRecord, read_predictions

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class PatientResults:
    """Test images of each patient and how many were classified correctly; sorted by patient, shape (patients,)."""

    image_ids: NDArray[np.str_]  # of all patients, sorted, shape (images,)
    patients: NDArray[np.str_]
    images: NDArray[np.int64]
    correct: NDArray[np.float64]  # images, or fractions of them where an image has several classes

    def same_images(self, other: "PatientResults") -> bool:
        """Tell whether the same images, of the same patients, were tested."""
        mine, theirs = ((each.image_ids, each.patients, each.images) for each in (self, other))
        return all(map(np.array_equal, mine, theirs))


@dataclass(frozen=True, eq=False)
class Row:
    """One trial with metrics from its predictions on test; None where test was not evaluated."""

    record: TrialRecord
    accuracy: Interval | None = None
    auroc: Interval | None = None
    majority_accuracy: float | None = None
    by_patient: PatientResults | None = None


@dataclass(frozen=True)
class FormatMetrics:
    """Metrics of the images of one pixel format: where format and label correlate, a model may use the format."""

    pixel_format: str
    images: int
    prevalence: float  # fraction of labels that are 1, 0 to 1
    accuracy: Interval
    auroc: float | None  # None where no class has both labels
    auroc_interval: Interval | None  # None where too few patients have both labels as well


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class against all others."""

    name: str
    true_negatives: int
    false_positives: int
    false_negatives: int
    true_positives: int
    auroc: Interval | None  # None where the class has too few patients with both labels
    average_precision: float | None  # None without positives


def read_row(record: TrialRecord, folder: str, samples: int, seed: int) -> Row:
    """Return a trial with intervals from its predictions on test, where it has any.

    Args:
        record: The trial.
        folder: Folder of records with the predictions.
        samples: Resamples of patients behind each interval.
        seed: Of the resampling.

    Raises:
        SourceError: If test was evaluated and its predictions cannot be read.
    """
    test = read_test(record, folder)
    if test is None:
        return Row(record)
    draws, column = patient_resamples(test.patients, samples, seed)
    correct: NDArray[np.float64] = np.bincount(column, weights=test.correct).astype(np.float64)
    return Row(
        record,
        accuracy_interval(test.correct, draws, column),
        auroc_interval(test.scores, test.labels, draws, column),
        test.majority_accuracy,
        PatientResults(np.sort(test.image_ids), np.unique(test.patients), np.bincount(column), correct),
    )


def read_test(record: TrialRecord, folder: str) -> Scores | None:
    """Return a trial's predictions on test; None where test was not evaluated."""
    if "test" not in record.metrics:
        return None
    return split_scores(read_predictions(folder, record.digest), "test", record)


def metrics_of(record: TrialRecord, split: str) -> dict[str, float]:
    """Return metric -> value of a split: the final ones, or those of the best epoch for a trial stopped early."""
    if split in record.metrics or split == "test" or not record.best_epoch:
        return record.metrics.get(split, {})
    best = record.epochs[record.best_epoch - 1]
    return best.train if split == "train" else best.val


def image_of(record: TrialRecord) -> str:
    """Return the size of the images that a network received, `3 x 64 x 64`; empty if it is not recorded.

    Images that the network resizes have both sizes: `3 x 64 x 64 (resized from 3 x 224 x 224)`.
    """
    side_px = record.config.model.side_px
    if not record.image or not side_px:
        return record.image
    channels, _, _ = record.image.partition(" x ")
    received = f"{channels} x {side_px} x {side_px}"
    return received if received == record.image else f"{received} (resized from {record.image})"


def split_name(record: TrialRecord) -> str:
    """Return how a training set was split, with a warning if the split is leaky."""
    leaky = " (leaky: images of one patient may be in several splits)" if record.split == "by_image" else ""
    return record.split + leaky


def span(interval: Interval | None) -> str:
    """Return the ends of an interval, `0.806-0.931`; `MISSING` for None."""
    return f"{interval.low:.3f}-{interval.high:.3f}" if interval else MISSING


def join_with_counts(texts: Sequence[Sequence[str]]) -> str:
    """Return the texts of all trials joined, each once, with its count where not all trials have it.

    Args:
        texts: Of each trial.
    """
    counts = Counter(text for trial in texts for text in dict.fromkeys(trial) if text)
    return "; ".join(
        text if count == len(texts) else f"{text} ({count} of {len(texts)} trials)" for text, count in counts.items()
    )


def metrics_by_format(scores: Scores, samples: int, seed: int) -> tuple[FormatMetrics, ...]:
    """Return metrics of each pixel format, the most frequent first; empty if there is only one format.

    Args:
        scores: Predictions of a split.
        samples: Resamples of patients behind each interval.
        seed: Of the resampling.
    """
    formats, counts = np.unique(scores.pixel_formats, return_counts=True)
    if len(formats) < 2:
        return ()
    ordered = [str(formats[index]) for index in np.argsort(-counts, kind="stable")]
    return tuple(_of_format(scores, pixel_format, samples, seed) for pixel_format in ordered)


def metrics_by_class(scores: Scores, classes: Sequence[str], samples: int, seed: int) -> tuple[ClassMetrics, ...]:
    """Return metrics of each class, in the order of the columns; empty if there is only one class.

    Args:
        scores: Predictions of a split.
        classes: Name of each column.
        samples: Resamples of patients behind each interval.
        seed: Of the resampling.
    """
    if len(classes) < 2:
        return ()
    return tuple(_of_class(scores, column, name, samples, seed) for column, name in enumerate(classes))


def _of_format(scores: Scores, pixel_format: str, samples: int, seed: int) -> FormatMetrics:
    subset = scores.where(scores.pixel_formats == pixel_format)
    draws, column = patient_resamples(subset.patients, samples, seed)
    return FormatMetrics(
        pixel_format,
        len(subset.labels),
        float(subset.labels.mean()),
        accuracy_interval(subset.correct, draws, column),
        mean_auroc(subset.scores, subset.labels),
        auroc_interval(subset.scores, subset.labels, draws, column),
    )


def _of_class(scores: Scores, column: int, name: str, samples: int, seed: int) -> ClassMetrics:
    one = slice(column, column + 1)
    draws, patient = patient_resamples(scores.patients, samples, seed)
    truth, predicted = scores.labels[:, column].astype(bool), scores.predicted[:, column]
    return ClassMetrics(
        name,
        int((~truth & ~predicted).sum()),
        int((~truth & predicted).sum()),
        int((truth & ~predicted).sum()),
        int((truth & predicted).sum()),
        auroc_interval(scores.scores[:, one], scores.labels[:, one], draws, patient),
        average_precision(scores.scores[:, column], scores.labels[:, column]) if truth.any() else None,
    )
