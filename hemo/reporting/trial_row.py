"""One trial as the row of a table: its record, and what its predictions on test say."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hemo.stats.intervals import Interval, accuracy_interval, auroc_interval, patient_resamples
from hemo.trials.predictions import Scores, split_scores
from hemo.trials.record import TrialRecord, read_predictions

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class ByPatient:
    """Test images of each patient, and how many were right; patients sorted, arrays of shape (patients,)."""

    patients: NDArray[np.str_]
    images: NDArray[np.int64]
    right: NDArray[np.float64]  # images, or shares of them where an image has several classes

    def same_images(self, other: "ByPatient") -> bool:
        """Tell whether as many images of the same patients were tested."""
        return np.array_equal(self.patients, other.patients) and np.array_equal(self.images, other.images)


@dataclass(frozen=True, eq=False)
class Row:
    """One trial, and what its predictions on test say; None where test was not read."""

    record: TrialRecord
    accuracy: Interval | None = None
    auroc: Interval | None = None
    majority_accuracy: float | None = None
    by_patient: ByPatient | None = None


def image_of(record: TrialRecord) -> str:
    """Return the images that a trial's network saw, such as `3 x 64 x 64`; empty if the record does not tell.

    Where the network shrinks them, what they are stored as is said behind: `3 x 64 x 64 (shrunk from 3 x 224 x 224)`.
    """
    side_px = record.config.model.side_px
    if not record.image or not side_px:
        return record.image
    channels, _, _ = record.image.partition(" x ")
    seen = f"{channels} x {side_px} x {side_px}"
    return seen if seen == record.image else f"{seen} (shrunk from {record.image})"


def figures_of(record: TrialRecord, split: str) -> dict[str, float]:
    """Return metric -> value of a split: in the end, or of the best epoch for a trial that was stopped before it."""
    if split in record.metrics or split == "test" or not record.best_epoch:
        return record.metrics.get(split, {})
    best = record.epochs[record.best_epoch - 1]
    return best.train if split == "train" else best.val


def read_row(record: TrialRecord, folder: str, samples: int, seed: int) -> Row:
    """Return a trial with intervals from its predictions on test, where it has any.

    Args:
        record: The trial.
        folder: Folder of records, where the predictions lie.
        samples: Resamples of patients behind each interval.
        seed: Of the resampling.

    Raises:
        SourceError: If test was read and its predictions cannot be.
    """
    test = read_test(record, folder)
    if test is None:
        return Row(record)
    draws, column = patient_resamples(test.patients, samples, seed)
    return Row(
        record,
        accuracy_interval(test.correct, draws, column),
        auroc_interval(test.scores, test.labels, draws, column),
        test.majority_accuracy,
        _by_patient(test, column),
    )


def read_test(record: TrialRecord, folder: str) -> Scores | None:
    """Return a trial's predictions on test; None where test was not read."""
    if "test" not in record.metrics:
        return None
    return split_scores(read_predictions(folder, record.digest), "test", record)


def _by_patient(test: Scores, column: NDArray[np.int64]) -> ByPatient:
    right: NDArray[np.float64] = np.bincount(column, weights=test.correct).astype(np.float64)
    return ByPatient(np.unique(test.patients), np.bincount(column), right)
