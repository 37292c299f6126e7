"""Bins of equal count, ECE, Brier score and its parts, against values worked out by hand and against torchmetrics."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import average_precision_score
from torchmetrics.functional import classification as tm

from hemo.stats import CALIBRATION_BINS
from hemo.stats.auroc import auroc
from hemo.stats.reliability import (
    bin_numbers,
    calibration_slope,
    mean_difference,
    probability_metrics,
    reliability,
    reliability_bins,
)


def test_reliability_by_hand():
    """Predicted .1 twice, once positive; .9 and 1.0 both positive: ECE is (2 x .4 + 1 x .1 + 1 x 0) / 4."""
    diagram = reliability(np.array([0.1, 0.1, 0.9, 1.0]), np.array([0, 1, 1, 1]), bins=15)
    np.testing.assert_allclose(diagram.predicted, [0.1, 0.9, 1.0])
    np.testing.assert_allclose(diagram.observed, [0.5, 1.0, 1.0])
    assert diagram.counts.tolist() == [2, 1, 1]
    assert diagram.calibration_error == pytest.approx(0.225)


@pytest.mark.parametrize("seed", [0, 1])
def test_metrics_of_reports_are_those_which_training_records(seed):
    """Scores rounded to two decimals, so that many are tied."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, 200).astype(np.uint8)
    scores = np.clip(labels * 0.3 + generator.random(200) * 0.7, 0, 1).round(2).astype(np.float32)
    pair = torch.from_numpy(scores), torch.from_numpy(labels).int()
    found = (
        auroc(scores[:, None], labels[:, None], np.arange(200)).value,
        average_precision_score(labels, scores),
        reliability(scores, labels, CALIBRATION_BINS).calibration_error,
    )
    expected = (
        tm.binary_auroc(*pair),
        tm.binary_average_precision(*pair),
        tm.binary_calibration_error(*pair, CALIBRATION_BINS),
    )
    assert found == pytest.approx([float(each) for each in expected], abs=1e-6)


def test_a_probability_on_the_edge_of_a_bin_belongs_to_the_upper_bin():
    """Two bins, edge 0.5: scikit-learn's `calibration_curve` would put both rows into the lower one."""
    assert reliability(np.array([0.25, 0.5]), np.array([0, 1]), bins=2).counts.tolist() == [1, 1]


def test_bins_have_equal_counts_and_keep_equal_probabilities_together() -> None:
    """200 images: ten bins of 20. Half of them equal: these are one bin, and the others are not torn apart."""
    generator = np.random.default_rng(0)
    assert np.bincount(bin_numbers(generator.random(200))).tolist() == [20] * 10
    ties = bin_numbers(np.concatenate([np.zeros(100), np.linspace(0.1, 1, 100)]))
    assert np.bincount(ties).tolist() == [100, 20, 20, 20, 20, 20]


@pytest.mark.parametrize(("images", "bins"), [(1, 1), (39, 1), (40, 2), (119, 5), (120, 6), (5000, 10)])
def test_few_images_have_few_bins(images: int, bins: int) -> None:
    assert bin_numbers(np.arange(images) / images).max() + 1 == bins


FOUR = np.repeat([0.2, 0.8], 20), np.concatenate([np.arange(20) < 2, np.arange(20) < 18]).astype(int)
"""Two bins of 20: predicted 0.2 and 0.8, observed 0.1 and 0.9."""


def test_parts_of_the_brier_score_by_hand() -> None:
    """Reliability 0.1^2, resolution 0.4^2, uncertainty 1/4: 0.01 - 0.16 + 0.25 = 0.10.

    Directly: in the first bin 2 x 0.64 + 18 x 0.04 = 2, as in the second; 4 / 40.
    """
    found = probability_metrics(*FOUR)
    assert (found.reliability, found.resolution, found.uncertainty) == pytest.approx((0.01, 0.16, 0.25))
    assert found.brier == pytest.approx(0.10)
    assert found.within_bins == pytest.approx(0, abs=1e-12)
    assert (found.calibration_error, found.calibration_error_equal_width) == pytest.approx((0.1, 0.1))
    assert (found.images, found.prevalence, found.mean_probability) == (40, 0.5, pytest.approx(0.5))
    assert found.log_loss == pytest.approx(-(0.1 * np.log(0.2) + 0.9 * np.log(0.8)))


def test_parts_add_up_where_probabilities_differ_within_a_bin() -> None:
    generator = np.random.default_rng(1)
    probabilities = generator.random(500)
    outcomes = (generator.random(500) < probabilities).astype(int)
    found = probability_metrics(probabilities, outcomes)
    assert found.brier == pytest.approx(found.reliability - found.resolution + found.uncertainty + found.within_bins)
    assert abs(found.within_bins) < 0.01
    assert found.calibration_error < 0.06 < probability_metrics(probabilities**3, outcomes).calibration_error


def test_certain_and_wrong_is_finite() -> None:
    assert probability_metrics(np.array([1.0]), np.array([0])).log_loss == pytest.approx(-np.log(1e-15))


def test_bins_have_intervals_of_patients() -> None:
    """20 patients each: Wilson's at 2 of 20; where one patient has all the images there is none."""
    low, high = reliability_bins(*FOUR, np.arange(40))
    assert (low.predicted, low.observed.value, low.images) == (pytest.approx(0.2), pytest.approx(0.1), 20)
    assert low.observed.ends is not None
    assert low.observed.ends[0] < 0.1 < low.observed.ends[1] < high.observed.value
    lone = reliability_bins(*FOUR, np.repeat([0, 1], 20))
    assert lone[0].observed.reason == "1 patient, at least 10 are needed"


def test_mean_difference_by_hand() -> None:
    """Twenty images at 0.6, half positive: 0.1 too high. Variance 20/19 x 20 x (0.5/20)^2, t 2.093."""
    found = mean_difference(np.full(20, 0.6), np.arange(20) % 2, np.arange(20))
    half = 2.093 * np.sqrt(20 / 19 * 20 * 0.025**2)
    assert found.value == pytest.approx(0.1)
    assert found.ends == pytest.approx((0.1 - half, 0.1 + half), abs=1e-4)
    assert mean_difference(np.full(4, 0.6), np.arange(4) % 2, np.arange(4)).ends is None


def test_slope_by_hand() -> None:
    """Said 0.2 and 0.8, that is log odds of -+ ln 4; observed 0.1 and 0.9, -+ ln 9: slope ln 9 / ln 4."""
    found = calibration_slope(*FOUR, np.arange(40))
    assert found is not None
    assert found.value == pytest.approx(np.log(9) / np.log(4))
    assert found.ends is not None
    assert found.ends[0] < 1 < found.value < found.ends[1]


def test_slope_of_separated_outcomes_is_not_defined() -> None:
    assert calibration_slope(np.array([0.1, 0.2, 0.6]), np.array([0, 0, 1]), np.arange(3)) is None
    reversed_labels = np.repeat([1, 0], 20)
    assert calibration_slope(np.linspace(0.01, 0.99, 40), reversed_labels, np.arange(40)) is None
    assert calibration_slope(np.array([0.1, 0.2, 0.6]), np.array([1, 1, 1]), np.arange(3)) is None


def test_slope_of_probabilities_that_the_logarithm_clips_is_not_defined() -> None:
    """Below 1e-15 all log odds are that of 1e-15: the outcomes do not separate the probabilities, but have no slope."""
    generator = np.random.default_rng(394)
    logits, outcomes = generator.uniform(-41, -40, 128), generator.integers(0, 2, 128)
    assert calibration_slope(expit(logits), outcomes, np.arange(128)) is None
    assert calibration_slope(1 - expit(logits), outcomes, np.arange(128)) is None
    one_higher = np.append(expit(logits), 0.5)
    assert calibration_slope(one_higher, np.append(outcomes, 1), np.arange(129)) is None
