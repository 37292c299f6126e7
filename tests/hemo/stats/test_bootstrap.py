"""Resampled metrics against repeated rows, and a choice corrected by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from hemo.stats.bootstrap import corrected_choice, crossed_resamples, patient_draws, resampled_means, resampled_ranking


def test_resamples_draw_whole_patients():
    draws = patient_draws(3, 50, 1)
    assert draws.shape == (3, 50)
    assert (draws.sum(axis=0) == 3).all()
    assert len({tuple(column) for column in draws.T}) > 5


def test_the_same_seed_draws_the_same_patients():
    assert (patient_draws(7, 20, 3) == patient_draws(7, 20, 3)).all()
    assert not (patient_draws(7, 20, 3) == patient_draws(7, 20, 4)).all()


def test_means_of_resamples_by_hand():
    """Patient a has 1, 1, 1, b has 0: a+a 1, a+b 3/4, b+b 0; nobody: not defined."""
    weights = np.array([[2.0, 1, 0, 0], [0, 1, 2, 0]])
    found = resampled_means(np.array([1.0, 1, 1, 0]), np.array([0, 0, 0, 1]), weights)
    np.testing.assert_allclose(found, [1, 0.75, 0, np.nan])


def test_auroc_with_weights_by_hand():
    """Weights (2, 0, 1, 1, 3): positive .8 twice, .4 never: all 2 x 5 pairs are won; no positives: not defined."""
    scores, labels = np.array([0.8, 0.4, 0.6, 0.4, 0.1])[:, None], np.array([1, 1, 0, 0, 0], np.uint8)[:, None]
    weights = np.array([[2, 0, 1, 1, 3], [0, 1, 1, 1, 3], [0, 0, 1, 1, 1]], np.float64).T
    np.testing.assert_allclose(resampled_ranking(scores, labels, np.arange(5), weights)[0], [1.0, 3.5 / 5, np.nan])


def test_average_precision_is_1_without_negatives_and_not_defined_without_positives():
    """Patient a has the positive, b the negative, which ranks higher: both 1/2, a alone 1, b alone not defined."""
    arrays = np.array([[0.4], [0.6]]), np.array([[1], [0]], np.uint8), np.arange(2)
    areas, precisions = resampled_ranking(*arrays, np.array([[1.0, 2, 0], [1, 0, 2]]))
    np.testing.assert_allclose(precisions, [0.5, 1, np.nan])
    np.testing.assert_allclose(areas, [0, np.nan, np.nan])


@pytest.mark.parametrize("digits", [1, 9])
def test_every_resample_has_the_metrics_of_its_repeated_rows(digits):
    """Scores with and without ties, two classes, more resamples than are computed at a time."""
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(12), 4)
    labels = generator.integers(0, 2, (48, 2)).astype(np.uint8)
    scores = (labels + generator.normal(size=(48, 2))).round(digits)
    draws = patient_draws(12, 40, 0)
    areas, precisions = resampled_ranking(scores, labels, patients, draws)
    for resample in range(40):
        rows = np.repeat(np.arange(48), draws[patients, resample].astype(int))
        assert areas[resample] == pytest.approx(roc_auc_score(labels[rows], scores[rows]))
        assert precisions[resample] == pytest.approx(average_precision_score(labels[rows], scores[rows]))


def test_seeds_are_resampled_within_their_cell():
    """Of the seeds 0 and 1 two are drawn: means 0, 1/2 and 1 in a quarter, a half and a quarter; variance 1/8.

    The variance of a mean of two such seeds is 1/4: half of it is missing, whatever the number of resamples.
    """
    resampled = np.vstack([np.zeros(20000), np.ones(20000), np.arange(20000)])
    means = crossed_resamples(resampled, np.array([0, 0, 1]), 0)
    values, counts = np.unique(means[0], return_counts=True)
    assert values.tolist() == [0, 0.5, 1]
    assert counts / 20000 == pytest.approx([0.25, 0.5, 0.25], abs=0.02)
    assert means[0].var() == pytest.approx(1 / 8, rel=0.03)
    np.testing.assert_array_equal(means[1], resampled[2])  # a cell of one seed
    np.testing.assert_array_equal(means, crossed_resamples(resampled, np.array([0, 0, 1]), 0))


def test_a_choice_is_made_anew_in_each_resample():
    """Trial 0 is best in the bag twice, trial 1 once; out of the bag they have .5, .7 and .6: mean .6."""
    in_bag = np.array([[0.9, 0.8], [0.9, 0.7], [0.6, 0.8]])
    out_of_bag = np.array([[0.5, 0.1], [0.7, 0.1], [0.1, 0.6]])
    assert corrected_choice(in_bag, out_of_bag, less_is_better=False) == pytest.approx(0.6)
    assert corrected_choice(-in_bag, -out_of_bag, less_is_better=True) == pytest.approx(-0.6)


def test_resamples_without_a_metric_of_all_trials_are_left_out():
    in_bag = np.array([[0.9, 0.8], [np.nan, 0.7]])
    assert corrected_choice(in_bag, np.array([[0.5, 0.1], [0.7, 0.1]]), less_is_better=False) == 0.5
    assert corrected_choice(in_bag[1:], np.array([[0.7, 0.1]]), less_is_better=False) is None


def test_the_best_of_equal_trials_is_corrected_downwards():
    """Thirty trials that guess, on forty patients: the best seems better than 0.6, corrected it is at most 0.56."""
    generator = np.random.default_rng(0)
    patients, labels = np.repeat(np.arange(40), 3), generator.integers(0, 2, (120, 1)).astype(np.uint8)
    draws = patient_draws(40, 200, 0)
    weights = np.hstack([np.ones((40, 1)), draws, draws == 0])
    trials = [resampled_ranking(generator.normal(size=(120, 1)), labels, patients, weights)[0] for _ in range(30)]
    values = np.stack(trials, axis=1)
    corrected = corrected_choice(values[1:201], values[201:], less_is_better=False)
    assert values[0].max() > 0.6
    assert corrected < 0.56
