"""Cells of several seeds on the same patients: variances by hand, verdicts on equal cells, letters."""

from itertools import combinations

import numpy as np
import pytest

from hemo.stats.auroc import auroc
from hemo.stats.crossed import (
    Measured,
    compact_letters,
    compare_cells,
    measured_auroc,
    measured_by_resampling,
    pair_degrees,
    seed_variance,
)

BY_HAND = Measured(
    np.array([0.8, 0.9, 0.6, 0.7, 0.8]),
    np.array([[0.01, 0], [0.03, 0], [0, 0.02], [0, 0.02], [0, 0.05]]),
    np.zeros(5),
)
CELLS = np.array([0, 0, 1, 1, 1])


def two_models(seed, shift=0.0, patients=60, images=4):
    """Return scores of two models on the same images, the second better by `shift`, with patients and labels."""
    generator = np.random.default_rng(seed)
    column = np.repeat(np.arange(patients), images)
    labels = (generator.random(len(column)) < 0.4).astype(np.uint8)[:, None]
    common = generator.normal(size=(len(column), 1))
    scores = 1.2 * labels + common + 0.5 * generator.normal(size=(len(column), 2))
    return column, labels, scores + np.array([0, shift]) * labels


def test_the_variance_over_seeds_by_hand():
    """Between seeds .005 / 1 and .02 / 2; of that noise of the patients .0002 / 1 and .0006 / 2. Pooled over 1 + 2.

    Degrees: .025^2 / (.005^2 / 3 + .02^2 / 4) - 2 = 3.77, but not more than 3.
    """
    found = seed_variance(BY_HAND, CELLS)
    assert found.own == pytest.approx([0.0048, 0.0097])
    assert found.noise == pytest.approx([0.0002, 0.0003])
    assert found.pooled == pytest.approx((0.025 - 0.0008) / 3)
    assert found.degrees == 3
    assert found.of_means == pytest.approx([0.0242 / 3 / 2, 0.0097 / 3])


def test_a_difference_by_hand():
    """.85 - .7; patients .0004 + .0009; seeds pooled x (1/2 + 1/3), more than the pair's own .0024 + .0097 / 3."""
    found = compare_cells(BY_HAND, CELLS, 20.0)
    seeds = 0.0242 / 3 * 5 / 6
    assert found.values == pytest.approx([0.15])
    assert (found.from_patients[0], found.from_seeds[0]) == pytest.approx((0.0013, seeds))
    assert found.noise == pytest.approx([0.0002])
    degrees = (0.0013 + seeds) ** 2 / (0.0013**2 / 20 + (seeds + 0.0002) ** 2 / 3)
    assert found.degrees == pytest.approx([degrees])
    assert degrees == pytest.approx(4.008, abs=1e-3)
    assert found.p == pytest.approx([0.169], abs=1e-3)  # 0.15 is 1.675 standard errors
    assert found.not_better == pytest.approx(found.p / 2)


def test_the_pairs_own_variance_counts_where_it_is_larger():
    """Of three cells one has all the spread: pooled .02 / 3, its own pairs .02 / 2, the other pair the pooled one."""
    values = np.array([0.7, 0.9, 0.8, 0.8, 0.8, 0.8])
    found = compare_cells(Measured(values, np.zeros((6, 1)), np.zeros(6)), np.repeat(np.arange(3), 2), 50.0)
    assert found.from_seeds == pytest.approx([0.01, 0.01, 0.02 / 3])
    assert found.seed_degrees == pytest.approx(1)  # .02^2 / (.02^2 / 3) - 2: that of the one cell


def test_noise_of_the_patients_is_no_variance_over_seeds():
    """Seeds that differ by less than the patients' noise: none, and not below none."""
    measured = Measured(np.array([0.8, 0.81, 0.7]), np.array([[0.1, 0], [0, 0.1], [0.05, 0.05]]), np.zeros(3))
    found = compare_cells(measured, np.array([0, 0, 1]), 30.0)
    assert found.from_seeds == [0]
    assert found.variances == found.from_patients


def test_a_cell_with_one_seed_borrows():
    """The pooled variance of the first cell, .005 - .0002, for one seed; noise as well."""
    measured = Measured(BY_HAND.values[[0, 1, 2]], BY_HAND.deviations[[0, 1, 2]], np.zeros(3))
    found = seed_variance(measured, np.array([0, 0, 1]))
    assert found.of_means == pytest.approx([0.0024, 0.0048])
    assert found.noise == pytest.approx([0.0002, 0.0002])


def test_one_seed_everywhere_leaves_the_variance_over_patients():
    found = compare_cells(Measured(BY_HAND.values[[0, 2]], BY_HAND.deviations[[0, 2]], np.zeros(2)), np.arange(2), 20.0)
    assert not seed_variance(BY_HAND, np.arange(5)).known
    assert found.variances == pytest.approx([0.01**2 + 0.02**2])
    assert found.degrees == [20]


def test_a_difference_of_nothing_is_never_significant():
    found = compare_cells(Measured(np.array([0.8, 0.8]), np.zeros((2, 1)), np.zeros(2)), np.arange(2), 20.0)
    assert (found.p[0], found.p_holm[0], found.half_widths[0]) == (1, 1, 0)
    other = compare_cells(Measured(np.array([0.8, 0.7]), np.zeros((2, 1)), np.zeros(2)), np.arange(2), 20.0)
    assert other.p == [0]


def test_two_perfect_models_are_not_known_to_be_equal():
    """Both have the variance that AUROC has at 1."""
    labels, patients = np.repeat([1, 0], 10).astype(np.uint8)[:, None], np.arange(20)
    perfect = auroc(labels * 1.0, labels, patients)
    found = compare_cells(measured_auroc([perfect, perfect]), np.arange(2), pair_degrees([perfect, perfect]))
    assert found.variances == pytest.approx([2 * perfect.perfect_variance])
    assert found.p == [1]
    assert found.half_widths[0] > 0.1


def test_the_variance_of_a_difference_is_that_of_resampled_patients():
    """Within 10 % of the variance of the difference by resampling 4,000 times."""
    from hemo.stats.bootstrap import patient_draws, resampled_ranking

    column, labels, scores = two_models(0, 0.3)
    areas = [auroc(scores[:, k : k + 1], labels, column) for k in range(2)]
    draws = patient_draws(60, 4000, 0)
    resampled = np.array([resampled_ranking(scores[:, k : k + 1], labels, column, draws)[0] for k in range(2)])
    degrees = pair_degrees(areas)
    found = compare_cells(measured_auroc(areas), np.arange(2), degrees)
    by_resampling = compare_cells(measured_by_resampling([each.value for each in areas], resampled), np.arange(2), 1.0)
    assert np.sqrt(found.variances) == pytest.approx(np.sqrt(by_resampling.variances), rel=0.1)
    assert by_resampling.variances == pytest.approx([np.var(resampled[0] - resampled[1], ddof=1)])


def test_degrees_of_a_difference_are_those_of_its_contributions():
    """Brunner and Munzel's for the two rows of the difference; with equal models the fewest patients less one."""
    column, labels, scores = two_models(1, 0.3)
    first, second = (auroc(scores[:, k : k + 1], labels, column) for k in range(2))
    squares = ((first.contributions - second.contributions) ** 2).sum(axis=1)
    by_hand = squares.sum() ** 2 / (squares**2 / (first.patients_each - 1)).sum()
    assert pair_degrees([first, second]) == pytest.approx([by_hand])
    assert pair_degrees([first, first]) == [first.patients_each.min() - 1]


def test_undefined_resamples_are_left_out():
    found = measured_by_resampling([0.5, 0.5], np.array([[1.0, np.nan, 3.0], [1.0, np.nan, 1.0]]))
    assert found.variances == pytest.approx([2, 0])


def test_pairs_have_an_order():
    measured = Measured(np.arange(5) / 10, np.zeros((5, 1)), np.zeros(5))
    found = compare_cells(measured, np.arange(5), 9.0)
    assert [found.index(*pair) for pair in combinations(range(5), 2)] == list(range(10))
    assert found.values[found.index(1, 4)] == pytest.approx(-0.3)


def test_equal_cells_are_rarely_declared_different_and_were_often():
    """Six cells of three seeds with a standard deviation of 0.03 over seeds, 60 grids of normal values."""
    generator = np.random.default_rng(0)
    cells, patients = np.repeat(np.arange(6), 3), 100
    with_seeds = patients_only = 0
    for _ in range(60):
        effects = 0.1 * generator.normal(size=(18, patients))
        values = 0.8 + 0.03 * generator.normal(size=18) + effects.mean(axis=1)
        deviations = (effects - effects.mean(axis=1, keepdims=True)) / patients
        found = compare_cells(Measured(values, deviations, np.zeros(18)), cells, 99.0)
        with_seeds += found.significant.any()
        alone = compare_cells(Measured(values[::3], deviations[::3], np.zeros(6)), np.arange(6), 99.0)
        patients_only += alone.significant.any()
    assert with_seeds <= 6  # 3 expected; more than 6 in one of 30
    assert patients_only >= 50


def test_the_level_of_the_next_pair_is_what_holm_leaves():
    """Of three pairs two are significant: .05 / 1; of none, .05 / 3."""
    measured = Measured(np.array([0.9, 0.5, 0.5]), 0.01 * np.eye(3), np.zeros(3))
    assert compare_cells(measured, np.arange(3), 99.0).next_level == pytest.approx(0.05)
    equal = Measured(np.array([0.5, 0.5, 0.5]), 0.01 * np.eye(3), np.zeros(3))
    assert compare_cells(equal, np.arange(3), 99.0).next_level == pytest.approx(0.05 / 3)


def alike(size, *pairs):
    matrix = np.eye(size, dtype=bool)
    for first, second in pairs:
        matrix[first, second] = matrix[second, first] = True
    return matrix


def test_letters_by_hand():
    """0 and 1 alike, 1 and 2 alike, 0 and 2 not; 3 alone."""
    assert compact_letters(alike(4, (0, 1), (1, 2)), [0, 1, 2, 3]) == ["a", "ab", "b", "c"]
    assert compact_letters(alike(3, (0, 1), (0, 2), (1, 2)), [2, 1, 0]) == ["a", "a", "a"]
    assert compact_letters(alike(1), [0]) == ["a"]
    assert compact_letters(alike(0), []) == []


def test_letters_are_named_in_the_order_of_the_table():
    """The first cell of the table has the letter a, wherever its value stands."""
    assert compact_letters(alike(3, (1, 2)), [1, 2, 0]) == ["a", "b", "b"]


def test_superfluous_letters_are_dropped():
    """A square without diagonals has its four sides; a group that three others cover is none."""
    sides = [(0, 1), (1, 2), (2, 3), (3, 0)]
    assert sorted(compact_letters(alike(4, *sides), [0, 1, 2, 3])) == ["ab", "ac", "bd", "cd"]


@pytest.mark.parametrize("seed", range(5))
def test_two_cells_share_a_letter_if_and_only_if_they_are_alike(seed):
    """Sixty cells, alike where their values are near, more or less: past z, letters are separated by spaces."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=60)
    matrix = np.abs(values[:, None] - values) + 0.2 * generator.normal(size=(60, 60)) < 0.5
    matrix = (matrix | matrix.T) | np.eye(60, dtype=bool)
    letters = [set(text.split()) for text in compact_letters(matrix, np.argsort(values).tolist())]
    assert any(len(name) == 2 for each in letters for name in each)
    shared = np.array([[bool(one & other) for other in letters] for one in letters])
    np.testing.assert_array_equal(shared, matrix)
