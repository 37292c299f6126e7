"""AUROC, average precision and calibration error, and the points of ROC, precision-recall and reliability curves.

scikit-learn computes the curves. It does not offer AUROC for many sets of row weights at once, which the bootstrap
needs, nor reliability bins that are closed below, with counts, as torchmetrics and the records have them
(`sklearn.calibration.calibration_curve` closes its bins above and returns no counts).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

Points = tuple[NDArray[np.float64], NDArray[np.float64]]


def weighted_auroc(
    scores: NDArray[np.floating], labels: NDArray[np.uint8], weights: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the area under the ROC curve, ties counted half, once for each set of row weights.

    Args:
        scores: Higher is more likely positive, shape (rows,).
        labels: 0 or 1, shape (rows,).
        weights: How often each row counts, shape (sets, rows).

    Returns:
        Shape (sets,), 0 to 1; NaN where positives or negatives have no weight.

    Source:
        Hanley and McNeil, Radiology 143 (1982): the area is the Wilcoxon statistic.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # first row of each group of equal scores
    ordered, positive = weights[:, order], labels[order].astype(np.float64)
    positives = np.add.reduceat(ordered * positive, starts, axis=1)
    negatives = np.add.reduceat(ordered * (1 - positive), starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    areas: NDArray[np.float64] = np.full(len(pairs), np.nan)
    np.divide((positives * below).sum(axis=1), pairs, out=areas, where=pairs > 0)
    return areas


def weighted_mean_auroc(
    scores: NDArray[np.float32], labels: NDArray[np.uint8], weights: NDArray[np.floating]
) -> NDArray[np.float64] | None:
    """Return the mean AUROC over the classes with both labels, once for each set of row weights.

    Args:
        scores: Higher is more likely positive, shape (rows, classes).
        labels: 0 or 1, shape (rows, classes).
        weights: How often each row counts, shape (sets, rows).

    Returns:
        Shape (sets,), 0 to 1; NaN where the weights leave a class with one label. None if no class has both labels.
    """
    classes = [k for k in range(labels.shape[1]) if 0 < labels[:, k].sum() < len(labels)]
    if not classes:
        return None
    return np.asarray(np.mean([weighted_auroc(scores[:, k], labels[:, k], weights) for k in classes], axis=0))


def mean_auroc(scores: NDArray[np.float32], labels: NDArray[np.uint8]) -> float | None:
    """Return the mean AUROC over the classes with both labels, None without one; arrays of shape (rows, classes)."""
    areas = weighted_mean_auroc(scores, labels, np.ones((1, len(labels))))
    return None if areas is None else float(areas[0])


def average_precision(scores: NDArray[np.floating], labels: NDArray[np.uint8]) -> float:
    """Return the mean of precision weighted by the steps of recall; arrays as `precision_recall_points` takes them."""
    return float(average_precision_score(labels, scores))


def roc_points(scores: NDArray[np.floating], labels: NDArray[np.uint8]) -> Points:
    """Return false and true positive rates, 0 to 1, from the highest threshold to the lowest.

    Args:
        scores: Higher is more likely positive, shape (rows,).
        labels: 0 or 1, both present, shape (rows,).

    Returns:
        Two arrays of shape (distinct scores + 1,); the first point is (0, 0), the last (1, 1).
    """
    false_positive_rate, true_positive_rate, _ = roc_curve(labels, scores, drop_intermediate=False)
    return false_positive_rate, true_positive_rate


def precision_recall_points(scores: NDArray[np.floating], labels: NDArray[np.uint8]) -> Points:
    """Return recall and precision, 0 to 1, from the highest score as threshold to the lowest.

    Args:
        scores: Higher is more likely positive, shape (rows,).
        labels: 0 or 1, at least one 1, shape (rows,).

    Returns:
        Two arrays of shape (distinct scores,), without the point (0, 1) that scikit-learn adds.
    """
    precision, recall, _ = precision_recall_curve(labels, scores)
    return recall[-2::-1], precision[-2::-1]


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predicted probability and observed frequency in the bins that are not empty; arrays of shape (bins,)."""

    predicted: NDArray[np.float64]  # mean probability, 0 to 1
    observed: NDArray[np.float64]  # fraction of positives, 0 to 1
    counts: NDArray[np.int64]

    @property
    def calibration_error(self) -> float:
        """Expected calibration error (ECE), 0 to 1: mean |predicted - observed|, weighted by counts."""
        return float((self.counts * np.abs(self.predicted - self.observed)).sum() / self.counts.sum())


def reliability(probabilities: NDArray[np.floating], outcomes: NDArray[np.integer], bins: int) -> Reliability:
    """Return the reliability of probabilities in bins of equal width, each closed below.

    Args:
        probabilities: 0 to 1, shape (rows,).
        outcomes: 1 where the predicted event occurred, else 0, shape (rows,).
        bins: Their number.

    Source:
        Guo et al., On calibration of modern neural networks, ICML 2017, arXiv:1706.04599.
    """
    index = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    counts = np.bincount(index, minlength=bins)
    filled = counts > 0
    predicted = np.bincount(index, weights=probabilities, minlength=bins)[filled] / counts[filled]
    observed = np.bincount(index, weights=outcomes, minlength=bins)[filled] / counts[filled]
    return Reliability(predicted, observed, counts[filled])
