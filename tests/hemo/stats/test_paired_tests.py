"""Paired differences against p-values and corrections computed by hand."""

import numpy as np
import pytest

from hemo.stats.paired_tests import difference_interval, holm, sign_flip_p


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 1, 1, 0], 2 / 8),  # of three signs only all + and all - reach 3
        ([1, 1, 1, -1], 10 / 16),  # sums 4, 2, 0, -2, -4 occur 1, 4, 6, 4, 1 times; the observed sum is 2
        ([2, 1], 2 / 4),  # sums 3, 1, -1, -3
        ([0.5, -0.5], 1.0),
        ([0, 0, 0], 1.0),
    ],
)
def test_with_few_patients_all_sign_flips_are_evaluated(differences, p):
    assert sign_flip_p(np.array(differences, np.float64), samples=1, seed=0) == p


def test_many_patients_are_sampled_and_never_give_zero():
    """Twenty patients all on one side: 2 of 1,048,576 sign flips reach that, and none of these 99 draws."""
    assert sign_flip_p(np.ones(20), samples=99, seed=0) == 1 / 100


def test_a_sampled_p_comes_near_the_exact_one():
    """Sixteen patients, 10 + and 6 -: the sum is 4, and the fraction of |sum| of 4 or more is 0.4545."""
    differences = np.array([1.0] * 10 + [-1.0] * 6)
    assert sign_flip_p(differences, samples=4000, seed=1) == pytest.approx(0.4545, abs=0.03)


def test_holm_multiplies_by_what_is_left_and_never_falls():
    """Sorted .01, .03, .04: times 3, 2, 1 are .03, .06, .04, and the last is raised to .06."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_interval_of_a_difference_resamples_patients():
    """Patient a gives 1 of 1, b 0 of 3: drawn a+a 1, a+b 1/4, b+b 0."""
    draws = np.array([[2, 0], [1, 1], [0, 2]])
    interval = difference_interval(np.array([1.0, 0.0]), np.array([1, 3]), draws)
    assert interval.value == 0.25
    assert (interval.low, interval.high) == pytest.approx((0.0125, 0.9625))  # 2.5 and 97.5 % of 0, 1/4, 1
