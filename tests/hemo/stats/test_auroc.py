"""AUROC of clustered images: by hand, against scikit-learn, and against resampled patients."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hemo.stats.auroc import Auroc, auroc, mean_over_seeds, perfect_limit
from hemo.stats.bootstrap import patient_draws, resampled_ranking


def one_class(scores, labels, patients) -> Auroc:
    found = auroc(np.array(scores, np.float64)[:, None], np.array(labels, np.uint8)[:, None], np.array(patients))
    assert found is not None
    return found


def clustered(seed, patients=60, images=6, shift=1.2):
    """Return patients, labels and two models' scores in which images of one patient resemble each other."""
    generator = np.random.default_rng(seed)
    column = np.repeat(np.arange(patients), images)
    labels = (generator.random(len(column)) < 0.4).astype(np.uint8)[:, None]
    of_patient = generator.normal(size=patients)[column][:, None]
    return column, labels, shift * labels + 0.6 * of_patient + generator.normal(size=(len(column), 2))


def test_pairs_are_counted_and_ties_halved():
    """Positives .8, .4; negatives .6, .4, .1: .8 wins 3 pairs, .4 loses one, ties one, wins one: 4.5 of 6."""
    assert one_class([0.8, 0.4, 0.6, 0.4, 0.1], [1, 1, 0, 0, 0], range(5)).value == 4.5 / 6


@pytest.mark.parametrize("digits", [1, 9])
def test_the_value_is_that_of_scikit_learn(digits):
    column, labels, scores = clustered(0)
    rounded = scores[:, :1].round(digits)
    assert auroc(rounded, labels, column).value == pytest.approx(roc_auc_score(labels, rounded))


def test_the_variance_by_hand():
    """Three patients; positives a: 3, 1, b: 4; negatives a: 2, b: 1, c: 0. AUROC = (3 + 1.5 + 3) / 9 = 5/6.

    V10 (of a positive): 3 -> 1, 1 -> (0 + 1/2 + 1) / 3 = 1/2, 4 -> 1. V01 (of a negative): 2 -> 2/3, 1 -> 5/6, 0 -> 1.
    By patient, less their number times 5/6: positives a 3/2 - 10/6 = -1/6, b 1/6; negatives a -1/6, b 0, c 1/6.
    Of three images each, a has 2/3 of the positives, b 1/3, and each has 1/3 of the negatives. Left out:
    a -1/18 / (1/3) - 1/18 / (2/3) = -1/4, b 1/18 / (2/3) = 1/12, c 1/12. Var = 2/3 x (9 + 1 + 1) / 144 = 11/216.
    Obuchowski's own: S10 = 2/1 x (2/36) / 3, S01 = 3/2 x (2/36) / 3, S11 = 3/2 x (1/36): Var = 10/324.
    """
    scores, labels, patients = [3, 1, 4, 2, 1, 0], [1, 1, 1, 0, 0, 0], [0, 0, 1, 0, 1, 2]
    found = one_class(scores, labels, patients)
    assert found.value == pytest.approx(5 / 6)
    assert found.variance == pytest.approx(11 / 216)
    assert found.patients_each.tolist() == [2, 3]
    assert obuchowski(np.array(scores), np.array(labels), np.array(patients)) == pytest.approx(10 / 324)


def obuchowski(scores, labels, patients):
    """Return the variance by the formulas of the paper, pair by pair."""
    pairs = np.array([[(x > y) + (x == y) / 2 for y in scores[labels == 0]] for x in scores[labels == 1]])
    area, (m, n), count = pairs.mean(), pairs.shape, patients.max() + 1
    of_positives, of_negatives = np.zeros(count), np.zeros(count)
    np.add.at(of_positives, patients[labels == 1], pairs.mean(axis=1) - area)
    np.add.at(of_negatives, patients[labels == 0], pairs.mean(axis=0) - area)
    i10, i01 = len(np.unique(patients[labels == 1])), len(np.unique(patients[labels == 0]))
    s10 = i10 / ((i10 - 1) * m) * (of_positives**2).sum()
    s01 = i01 / ((i01 - 1) * n) * (of_negatives**2).sum()
    s11 = count / (count - 1) * (of_positives * of_negatives).sum()
    return s10 / m + s01 / n + 2 * s11 / (m * n)


@pytest.mark.parametrize("images", [1, 5])
def test_with_many_patients_it_is_obuchowskis_variance(images):
    """With one image a patient that is DeLong's. Of 200 patients none matters alone: within 3 %, and not smaller."""
    column, labels, scores = clustered(1, patients=200, images=images)
    reference = obuchowski(scores[:, 0], labels[:, 0], column)
    assert 1 <= auroc(scores[:, :1], labels, column).variance / reference < 1.03


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_variances_are_those_of_resampled_patients(seed):
    """Within 10 % of 4,000 resamples."""
    column, labels, scores = clustered(seed)
    resampled = resampled_ranking(scores[:, :1], labels, column, patient_draws(60, 4000, seed))[0]
    assert auroc(scores[:, :1], labels, column).variance ** 0.5 == pytest.approx(resampled.std(), rel=0.1)


def test_images_of_one_patient_do_not_count_as_independent():
    """Six images of a patient have one label and a common effect: the interval is wider than of independent images."""
    column, _, scores = clustered(3, shift=0)
    labels = (column % 2).astype(np.uint8)[:, None]
    of_patients = auroc(scores[:, :1], labels, column).interval().ends
    of_images = auroc(scores[:, :1], labels, np.arange(len(column))).interval().ends
    assert of_patients[1] - of_patients[0] > 1.3 * (of_images[1] - of_images[0])


def test_the_interval_is_on_the_scale_of_the_logit():
    """Odds of the ends are the odds of the value times and divided by one factor; it holds the value and not 1."""
    column, labels, scores = clustered(4, shift=4)
    interval = auroc(scores[:, :1], labels, column).interval()
    odds = [value / (1 - value) for value in (interval.ends[0], interval.value, interval.ends[1])]
    assert odds[1] / odds[0] == pytest.approx(odds[2] / odds[1])
    assert interval.ends[1] < 1
    assert interval.value - interval.ends[0] > interval.ends[1] - interval.value


def test_a_perfect_auroc_does_not_collapse():
    """Ten patients on each side, all pairs won: Newcombe's limit solves (1 - t)^2 = 1.96^2 V(t); it was [1, 1]."""
    interval = one_class([*range(10, 20), *range(10)], [1] * 10 + [0] * 10, range(20)).interval()
    limit = perfect_limit(10, 10)
    assert interval.value == 1
    assert interval.ends == pytest.approx((limit, 1.0))
    variance = limit * (1 - limit) * (1 + 9 * ((1 - limit) / (2 - limit) + limit / (1 + limit))) / 100
    assert (1 - limit) ** 2 == pytest.approx(1.96**2 * variance, rel=1e-4)
    assert 0.75 < limit < 0.85


def test_an_auroc_of_zero_mirrors_that_of_one():
    interval = one_class([*range(10), *range(10, 20)], [1] * 10 + [0] * 10, range(20)).interval()
    assert interval.ends == pytest.approx((0.0, 1 - perfect_limit(10, 10)))


def test_seeds_widen_the_interval_of_a_cell():
    """Four times the variance is twice the half-width, on the scale of the logit; few seeds have few degrees."""
    column, labels, scores = clustered(4)
    found = auroc(scores[:, :1], labels, column)
    alone, variance = found.interval(), found.variance
    same = found.interval(0.0, 0.0, 0.0)
    both = found.interval(3 * variance, 0.0, 1e9)
    assert same.ends == alone.ends

    def half_width(interval):
        return np.log(interval.ends[1] / (1 - interval.ends[1])) - np.log(interval.value / (1 - interval.value))

    assert half_width(both) / half_width(alone) == pytest.approx(2, rel=0.05)  # of twice the standard error
    few = found.interval(3 * variance, 0.0, 4.0)
    assert half_width(few) > 1.2 * half_width(both)


@pytest.mark.parametrize(
    ("positives", "patients", "reason"),
    [
        (20, 9, "9 patients, at least 10 are needed"),
        (4, 40, "4 patients with the finding, at least 5 are needed"),
        (36, 40, "4 patients without the finding, at least 5 are needed"),
    ],
)
def test_few_patients_have_the_reason_instead_of_an_interval(positives, patients, reason):
    generator = np.random.default_rng(0)
    labels = np.arange(40) < positives
    found = one_class(generator.random(40), labels, np.arange(40) % patients)
    assert (found.interval().ends, found.interval().reason) == (None, reason)


def test_one_patient_with_all_positives_is_no_error():
    """Nothing is left without that patient: there is no variance, and none is asked for."""
    found = one_class(np.arange(20.0), np.arange(20) > 15, np.minimum(np.arange(20), 16))
    assert found.patients_each.tolist() == [1, 16]
    assert found.interval().reason == "1 patient with the finding, at least 5 are needed"


def test_a_constant_score_is_exactly_one_half():
    found = one_class(np.zeros(20), np.arange(20) % 2, range(20))
    assert (found.value, found.interval().ends) == (0.5, (0.5, 0.5))


def test_a_class_with_one_label_is_left_out_of_the_mean():
    """Class 0 is ranked perfectly, class 1 the wrong way round, class 2 has no positive: (1 + 0) / 2."""
    labels = np.tile(np.array([[1, 1, 0], [0, 0, 0]], np.uint8), (20, 1))
    scores = np.where(labels == 1, [[1.0, -1.0, 0]], [[-1.0, 1.0, 0]])
    found = auroc(scores, labels, np.arange(40))
    assert found.value == 0.5
    assert found.patients_each.tolist() == [20, 20, 20, 20]
    assert auroc(scores[:, 2:], labels[:, 2:], np.arange(40)) is None


def test_a_mean_of_classes_varies_as_its_resamples():
    column, labels, scores = clustered(5)
    _, other, _ = clustered(6)
    both = np.hstack([labels, other])
    resampled = resampled_ranking(scores, both, column, patient_draws(60, 4000, 0))[0]
    assert auroc(scores, both, column).variance ** 0.5 == pytest.approx(resampled.std(), rel=0.1)


def test_seeds_are_averaged():
    column, labels, scores = clustered(9)
    seeds = [auroc(scores[:, k : k + 1], labels, column) for k in range(2)]
    mean = mean_over_seeds(seeds)
    assert mean.value == pytest.approx((seeds[0].value + seeds[1].value) / 2)
    assert mean.variance < max(each.variance for each in seeds)
