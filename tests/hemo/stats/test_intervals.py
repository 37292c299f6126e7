"""Intervals of proportions of clustered images, and p-values, against values worked out by hand."""

import numpy as np
import pytest
from scipy.stats import binomtest

from hemo.stats.intervals import (
    Interval,
    balanced_accuracy_interval,
    combined_degrees,
    difference_interval,
    effective_size,
    holm,
    proportion_interval,
    rate_interval,
    squares_degrees,
    t_quantile,
    too_few,
    unpaired_difference,
    wilson,
)


def test_wilson_agrees_with_scipy_and_by_hand():
    """3 of 10, z 1.96: (0.3 + 0.19207) / 1.38415 = 0.3555 -+ sqrt(0.38415 x 0.21 + 0.03689) / 1.38415 = 0.2477."""
    low, high = wilson(0.3, 10, t_quantile(np.inf))
    assert (low, high) == pytest.approx((0.1078, 0.6032), abs=1e-4)
    expected = binomtest(3, 10).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_twenty_of_twenty_right_do_not_collapse():
    """At the edge 20 patients count once each: 20 / (20 + t^2), t = 2.093 of 19 degrees; it was [1, 1]."""
    interval = proportion_interval(np.ones(20, bool), np.arange(20))
    assert interval.value == 1
    assert interval.ends == pytest.approx((20 / (20 + 2.093**2), 1.0), abs=1e-4)


def test_images_of_one_patient_count_once_where_all_agree():
    """Ten patients of four images, each all right or all wrong, 6 right: 40 images are worth ten, or nine.

    Residuals are 4 x 0.4 and 4 x -0.6; left out, of 36 images: 6 x (1.6/36)^2 + 4 x (2.4/36)^2 = 0.02963, times 0.9.
    0.24 / 0.02667 = 9.
    """
    hits = np.repeat([True] * 6 + [False] * 4, 4)
    size, degrees = effective_size(hits, np.repeat(np.arange(10), 4))
    assert size == pytest.approx(9.0)
    assert degrees == 9


def test_images_of_independent_patients_count_one_by_one():
    """Each patient has one hit and one miss: no variance between patients, and no more than the 20 images."""
    assert effective_size(np.tile([True, False], 10), np.repeat(np.arange(10), 2)) == (20, 9)


def test_few_degrees_where_one_patient_carries_the_variance():
    """Squares 1, 0, 0, 0: variance 1/4, so 2 x 1 / (4 x 1/4) = 2; equal squares have as many as one likes."""
    assert squares_degrees(np.array([1.0, 0, 0, 0])) == pytest.approx(2)
    assert squares_degrees(np.ones(4)) == np.inf


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ((9,), "9 patients, at least 10 are needed"),
        ((1,), "1 patient, at least 10 are needed"),
        ((10, 4, 9), "4 patients with the finding, at least 5 are needed"),
        ((10, 9, 4), "4 patients without the finding, at least 5 are needed"),
        ((10, 5, 5), ""),
    ],
)
def test_too_few_patients_have_no_interval_and_the_reason(counts, reason):
    assert too_few(*counts) == reason


def test_a_proportion_of_few_patients_has_a_reason_instead_of_ends():
    """Nine patients are too few, whatever their images."""
    few = proportion_interval(np.ones(90, bool), np.repeat(np.arange(9), 10))
    assert (few.value, few.ends, few.reason) == (1.0, None, "9 patients, at least 10 are needed")


def test_rates_need_ten_patients_of_whom_five_have_the_label():
    """Four patients of ten have the finding: no interval of recall, one of specificity; six of nine: none at all.

    Half of six patients, each left out: 6 x (0.5/5)^2 x 5/6 = 0.05, and 0.25 / 0.05 = 5.
    """
    labels, hits = np.array([1] * 4 + [0] * 6), np.array([True, True, True, False] + [True] * 3 + [False] * 3)
    recall, specificity = (rate_interval(hits, labels, np.arange(10), label) for label in (1, 0))
    assert (recall.value, recall.reason) == (0.75, "4 patients with the finding, at least 5 are needed")
    assert specificity.value == 0.5
    assert specificity.ends == pytest.approx(wilson(0.5, 5, t_quantile(5)))
    assert rate_interval(hits[1:], labels[1:], np.arange(9), 0).reason == "9 patients, at least 10 are needed"
    assert rate_interval(hits[4:], labels[4:], np.arange(6), 1) is None


def test_balanced_accuracy_recovers_its_limits_from_recall_and_specificity():
    """Ten patients with and ten without, one image each, 8 and 9 right: limits combine as independent ones."""
    labels = np.repeat([1, 0], 10)[:, None].astype(np.uint8)
    right = np.array([True] * 8 + [False] * 2 + [True] * 9 + [False])
    found = balanced_accuracy_interval(right[:, None] == (labels == 1), labels, np.arange(20))
    recall, specificity = (rate_interval(right, labels[:, 0], np.arange(20), label).ends for label in (1, 0))
    assert found.value == pytest.approx(0.85)
    low = 0.85 - np.hypot(0.8 - recall[0], 0.9 - specificity[0]) / 2
    high = 0.85 + np.hypot(recall[1] - 0.8, specificity[1] - 0.9) / 2
    assert found.ends == pytest.approx((low, high))


def test_balanced_accuracy_of_a_perfect_model_does_not_collapse():
    labels = np.repeat([1, 0], 20)[:, None].astype(np.uint8)
    low, high = balanced_accuracy_interval(labels == 1, labels, np.arange(40)).ends
    assert 0.8 < low < 0.95
    assert high == 1


def test_patients_who_are_right_on_both_sides_widen_balanced_accuracy():
    """Each of twenty patients has both labels and is right or wrong on both: correlation 1 adds the two distances."""
    labels = np.tile([1, 0], 20)[:, None].astype(np.uint8)
    patients = np.repeat(np.arange(20), 2)
    right = np.repeat([True] * 15 + [False] * 5, 2)
    found = balanced_accuracy_interval(right[:, None] == (labels == 1), labels, patients)
    alone = proportion_interval(right[::2], np.arange(20))
    assert found.ends == pytest.approx(alone.ends)


@pytest.mark.parametrize("patients", [12, 13, 18, 20, 36])
def test_patients_whose_sides_cancel_leave_no_variance(patients):
    """Each patient has both labels and is predicted as one of them, right on that side only: each adds 0.5.

    The variance is 0, or by rounding a little below, whose root was NaN and the interval 0 to 1. Of 13 patients 6 are
    predicted positive, and the distances to both ends differ a little.
    """
    labels = np.tile([1, 0], patients)[:, None].astype(np.uint8)
    predicted = np.repeat(np.arange(patients) < patients // 2, 2)[:, None]
    found = balanced_accuracy_interval(predicted, labels, np.repeat(np.arange(patients), 2))
    assert found.value == pytest.approx(0.5)
    assert found.ends == pytest.approx((0.5, 0.5), abs=0.02)


def test_balanced_accuracy_needs_both_labels_of_a_class():
    labels = np.ones((20, 1), np.uint8)
    assert balanced_accuracy_interval(labels == 1, labels, np.arange(20)) is None


def test_the_interval_of_a_difference_by_hand():
    """0.1 x 2.179 on both sides, with 12 degrees of freedom."""
    assert difference_interval(0.3, 0.01, 12).ends == pytest.approx((0.0821, 0.5179), abs=1e-4)


def test_degrees_of_two_variances_by_hand():
    """(2 + 2)^2 / (2^2 / 8 + (2 + 1)^2 / 3); nothing from seeds, nor noise: those of patients."""
    assert combined_degrees(2.0, 8.0, 2.0, 1.0, 3.0) == pytest.approx(16 / 3.5)
    assert combined_degrees(2.0, 8.0, 0.0, 0.0, 3.0) == pytest.approx(8)
    assert combined_degrees(0.0, 8.0, 0.0, 0.0, 3.0) == 8
    assert combined_degrees(np.array([2.0, 0.0]), 8.0, 2.0, np.zeros(2), 3.0) == pytest.approx([16 / (0.5 + 4 / 3), 3])


def test_holm_multiplies_by_what_is_left_and_never_falls():
    """Sorted .01, .03, .04: times 3, 2, 1 are .03, .06, .04, and the last is raised to .06."""
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.7, 0.6])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).tolist() == []


def test_a_difference_of_other_patients_has_the_limits_of_newcombe():
    """Newcombe 1998, table II, method 10: 56/70 - 48/80 (0.0524, 0.3339), 9/10 - 3/10 (0.1705, 0.8090)."""
    for (hits, size), (others, other_size), ends in (
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
    ):
        z = t_quantile(np.inf)
        first = Interval(hits / size, wilson(hits / size, size, z))
        second = Interval(others / other_size, wilson(others / other_size, other_size, z))
        found = unpaired_difference(first, second)
        assert found.value == pytest.approx(hits / size - others / other_size)
        assert found.ends == pytest.approx(ends, abs=5e-5)


def test_the_variance_of_seeds_widens_a_difference_of_other_patients():
    """Differences 0.0, 0.1 and 0.2 have a mean of variance 0.01 / 3; t of 2 degrees is 4.3027: 0.2484 beside 0.05."""
    first, second = Interval(0.8, (0.77, 0.83)), Interval(0.7, (0.66, 0.74))
    alone = unpaired_difference(first, second)
    assert alone.ends == pytest.approx((0.05, 0.15))
    assert unpaired_difference(first, second, [0.1]).ends == alone.ends
    found = unpaired_difference(first, second, [0.0, 0.1, 0.2])
    half = np.hypot(0.05, 4.3027 * np.sqrt(0.01 / 3))
    assert found.ends == pytest.approx((0.1 - half, 0.1 + half), abs=1e-5)


def test_a_difference_from_too_few_patients_has_their_reason():
    few = Interval(0.5, None, "9 patients, at least 10 are needed")
    found = unpaired_difference(Interval(0.8, (0.7, 0.9)), few)
    assert (found.value, found.ends, found.reason) == (pytest.approx(0.3), None, few.reason)
