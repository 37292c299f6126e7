"""Resampling of patients: metrics of many resamples at once, and the choice of a model corrected for its optimism.

Whole patients are drawn with replacement, as many as there are. A resample is then a weight of each patient, and sums
over its images are products of a matrix with these weights.

Source:
    Field and Welsh, Bootstrapping clustered data, J. R. Stat. Soc. B 69 (2007): resampling of whole clusters.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

CHUNK = 16
"""Resamples at a time: their weights stay in the processor's cache."""


@lru_cache(maxsize=8)
def patient_draws(patients: int, samples: int, seed: int) -> NDArray[np.float64]:
    """Return how often each patient is drawn in each resample, shape (patients, samples); not to be written to."""
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(patients, np.full(patients, 1 / patients), size=samples).T.astype(np.float64)
    draws.flags.writeable = False
    return draws


def resampled_means(
    values: NDArray[np.floating], patients: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean over images in each resample, NaN in one without any.

    Args:
        values: Of each image, shape (images,).
        patients: Of each image, shape (images,).
        weights: Of each patient, shape (patients, samples).
    """
    sums = np.bincount(patients, weights=values, minlength=len(weights)) @ weights
    return _ratio(sums, np.bincount(patients, minlength=len(weights)) @ weights)


def resampled_ranking(
    scores: NDArray[np.floating], labels: NDArray[np.integer], patients: NDArray[np.int64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return AUROC and average precision in each resample, means over the classes with both labels.

    Args:
        scores: Higher is more likely positive, shape (images, classes).
        labels: 0 or 1, shape (images, classes); a class with both labels at least.
        patients: Of each image, shape (images,).
        weights: Of each patient, shape (patients, samples).

    Returns:
        Two arrays of shape (samples,). AUROC is NaN where a resample leaves a class with one label, average precision
        where it leaves a class without positives; without negatives that of a class is 1.
    """
    classes = [k for k in range(labels.shape[1]) if 0 < labels[:, k].sum() < len(labels)]
    parts = [_ranking_of_class(scores[:, k], labels[:, k] == 1, patients, weights) for k in classes]
    return np.mean([area for area, _ in parts], axis=0), np.mean([precision for _, precision in parts], axis=0)


def _ranking_of_class(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], patients: NDArray[np.int64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return AUROC and average precision of one class; arrays of images of shape (images,).

    Only the distinct scores of positives matter. The matrices, (distinct scores x patients), hold the images that each
    patient has at a score, or between it and the one before.
    """
    steps, at = np.unique(scores[positive], return_inverse=True)
    shape = (len(steps) + 1, len(weights))  # the last row: above all positives
    up_to, below = (np.searchsorted(steps, scores[~positive], side) for side in ("left", "right"))
    positives = _counts(at, patients[positive], shape)
    not_above = _counts(up_to, patients[~positive], shape)
    lower = not_above if np.array_equal(up_to, below) else _counts(below, patients[~positive], shape)
    parts = []
    for start in range(0, weights.shape[1], CHUNK):
        part = np.ascontiguousarray(weights[:, start : start + CHUNK])
        ties = None if lower is not_above else lower @ part
        parts.append(_areas(positives @ part, not_above @ part, ties))
    areas, precisions = zip(*parts, strict=True)
    return np.concatenate(areas), np.concatenate(precisions)


def _counts(rows: NDArray[np.int64], patients: NDArray[np.int64], shape: tuple[int, int]) -> csr_array:
    return csr_array((np.ones(len(rows)), (rows, patients)), shape=shape)


def _areas(
    positives: NDArray[np.float64], not_above: NDArray[np.float64], below: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return AUROC and average precision of each resample.

    Args:
        positives: Their weight at each distinct score, ascending, shape (scores + 1, samples).
        not_above: Weight of negatives that first count as not above a positive at that score, same shape.
        below: Likewise of those that first count as below; None where these are the same.
    """
    total_positive, total_negative = positives.sum(axis=0), not_above.sum(axis=0)
    middle = lower = np.cumsum(not_above if below is None else below, axis=0)
    if below is not None:
        middle = (lower + np.cumsum(not_above, axis=0)) / 2
    area = _ratio((positives * middle).sum(axis=0), total_positive * total_negative)
    true_positives = total_positive - np.cumsum(positives, axis=0) + positives
    precision = _ratio(true_positives, true_positives + total_negative - lower, empty=0.0)
    return area, _ratio((positives * precision).sum(axis=0), total_positive)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64], empty: float = np.nan) -> NDArray[np.float64]:
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(part), empty), where=whole > 0))


def crossed_resamples(resampled: NDArray[np.float64], cells: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Return the mean over seeds of each cell in resamples of patients and seeds, shape (cells, samples).

    In each resample of patients as many seeds of a cell are drawn with replacement as it has. Such means vary too
    little over seeds, by the factor (seeds - 1) / seeds, and too much where seeds differ only by chance of these
    patients, which both drawings repeat.

    Args:
        resampled: A metric of each model in resamples of patients, the same for all, shape (models, samples).
        cells: Number of each model's cell, from 0 and none left out, shape (models,).
        seed: Of the generator.

    Source:
        Owen, The pigeonhole bootstrap, Ann. Appl. Stat. 1 (2007), section 1: both factors of a crossed design are
        resampled independently.
    """
    generator, samples = np.random.default_rng(seed), resampled.shape[1]
    means = np.empty((int(cells.max()) + 1, samples))
    for cell in range(len(means)):
        models = resampled[cells == cell]
        drawn = generator.multinomial(len(models), np.full(len(models), 1 / len(models)), size=samples)
        means[cell] = (drawn.T * models).sum(axis=0) / len(models)
    return means


def corrected_choice(
    in_bag: NDArray[np.float64], out_of_bag: NDArray[np.float64], *, less_is_better: bool
) -> float | None:
    """Return what the chosen trial may be expected to reach on new patients, corrected for having been chosen.

    In each resample the best trial is chosen anew, and evaluated on the patients that were not drawn; the result is the
    mean over the resamples.

    Args:
        in_bag: The metric of each trial on the patients drawn, shape (samples, trials).
        out_of_bag: On the others, same shape.
        less_is_better: Whether the metric is a loss.

    Returns:
        None where no resample has the metric of all trials on both sides.

    Source:
        Tsamardinos, Greasidou and Borboudakis, Bootstrapping the out-of-sample predictions for efficient and accurate
        cross-validation, Machine Learning 107 (2018): BBC-CV, here of one validation split.
    """
    defined = ~np.isnan(in_bag).any(axis=1) & ~np.isnan(out_of_bag).any(axis=1)
    if not defined.any():
        return None
    known = in_bag[defined]
    chosen = known.argmin(axis=1) if less_is_better else known.argmax(axis=1)
    return float(out_of_bag[defined][np.arange(len(chosen)), chosen].mean())
