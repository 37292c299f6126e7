"""Metrics without intervals, and the points of ROC and precision-recall curves, by scikit-learn."""

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
