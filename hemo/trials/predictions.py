"""Stored predictions of one split as arrays: patients, labels, scores, and which predictions are correct."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hemo.training.results import applied_thresholds
from hemo.trials.record import TrialRecord


@dataclass(frozen=True, eq=False)
class Scores:
    """Predictions of one split, row by row."""

    image_ids: NDArray[np.str_]  # (rows,)
    patients: NDArray[np.str_]  # (rows,)
    labels: NDArray[np.uint8]  # (rows, classes), 0 or 1
    scores: NDArray[np.float32]  # (rows, classes), higher is more likely positive
    probabilities: NDArray[np.float64]  # (rows, classes), 0 to 1
    predicted: NDArray[np.bool_]  # (rows, classes), at the applied thresholds; of exclusive classes the most probable
    pixel_formats: NDArray[np.str_]  # (rows,)
    exclusive: bool  # whether each row has one class only

    @property
    def correct(self) -> NDArray[np.float64]:
        """Fraction of the classes predicted correctly in each row, 0 to 1, shape (rows,); of exclusive ones 0 or 1."""
        correct = self.predicted == self.labels
        return correct.all(axis=1).astype(np.float64) if self.exclusive else np.asarray(correct.mean(axis=1))

    @property
    def majority_accuracy(self) -> float:
        """Accuracy, 0 to 1, of always predicting the most frequent class of this split."""
        fraction = self.labels.mean(axis=0)
        return float(fraction.max() if self.exclusive else np.maximum(fraction, 1 - fraction).mean())

    def where(self, mask: NDArray[np.bool_]) -> "Scores":
        """Return the rows where `mask`, shape (rows,), is true."""
        return Scores(
            self.image_ids[mask],
            self.patients[mask],
            self.labels[mask],
            self.scores[mask],
            self.probabilities[mask],
            self.predicted[mask],
            self.pixel_formats[mask],
            self.exclusive,
        )


def split_scores(predictions: pa.Table, split: str, record: TrialRecord) -> Scores | None:
    """Return the predictions of one split; None if it was not predicted.

    Args:
        predictions: Columns of `PREDICTION_SCHEMA`.
        split: `val` or `test`.
        record: The trial they belong to; its task and thresholds decide what is predicted.
    """
    rows = predictions.filter(pc.equal(predictions["split"], pa.scalar(split)))
    if not rows.num_rows:
        return None
    logits, labels = _matrix(rows, "logits").astype(np.float32), _matrix(rows, "labels").astype(np.uint8)
    exclusive = record.config.task == "multi_class"
    probabilities = _softmax(logits) if exclusive else _sigmoid(logits)
    return Scores(
        image_ids=np.asarray(rows["image_id"].to_pylist(), dtype=np.str_),
        patients=np.asarray(rows["patient"].to_pylist(), dtype=np.str_),
        labels=labels,
        scores=probabilities.astype(np.float32) if exclusive else logits,
        probabilities=probabilities,
        predicted=_largest(logits) if exclusive else probabilities > np.asarray(applied_thresholds(record.thresholds)),
        pixel_formats=np.asarray(rows["pixel_format"].to_pylist(), dtype=np.str_),
        exclusive=exclusive,
    )


def _matrix(rows: pa.Table, name: str) -> NDArray[np.generic]:
    """Return a list column whose lists are equally long as an array of shape (rows, classes)."""
    return np.asarray(pc.list_flatten(rows[name])).reshape(rows.num_rows, -1)


def _largest(logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return true at the largest logit of each row, the first of equal ones."""
    return np.asarray(logits.argmax(axis=1)[:, None] == np.arange(logits.shape[1]))


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -700, 700)))


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    raised = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float64))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
