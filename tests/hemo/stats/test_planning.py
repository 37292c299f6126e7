"""Power, seeds and patients of a comparison, by hand where degrees of freedom are many."""

import numpy as np
import pytest
from scipy.stats import nct, norm, t

from hemo.stats.crossed import Measured, compare_cells, seed_variance
from hemo.stats.planning import Design, design_of

MANY = 1e9


def design(patients=0.0, noise=0.0, seeds=0.0, count=3, degrees=MANY, seed_degrees=MANY):
    """Return one pair of cells of `count` seeds with these variance components."""
    counts, noises = (np.array([count]),) * 2, (np.array([noise]),) * 2
    return Design(counts, np.array([patients]), noises, np.array([seeds]), np.array([degrees]), seed_degrees)


def test_the_power_by_hand():
    """A difference of 2.8 standard errors is found in 80 %: 1.96 + .84; of none in 2.5 %, on its side."""
    made = design(patients=0.0004)
    assert made.power(np.array([0.056]), 0.05) == pytest.approx([0.8], abs=1e-3)
    assert made.power(np.array([-0.056]), 0.05) == pytest.approx([0.8], abs=1e-3)
    assert made.power(np.array([0.0]), 0.05) == pytest.approx([0.025])
    assert made.detectable(0.05) == pytest.approx([0.02 * (norm.ppf(0.975) + norm.ppf(0.8))])


def test_few_degrees_of_freedom_lower_the_power():
    """Seeds alone, 4 degrees: Student's noncentral t."""
    made = design(seeds=0.0006, seed_degrees=4.0)
    limit = t.ppf(0.975, 4)
    assert made.power(np.array([0.06]), 0.05) == pytest.approx([nct.sf(limit, 4, 0.06 / 0.02)])
    assert made.power(np.array([0.06]), 0.05)[0] < 0.65


def test_a_difference_far_away_is_certain_and_no_variance_as_well():
    assert design(patients=0.0001).power(np.array([5.0]), 0.05) == [1.0]
    assert design().power(np.array([0.1]), 0.05) == [1.0]


def test_seeds_by_hand():
    """Variance 2 x .0009 / n: (1.96 + .84)^2 x .0018 / .04^2 = 8.83, so 9 seeds each, 6 more than 3."""
    assert design(seeds=0.0009).further_seeds(np.array([0.04]), 0.05) == [6]
    assert design(seeds=0.0009).further_seeds(np.array([0.09]), 0.05) == [0]


def test_patients_by_hand():
    """Variance .0009 / f: (1.96 + .84)^2 x .0009 / .04^2 = 4.41."""
    factor = (norm.ppf(0.975) + norm.ppf(0.8)) ** 2 * 0.0009 / 0.0016
    assert design(patients=0.0009).times_patients(np.array([0.04]), 0.05) == pytest.approx([factor], rel=1e-3)
    assert design(patients=0.0009).times_patients(np.array([0.09]), 0.05) == [1]


def test_no_number_of_seeds_makes_up_for_patients_and_the_other_way_round():
    assert design(patients=0.0009, seeds=0.0001).further_seeds(np.array([0.04]), 0.05) == [np.inf]
    assert design(patients=0.0001, seeds=0.0009).times_patients(np.array([0.04]), 0.05) == [np.inf]
    assert design(noise=0.0009).further_seeds(np.array([0.04]), 0.05) == [6]


def test_both_by_hand():
    """.0009 / f + .0018 / (3 f): f = 7.85 x .0015 / .0016 = 7.36, a little less as seeds are rounded up to 23."""
    made, true = design(patients=0.0009, seeds=0.0009), np.array([0.04])
    assert np.isinf([made.further_seeds(true, 0.05), made.times_patients(true, 0.05)]).all()
    (factor,) = made.times_both(true, 0.05)
    assert 7.2 < factor < 7.36
    assert made.further_with(np.array([factor])) == [20]
    assert made.power(true, 0.05, 20, factor)[0] > 0.8 > made.power(true, 0.05, 19, factor)[0]
    assert made.times_both(np.array([0.0]), 0.05) == [np.inf]


def test_nothing_is_planned_where_the_variance_over_seeds_is_not_known():
    made, true = design(patients=0.0009, seed_degrees=0.0), np.array([0.04])
    assert np.isnan(
        [made.further_seeds(true, 0.05), made.times_patients(true, 0.05), made.times_both(true, 0.05)]
    ).all()
    assert made.power(true, 0.05)[0] == pytest.approx(norm.cdf(0.04 / 0.03 - norm.ppf(0.975)))


def test_a_design_has_the_variance_that_was_estimated():
    """Also with unequal seeds, and with what patients add beyond the noise of the seeds."""
    measured = Measured(
        np.array([0.8, 0.9, 0.6, 0.7, 0.8]),
        np.array([[0.01, 0], [0.03, 0], [0, 0.02], [0, 0.02], [0, 0.05]]),
        np.zeros(5),
    )
    cells = np.array([0, 0, 1, 1, 1])
    found = compare_cells(measured, cells, 20.0)
    made = design_of(found, seed_variance(measured, cells))
    assert made.from_patients == pytest.approx([0.0013 - 0.0002])
    expected = (t.ppf(0.975, found.degrees) + t.ppf(0.8, found.degrees)) * np.sqrt(found.variances)
    assert made.detectable(0.05) == pytest.approx(expected)
