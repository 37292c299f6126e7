"""Metrics without intervals, and the points of ROC, precision-recall and reliability curves.

scikit-learn computes the curves. It does not offer reliability bins that are closed below, with counts, as torchmetrics
and the records have them (`sklearn.calibration.calibration_curve` closes its bins above and returns no counts).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

Points = tuple[NDArray[np.float64], NDArray[np.float64]]


def area_under_roc(scores: NDArray[np.floating], labels: NDArray[np.uint8]) -> float:
    """Return AUROC without an interval, see `hemo.stats.auroc`; arrays as `roc_points` takes them."""
    return float(roc_auc_score(labels, scores))


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
