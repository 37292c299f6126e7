"""ROC, precision-recall and reliability, point by point."""

import numpy as np
import pytest

from hemo.stats.curves import CALIBRATION_BINS, average_precision, precision_recall_points, reliability, roc_points
from hemo.training import metrics

SCORES = np.array([0.6, 0.9, 0.7, 0.8], np.float32)
LABELS = np.array([0, 1, 1, 0], np.uint8)


def test_roc_goes_up_for_each_positive_and_right_for_each_negative():
    """By falling score the labels are 1, 0, 1, 0."""
    false, true = roc_points(SCORES, LABELS)
    assert false.tolist() == [0, 0, 0.5, 0.5, 1]
    assert true.tolist() == [0, 0.5, 0.5, 1, 1]


def test_equal_scores_are_one_step():
    false, true = roc_points(np.array([0.9, 0.9, 0.1]), np.array([1, 0, 0], np.uint8))
    assert (false.tolist(), true.tolist()) == ([0, 0.5, 1], [0, 1, 1])


def test_precision_at_each_recall():
    """Called positive 1, 2, 3, 4 images, of them right 1, 1, 2, 2."""
    recall, precision = precision_recall_points(SCORES, LABELS)
    assert recall.tolist() == [0.5, 0.5, 1, 1]
    assert precision.tolist() == [1, 1 / 2, 2 / 3, 2 / 4]
    assert average_precision(SCORES, LABELS) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_reliability_by_hand():
    """Of two said .1 one was so; .9 and 1.0 were: the error is (2 x .4 + 1 x .1 + 1 x 0) / 4."""
    found = reliability(np.array([0.1, 0.1, 0.9, 1.0]), np.array([0, 1, 1, 1]))
    np.testing.assert_allclose(found.said, [0.1, 0.9, 1.0])
    np.testing.assert_allclose(found.found, [0.5, 1.0, 1.0])
    assert found.counts.tolist() == [2, 1, 1]
    assert found.error == pytest.approx(0.225)


def test_bins_are_those_of_the_records():
    assert CALIBRATION_BINS == metrics.CALIBRATION_BINS
