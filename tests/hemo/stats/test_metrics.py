"""ROC, precision-recall and reliability against values computed by hand."""

import numpy as np
import pytest
import torch
from torchmetrics.functional import classification as tm

from hemo.stats import CALIBRATION_BINS
from hemo.stats.metrics import (
    area_under_roc,
    average_precision,
    precision_recall_points,
    reliability,
    roc_points,
)

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
    """Predicted positive 1, 2, 3, 4 images; TP 1, 1, 2, 2."""
    recall, precision = precision_recall_points(SCORES, LABELS)
    assert recall.tolist() == [0.5, 0.5, 1, 1]
    assert precision.tolist() == [1, 1 / 2, 2 / 3, 2 / 4]
    assert average_precision(SCORES, LABELS) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_reliability_by_hand():
    """Predicted .1 twice, once positive; .9 and 1.0 both positive: ECE is (2 x .4 + 1 x .1 + 1 x 0) / 4."""
    diagram = reliability(np.array([0.1, 0.1, 0.9, 1.0]), np.array([0, 1, 1, 1]), bins=15)
    np.testing.assert_allclose(diagram.predicted, [0.1, 0.9, 1.0])
    np.testing.assert_allclose(diagram.observed, [0.5, 1.0, 1.0])
    assert diagram.counts.tolist() == [2, 1, 1]
    assert diagram.calibration_error == pytest.approx(0.225)


def test_a_probability_on_the_edge_of_a_bin_belongs_to_the_upper_bin():
    """Two bins, edge 0.5: scikit-learn's `calibration_curve` would put both rows into the lower one."""
    assert reliability(np.array([0.25, 0.5]), np.array([0, 1]), bins=2).counts.tolist() == [1, 1]


@pytest.mark.parametrize("seed", [0, 1])
def test_metrics_agree_with_those_of_torchmetrics_that_training_records(seed):
    """Scores rounded to two decimals, so that many are tied."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, 200).astype(np.uint8)
    scores = np.clip(labels * 0.3 + generator.random(200) * 0.7, 0, 1).round(2).astype(np.float32)
    pair = torch.from_numpy(scores), torch.from_numpy(labels).int()
    assert area_under_roc(scores, labels) == pytest.approx(float(tm.binary_auroc(*pair)), abs=1e-6)
    expected = float(tm.binary_average_precision(*pair))
    assert average_precision(scores, labels) == pytest.approx(expected, abs=1e-6)
    error = reliability(scores, labels, CALIBRATION_BINS).calibration_error
    assert error == pytest.approx(float(tm.binary_calibration_error(*pair, n_bins=CALIBRATION_BINS)), abs=1e-6)
