"""95 % intervals of accuracy and AUROC, by a bootstrap over patients."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hemo.stats.metrics import mean_auroc, weighted_mean_auroc

CONFIDENCE = 0.95
MAX_UNDEFINED = 0.05
"""Fraction of resamples without both labels above which AUROC has no interval: too few patients to resample."""
CHUNK_ELEMENTS = 4_000_000
"""Elements of the largest temporary array (resamples x rows)."""


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95 % interval."""

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
        seed: Of the random generator.

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
        correct: Fraction of the classes predicted correctly in each row, 0 to 1, shape (rows,).
        draws: Shape (samples, patients), see `patient_resamples`.
        column: Patient column of each row, shape (rows,).
    """
    images = np.bincount(column, minlength=draws.shape[1])
    sums = np.bincount(column, weights=correct, minlength=draws.shape[1])
    return percentile_interval(float(correct.mean()), (draws @ sums) / (draws @ images))


def auroc_interval(
    scores: NDArray[np.float32], labels: NDArray[np.uint8], draws: NDArray[np.int64], column: NDArray[np.int64]
) -> Interval | None:
    """Return the mean AUROC over classes with its percentile interval; None if it is not defined.

    A class with only one label has no AUROC and is left out. Resamples in which a class has only one label are left
    out as well; if they are more than `MAX_UNDEFINED` of all, there is no interval.

    Args:
        scores: Higher is more likely positive, shape (rows, classes).
        labels: 0 or 1, shape (rows, classes).
        draws: Shape (samples, patients), see `patient_resamples`.
        column: Patient column of each row, shape (rows,).
    """
    value = mean_auroc(scores, labels)
    if value is None:
        return None
    parts = [weighted_mean_auroc(scores, labels, weights) for weights in _row_weights(draws, column)]
    resampled = np.concatenate([part for part in parts if part is not None])
    defined = resampled[~np.isnan(resampled)]
    return percentile_interval(value, defined) if len(defined) >= (1 - MAX_UNDEFINED) * len(resampled) else None


def _row_weights(draws: NDArray[np.int64], column: NDArray[np.int64]) -> Iterator[NDArray[np.float64]]:
    """Yield row weights of shape (some samples, rows), a bounded number of elements at a time."""
    step = max(1, CHUNK_ELEMENTS // len(column))
    for start in range(0, len(draws), step):
        yield draws[start : start + step, column].astype(np.float64)


def percentile_interval(value: float, resampled: NDArray[np.float64]) -> Interval:
    """Return `value` with the ends between which `CONFIDENCE` of the resampled values lie, shape (samples,)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(value, float(low), float(high))
