"""Stored predictions of one split as arrays: who, what was true, what was scored, what was right."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hemo.study.intervals import mean_auroc
from hemo.study.record import TrialRecord


@dataclass(frozen=True)
class Scores:
    """Predictions of one split, row by row."""

    patients: NDArray[np.str_]  # (rows,)
    labels: NDArray[np.uint8]  # (rows, classes), 0 or 1
    scores: NDArray[np.float32]  # (rows, classes), higher is more likely positive
    correct: NDArray[np.float64]  # (rows,), share of the classes predicted rightly, 0 to 1
    pixel_formats: NDArray[np.str_]  # (rows,)
    majority_accuracy: float  # of always giving the commonest answer of this split, 0 to 1


def split_scores(predictions: pa.Table, split: str, record: TrialRecord) -> Scores | None:
    """Return the predictions of one split; None if it was not predicted.

    Args:
        predictions: Columns of `PREDICTION_SCHEMA`.
        split: `val` or `test`.
        record: The trial they belong to; its task and thresholds decide what is right.
    """
    rows = predictions.filter(pc.equal(predictions["split"], pa.scalar(split)))
    if not rows.num_rows:
        return None
    logits, labels = _matrix(rows, "logits").astype(np.float32), _matrix(rows, "labels").astype(np.uint8)
    exclusive = record.config.task == "multi_class"
    if exclusive:
        correct = (logits.argmax(axis=1) == labels.argmax(axis=1)).astype(np.float64)
        majority = labels.mean(axis=0).max()
    else:
        correct = ((_sigmoid(logits) > np.asarray(record.thresholds)) == labels).mean(axis=1)
        majority = np.maximum(labels.mean(axis=0), 1 - labels.mean(axis=0)).mean()
    patients = np.asarray(rows["patient"].to_pylist(), dtype=np.str_)
    formats = np.asarray(rows["pixel_format"].to_pylist(), dtype=np.str_)
    return Scores(patients, labels, _softmax(logits) if exclusive else logits, correct, formats, float(majority))


@dataclass(frozen=True)
class FormatFigures:
    """How the images of one pixel format did: where the format goes with the label, a model may learn the format."""

    pixel_format: str
    images: int
    positive: float  # share of labels that are 1, 0 to 1
    accuracy: float
    auroc: float | None  # None where no class has both labels


def figures_by_format(scores: Scores) -> tuple[FormatFigures, ...]:
    """Return figures of each pixel format, commonest first; empty if there is one format only."""
    formats, counts = np.unique(scores.pixel_formats, return_counts=True)
    if len(formats) < 2:
        return ()
    return tuple(_of_format(scores, str(formats[at])) for at in np.argsort(-counts, kind="stable"))


def _of_format(scores: Scores, pixel_format: str) -> FormatFigures:
    rows = scores.pixel_formats == pixel_format
    labels = scores.labels[rows]
    auroc = mean_auroc(scores.scores[rows], labels)
    return FormatFigures(pixel_format, len(labels), float(labels.mean()), float(scores.correct[rows].mean()), auroc)


def _matrix(rows: pa.Table, name: str) -> NDArray[np.generic]:
    """Return a list column whose lists are equally long as an array of shape (rows, classes)."""
    return np.asarray(pc.list_flatten(rows[name])).reshape(rows.num_rows, -1)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -700, 700)))


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), dtype=np.float32)
