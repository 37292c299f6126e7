"""Scores and labels to the points of ROC, precision-recall and reliability curves."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CALIBRATION_BINS = 15
"""Of equal width, as many as the records' calibration error has."""

Points = tuple[NDArray[np.float64], NDArray[np.float64]]


def roc_points(scores: NDArray[np.floating], labels: NDArray[np.uint8]) -> Points:
    """Return false and true positive rates, 0 to 1, from the strictest threshold to the laxest.

    Args:
        scores: Higher is more likely positive, shape (rows,).
        labels: 0 or 1, both present, shape (rows,).

    Returns:
        Two arrays of shape (distinct scores + 1,); the first point is (0, 0), the last (1, 1).
    """
    true, false = _called_positive(scores, labels)
    return np.concatenate([[0.0], false / false[-1]]), np.concatenate([[0.0], true / true[-1]])


def precision_recall_points(scores: NDArray[np.floating], labels: NDArray[np.uint8]) -> Points:
    """Return recall and precision, 0 to 1, from the strictest threshold that calls anything positive to the laxest.

    Args:
        scores: Higher is more likely positive, shape (rows,).
        labels: 0 or 1, a 1 among them, shape (rows,).

    Returns:
        Two arrays of shape (distinct scores,).
    """
    true, false = _called_positive(scores, labels)
    return true / true[-1], true / (true + false)


def average_precision(scores: NDArray[np.floating], labels: NDArray[np.uint8]) -> float:
    """Return the mean of precision over the steps of recall; arguments as `precision_recall_points` has them."""
    recall, precision = precision_recall_points(scores, labels)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


@dataclass(frozen=True, eq=False)
class Reliability:
    """How often what was said with some probability was so, in bins that are not empty; arrays of shape (bins,)."""

    said: NDArray[np.float64]  # mean probability
    found: NDArray[np.float64]  # share that was so
    counts: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error, 0 to 1: mean distance of said and found, weighted by counts."""
        return float((self.counts * np.abs(self.said - self.found)).sum() / self.counts.sum())


def reliability(probabilities: NDArray[np.floating], hits: NDArray[np.integer]) -> Reliability:
    """Return the reliability of probabilities in `CALIBRATION_BINS` bins of equal width.

    Args:
        probabilities: 0 to 1, shape (rows,).
        hits: 1 where that was so, else 0, shape (rows,).

    Source:
        Guo et al., On calibration of modern neural networks, ICML 2017, arXiv:1706.04599.
    """
    bins = np.minimum((probabilities * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    counts = np.bincount(bins, minlength=CALIBRATION_BINS)
    some = counts > 0
    said = np.bincount(bins, weights=probabilities, minlength=CALIBRATION_BINS)[some] / counts[some]
    found = np.bincount(bins, weights=hits, minlength=CALIBRATION_BINS)[some] / counts[some]
    return Reliability(said, found, counts[some])


def _called_positive(scores: NDArray[np.floating], labels: NDArray[np.uint8]) -> Points:
    """Return counts of true and false positives at each distinct score, highest score first."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # last row of each group of equal scores
    true = np.cumsum(labels[order], dtype=np.float64)[last]
    return true, last + 1.0 - true
