"""Bootstrap intervals against numbers computed by hand."""

import numpy as np
import pytest

from hemo.stats.intervals import accuracy_interval, auroc_interval, patient_resamples


def test_resamples_draw_whole_patients():
    """Three patients: each draw holds three, and rows of one patient share a column."""
    draws, column = patient_resamples(np.array(["b", "a", "b", "c"]), samples=50, seed=1)
    assert draws.shape == (50, 3)
    assert (draws.sum(axis=1) == 3).all()
    assert column.tolist() == [1, 0, 1, 2]


def test_accuracy_interval_of_two_patients():
    """Patient a: 3 of 3 right, b: 0 of 1. A resample is a+a (1), a+b (3/4) or b+b (0), in the ratio 1 : 2 : 1."""
    patients = np.array(["a", "a", "a", "b"])
    draws, column = patient_resamples(patients, samples=4000, seed=0)
    interval = accuracy_interval(np.array([1.0, 1, 1, 0]), draws, column)
    assert (interval.value, interval.low, interval.high) == (0.75, 0.0, 1.0)
    assert np.isclose(((draws @ [3, 0]) / (draws @ [3, 1]) == 0.75).mean(), 0.5, atol=0.03)


def test_one_patient_alone_gives_no_spread():
    """A patient is resampled whole: with one patient every resample is the same, however many images."""
    draws, column = patient_resamples(np.array(["a"] * 4), samples=10, seed=0)
    interval = accuracy_interval(np.array([1.0, 0, 1, 0]), draws, column)
    assert (interval.low, interval.value, interval.high) == (0.5, 0.5, 0.5)


def test_auroc_interval_is_the_mean_over_classes():
    """Class 0 is ranked perfectly, class 1 the wrong way round: (1 + 0) / 2 in every resample."""
    labels = np.tile(np.array([[1, 1], [0, 0]], np.uint8), (40, 1))
    scores = np.where(labels == 1, [[1.0, -1.0]], [[-1.0, 1.0]]).astype(np.float32)
    draws, column = patient_resamples(np.array([f"p{row}" for row in range(80)]), samples=200, seed=0)
    interval = auroc_interval(scores, labels, draws, column)
    assert interval is not None
    assert (interval.low, interval.value, interval.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [1, 0, 0, 0]])
def test_auroc_interval_needs_both_labels_in_most_resamples(labels):
    """One class only has no AUROC; one positive among four patients is missing from (3/4)^4 = 32 % of the resamples."""
    draws, column = patient_resamples(np.array(["a", "b", "c", "d"]), samples=500, seed=0)
    scores = np.arange(4, dtype=np.float32)[:, None]
    assert auroc_interval(scores, np.array(labels, np.uint8)[:, None], draws, column) is None


def test_same_seed_same_interval():
    """The resampling is a function of the seed."""
    patients = np.array([f"p{row % 7}" for row in range(30)])
    once, again, other = (patient_resamples(patients, samples=20, seed=seed)[0] for seed in (3, 3, 4))
    assert (once == again).all()
    assert not (once == other).all()
