"""Stored predictions of one split as arrays, sorted by image: patients, labels, scores, predicted classes, losses."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hemo.stats.calibration import Calibration, calibrated_logits, to_probabilities
from hemo.training.results import DEFAULT_THRESHOLD, applied_thresholds, column_weights
from hemo.trials.record import TrialRecord


@dataclass(frozen=True, eq=False)
class Scores:
    """Predictions of one split, row by row; of the same images, rows and numbers of patients are the same."""

    patients: NDArray[np.int64]  # (rows,), number of the patient, from 0 and none left out
    labels: NDArray[np.uint8]  # (rows, classes), 0 or 1
    scores: NDArray[np.float32]  # (rows, classes), log odds: higher is more likely positive
    probabilities: NDArray[np.float64]  # (rows, classes), 0 to 1, calibrated unless `split_scores` was called otherwise
    predicted: NDArray[np.bool_]  # (rows, classes), at the applied thresholds; of exclusive classes the most probable
    log_losses: NDArray[np.float64]  # (rows, classes), natural logarithm; of exclusive classes (rows, 1)
    pixel_formats: NDArray[np.str_]  # (rows,)
    exclusive: bool  # whether each row has one class only
    images: str  # digest of the images' ids, their patients and labels

    @property
    def hits(self) -> NDArray[np.bool_]:
        """What is predicted correctly: each class of each row, shape (rows, classes); of exclusive ones (rows, 1)."""
        correct = self.predicted == self.labels
        return np.asarray(correct.all(axis=1, keepdims=True) if self.exclusive else correct)

    @property
    def majority_accuracy(self) -> float:
        """Accuracy, 0 to 1, of always predicting the most frequent class of this split."""
        fraction = self.labels.mean(axis=0)
        return float(fraction.max() if self.exclusive else np.maximum(fraction, 1 - fraction).mean())

    def image_log_loss(self, weights: list[float] | None = None) -> NDArray[np.float64]:
        """Return the log loss of each row, shape (rows,): the mean of its classes, weighted if `weights` are given."""
        return np.average(self.log_losses, axis=1, weights=None if self.exclusive else weights)

    def where(self, mask: NDArray[np.bool_]) -> "Scores":
        """Return the rows where `mask`, shape (rows,), is true, at least one."""
        arrays = ("labels", "scores", "probabilities", "predicted", "log_losses", "pixel_formats")
        return replace(
            self,
            patients=np.unique(self.patients[mask], return_inverse=True)[1],
            **{name: getattr(self, name)[mask] for name in arrays},
        )


def split_rows(predictions: pa.Table, split: str) -> pa.Table:
    """Return the rows of one split, sorted by image: the order of `Scores`."""
    return predictions.filter(pc.equal(predictions["split"], pa.scalar(split))).sort_by("image_id")


def split_scores(predictions: pa.Table, split: str, record: TrialRecord, *, calibrated: bool = True) -> Scores | None:
    """Return the predictions of one split; None if it was not predicted.

    Args:
        predictions: Columns of `PREDICTION_SCHEMA`.
        split: `val` or `test`.
        record: The trial they belong to; its task, calibration and thresholds decide what is predicted.
        calibrated: Whether probabilities are calibrated; else they are as trained, and the threshold is 0.5, as in
            each epoch.
    """
    rows = split_rows(predictions, split)
    if not rows.num_rows:
        return None
    calibration = record.calibration if calibrated else Calibration()
    thresholds = applied_thresholds(record.thresholds) if calibrated else (DEFAULT_THRESHOLD,)
    return scores_of(
        rows, exclusive=record.config.task == "multi_class", calibration=calibration, thresholds=thresholds
    )


def scores_of(rows: pa.Table, *, exclusive: bool, calibration: Calibration, thresholds: Sequence[float]) -> Scores:
    """Return stored logits and labels as scores.

    Args:
        rows: Columns `image_id`, `patient`, `pixel_format`, `labels`, and `logits` as trained; at least one row.
        exclusive: Whether each row has one class only.
        calibration: Of the logits.
        thresholds: Above which a class is predicted: one a class, or one for all; not used of exclusive classes.
    """
    logits, labels = matrix(rows, "logits").astype(np.float32), matrix(rows, "labels").astype(np.uint8)
    final = calibrated_logits(logits, calibration, exclusive=exclusive)
    probabilities = to_probabilities(final, exclusive=exclusive)
    # not probabilities, and logits as trained where calibration keeps the order of images: rounding must not make two
    # of them equal
    scores = _log_odds(final) if exclusive else final if calibration.couples_classes else logits
    patients = rows["patient"].combine_chunks().dictionary_encode()
    return Scores(
        patients=np.asarray(patients.indices, np.int64),
        labels=labels,
        scores=scores.astype(np.float32),
        probabilities=probabilities,
        predicted=_largest(final) if exclusive else probabilities > np.asarray(thresholds),
        log_losses=_log_losses(final, labels == 1, exclusive),
        pixel_formats=np.asarray(rows["pixel_format"].to_pylist(), dtype=np.str_),
        exclusive=exclusive,
        images=_digest(rows, labels),
    )


def log_loss_weights(record: TrialRecord) -> list[float]:
    """Return how often each class counts in the metric `log_loss` of a trial."""
    return column_weights(record.classes)


def _digest(rows: pa.Table, labels: NDArray[np.uint8]) -> str:
    texts = [*rows["image_id"].to_pylist(), *rows["patient"].to_pylist()]
    return hashlib.blake2b("\0".join(texts).encode() + labels.tobytes(), digest_size=16).hexdigest()


def matrix(rows: pa.Table, name: str) -> NDArray[np.generic]:
    """Return a list column whose lists are equally long as an array of shape (rows, classes)."""
    return np.asarray(pc.list_flatten(rows[name])).reshape(rows.num_rows, -1)


def _largest(logits: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return true at the largest logit of each row, the first of equal ones."""
    return np.asarray(logits.argmax(axis=1)[:, None] == np.arange(logits.shape[1]))


def _log_odds(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log odds of each of exclusive classes against all others together, shape (rows, classes)."""
    others = [np.logaddexp.reduce(np.delete(logits, column, axis=1), axis=1) for column in range(logits.shape[1])]
    return np.asarray(logits - np.stack(others, axis=1))


def _log_losses(logits: NDArray[np.float64], present: NDArray[np.bool_], exclusive: bool) -> NDArray[np.float64]:
    """Return cross entropy by image, or binary cross entropy by image and class."""
    if exclusive:
        return np.asarray(np.logaddexp.reduce(logits, axis=1, keepdims=True) - logits[present][:, None])
    return np.asarray(np.logaddexp(0, np.where(present, -logits, logits)))
