"""Accuracy and AUROC of predictions, with 95 % intervals by a bootstrap over patients."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
MAX_UNDEFINED = 0.05
"""Share of resamples without both labels above which AUROC gets no interval: too few patients to resample."""
CHUNK_ELEMENTS = 4_000_000
"""Elements of the largest temporary array (resamples x rows)."""


@dataclass(frozen=True)
class Interval:
    """A figure, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def patient_resamples(
    patients: NDArray[np.str_], samples: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw whole patients with replacement, as many as there are.

    Args:
        patients: Patient of each row, shape (rows,).
        samples: Number of resamples.
        seed: Of the draw.

    Returns:
        How often each patient was drawn, shape (samples, patients); and the patient's column of each row, (rows,).

    Source:
        Field and Welsh, Bootstrapping clustered data, J. R. Stat. Soc. B 69 (2007): resampling of whole clusters.
    """
    unique, column = np.unique(patients, return_inverse=True)
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(len(unique), np.full(len(unique), 1 / len(unique)), size=samples)
    return draws.astype(np.int64), column.astype(np.int64)


def accuracy_interval(correct: NDArray[np.float64], draws: NDArray[np.int64], column: NDArray[np.int64]) -> Interval:
    """Return the mean of `correct` over images with its percentile interval.

    Args:
        correct: Share of the classes predicted rightly in each row, 0 to 1, shape (rows,).
        draws: Shape (samples, patients), see `patient_resamples`.
        column: Patient column of each row, shape (rows,).
    """
    images = np.bincount(column, minlength=draws.shape[1])
    right = np.bincount(column, weights=correct, minlength=draws.shape[1])
    return percentile(float(correct.mean()), (draws @ right) / (draws @ images))


def auroc_interval(
    scores: NDArray[np.float32], labels: NDArray[np.uint8], draws: NDArray[np.int64], column: NDArray[np.int64]
) -> Interval | None:
    """Return the mean AUROC over classes with its percentile interval; None where there is none.

    Args:
        scores: Higher is more likely positive, shape (rows, classes).
        labels: 0 or 1, shape (rows, classes).
        draws: Shape (samples, patients), see `patient_resamples`.
        column: Patient column of each row, shape (rows,).

    A class with one label only has no AUROC and does not count. Nor do resamples in which that befalls a class; if they
    are more than `MAX_UNDEFINED` of all, there is no interval.
    """
    classes = _with_both_labels(labels)
    value = mean_auroc(scores, labels)
    if value is None:
        return None
    resampled = np.concatenate(
        [_mean_auroc(scores, labels, classes, weights) for weights in _row_weights(draws, column)]
    )
    defined = resampled[~np.isnan(resampled)]
    return percentile(value, defined) if len(defined) >= (1 - MAX_UNDEFINED) * len(resampled) else None


def mean_auroc(scores: NDArray[np.float32], labels: NDArray[np.uint8]) -> float | None:
    """Return the mean AUROC over the classes with both labels, None if there is none; arrays as `auroc_interval`'s."""
    classes = _with_both_labels(labels)
    if not classes:
        return None
    return float(_mean_auroc(scores, labels, classes, np.ones((1, len(labels)), np.float64))[0])


def _with_both_labels(labels: NDArray[np.uint8]) -> list[int]:
    return [k for k in range(labels.shape[1]) if 0 < labels[:, k].sum() < len(labels)]


def _mean_auroc(
    scores: NDArray[np.float32], labels: NDArray[np.uint8], classes: list[int], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    areas = [weighted_auroc(scores[:, k], labels[:, k], weights) for k in classes]
    return np.asarray(np.mean(areas, axis=0))


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


def _row_weights(draws: NDArray[np.int64], column: NDArray[np.int64]) -> Iterator[NDArray[np.float64]]:
    """Yield row weights of shape (some samples, rows), a bounded number of elements at a time."""
    step = max(1, CHUNK_ELEMENTS // len(column))
    for start in range(0, len(draws), step):
        yield draws[start : start + step, column].astype(np.float64)


def percentile(value: float, resampled: NDArray[np.float64]) -> Interval:
    """Return `value` with the ends between which `CONFIDENCE` of the resampled values lie, shape (samples,)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(value, float(low), float(high))
