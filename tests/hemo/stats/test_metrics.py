"""ROC and precision-recall against values computed by hand, and reliability against torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.functional import classification as tm

from hemo.stats import CALIBRATION_BINS
from hemo.stats.metrics import (
    area_under_roc,
    average_precision,
    precision_recall_points,
    roc_points,
)
from hemo.stats.reliability import reliability

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
