"""Thresholds by rule, predictive values and net benefit, against values worked out by hand."""

import numpy as np
import pytest

from hemo.stats.choices import STANDARD_POINTS, OperatingPoint
from hemo.stats.intervals import Interval, patient_correlation
from hemo.stats.operating_points import choose_threshold, decision_curve, ratio_interval, threshold_rates

BALANCED = OperatingPoint.parse("balanced_accuracy")


def odds_mean(one: float, other: float) -> float:
    """Half way between two probabilities in log odds: odds sqrt(o1 o2)."""
    odds = np.sqrt(one / (1 - one) * other / (1 - other))
    return float(odds / (1 + odds))


@pytest.mark.parametrize(
    ("probabilities", "labels", "threshold"),
    [
        ([0.1, 0.2, 0.3, 0.9], [0, 0, 1, 1], odds_mean(0.2, 0.3)),
        ([0.1, 0.8, 0.6, 0.9], [0, 0, 1, 1], odds_mean(0.1, 0.6)),  # as good as above 0.8, in the wider gap
        ([0.2, 0.5, 0.5], [0, 1, 1], 1 / 3),  # odds 1/4 and 1: their mean is 1/2
        ([0.9, 0.1], [0, 1], 0.05),  # the wrong order: all of one class is the best, either
        ([0.3, 0.4], [1, 1], None),
        ([0.0, 0.0, 1.0, 1.0], [1, 1, 0, 0], 1.0),  # none is predicted above 1; above 0 are two of four, both wrong
        ([0.0, 0.5, 1.0], [0, 1, 1], 0.25),
    ],
)
def test_threshold_of_the_best_balanced_accuracy(
    probabilities: list[float], labels: list[int], threshold: float | None
) -> None:
    found = choose_threshold(np.array(probabilities), np.array(labels, np.uint8), BALANCED)
    assert found == pytest.approx(threshold)


def test_a_threshold_is_chosen_for_both_classes_alike_however_rare_one_is() -> None:
    probabilities = np.concatenate([np.linspace(0.01, 0.3, 99), [0.29]])
    labels = np.concatenate([np.zeros(99), [1]]).astype(np.uint8)
    found = choose_threshold(probabilities, labels, BALANCED)
    assert found is not None
    assert found < 0.29


PROBABILITIES = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
LABELS = np.array([0, 0, 0, 1, 0, 1, 0, 1, 1, 1])
"""Five positives at .3 .5 .7 .8 .9, five negatives at .05 .1 .2 .4 .6."""


@pytest.mark.parametrize(
    ("point", "between"),
    [
        ("sensitivity=0.8", (0.4, 0.5)),  # four of five are above: at specificity 4/5
        ("sensitivity=0.81", (0.2, 0.3)),  # needs all five: specificity 3/5
        ("specificity=0.8", (0.4, 0.5)),
        ("specificity=0.81", (0.6, 0.7)),
        ("specificity=0.5", (0.2, 0.3)),  # the three at the bottom are enough: sensitivity 1
        ("cost_ratio=1", (0.2, 0.3)),  # two errors, as above 0.4 and above 0.6, which are narrower gaps in log odds
        ("cost_ratio=3", (0.2, 0.3)),  # no false negative, 2 false positives; above 0.4 it is 1 x 3 + 1
        ("cost_ratio=0.2", (0.6, 0.7)),  # 2 x 0.2
        ("balanced_accuracy", (0.2, 0.3)),  # 0.8, as above 0.4 and above 0.6; log odds 0.54 apart
    ],
)
def test_operating_points_by_hand(point: str, between: tuple[float, float]) -> None:
    found = choose_threshold(PROBABILITIES, LABELS, OperatingPoint.parse(point))
    assert found == pytest.approx(odds_mean(*between))


def test_decisions_do_not_depend_on_a_line_in_log_odds() -> None:
    """Half the log odds, and 2 less: the same images are predicted, of validation and of others."""
    generator = np.random.default_rng(1)
    odds = generator.normal(size=60)
    labels = (odds + generator.normal(size=60) > 0).astype(np.uint8)
    others = generator.normal(size=2000)
    for text in (*STANDARD_POINTS, "cost_ratio=5"):
        point, decisions = OperatingPoint.parse(text), []
        for slope, intercept in ((1.0, 0.0), (0.5, -2.0)):
            threshold = choose_threshold(1 / (1 + np.exp(-slope * odds - intercept)), labels, point)
            decisions.append(1 / (1 + np.exp(-slope * others - intercept)) > threshold)
        np.testing.assert_array_equal(*decisions)


@pytest.mark.parametrize(
    "text",
    [
        "sensitivity",
        "sensitivity=1",
        "specificity=0",
        "cost_ratio=-1",
        "cost_ratio=inf",
        "x=1",
        "balanced_accuracy=1",
        "sensitivity=nan",
    ],
)
def test_what_is_no_operating_point_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be balanced_accuracy, sensitivity=0\.95"):
        OperatingPoint.parse(text)


def test_equal_points_have_equal_names() -> None:
    assert OperatingPoint.parse("sensitivity=0.950").name == "sensitivity=0.95"
    assert [OperatingPoint.parse(text).name for text in STANDARD_POINTS] == list(STANDARD_POINTS)


def test_predictive_values_at_another_prevalence() -> None:
    """Sensitivity 0.9, specificity 0.8; at 1 in 101: PPV 0.9 / (0.9 + 0.2 x 100) = 0.04306, NPV 80 / (80 + 0.1)."""
    labels = np.repeat([1, 0], 50)
    predicted = np.concatenate([np.arange(50) < 45, np.arange(50) < 10])
    found = threshold_rates(predicted, labels, np.arange(100), 1 / 101)
    assert found is not None
    assert (found.sensitivity.value, found.specificity.value) == (0.9, 0.8)
    assert found.ppv is not None
    assert found.npv is not None
    assert found.ppv.value == pytest.approx(0.9 / 20.9)
    assert found.npv.value == pytest.approx(80 / 80.1)
    low, high = found.ppv.ends or (0, 0)
    assert 0.025 < low < found.ppv.value < high < 0.08


def test_predictive_values_at_the_edge() -> None:
    """No false positive among 50: PPV is 1, from above 0; none predicted at all: there is no PPV."""
    labels = np.repeat([1, 0], 50)
    perfect = threshold_rates(labels == 1, labels, np.arange(100), 0.01)
    assert perfect is not None
    assert perfect.ppv is not None
    assert perfect.ppv.value == 1
    low, high = perfect.ppv.ends or (0, 0)
    assert high == 1
    assert 0.05 < low < 0.2  # sensitivity 0.93 to 1 against up to 0.07 x 99
    never = threshold_rates(np.zeros(100, bool), labels, np.arange(100), 0.01)
    assert never is not None
    assert never.ppv is None
    assert never.npv is not None
    assert never.npv.value == pytest.approx(0.99)


def test_too_few_patients_have_values_without_intervals() -> None:
    labels = np.repeat([1, 0], 4)
    found = threshold_rates(labels == 1, labels, np.arange(8), 0.5)
    assert found is not None
    assert found.ppv == Interval(1.0, None, "8 patients, at least 10 are needed")
    assert threshold_rates(np.ones(3, bool), np.ones(3, np.int64), np.arange(3), 0.5) is None


def test_interval_of_a_ratio_by_hand() -> None:
    """0.5 (0.4 to 0.6) over 0.25 (0.2 to 0.3): R with (0.5 - 0.25 R)^2 = 0.1^2 + (0.05 R)^2.

    That is 0.06 R^2 - 0.25 R + 0.24 = 0.
    """
    numerator, denominator = Interval(0.5, (0.4, 0.6)), Interval(0.25, (0.2, 0.3))
    root = np.sqrt(0.25**2 - 4 * 0.06 * 0.24)
    assert ratio_interval(numerator, denominator, 0.0) == pytest.approx(((0.25 - root) / 0.12, (0.25 + root) / 0.12))
    assert ratio_interval(numerator, Interval(0.0, (0.0, 0.1)), 0.0)[1] == np.inf


def test_net_benefit_by_hand() -> None:
    """Above 0.45: sensitivity 4/5, specificity 4/5. At prevalence 0.1: 0.08 - (0.45/0.55) x 0.9 x 0.2 = -0.06727.

    At the images' own 0.5: 0.4 - 0.81818 x 0.5 x 0.2 = 0.31818; treating all 0.5 - 0.81818 x 0.5 = 0.09091.
    """
    patients = np.arange(10)
    (rare,) = decision_curve(PROBABILITIES, LABELS, patients, [0.45], 0.1)
    assert rare.model.value == pytest.approx(-0.067273, abs=1e-6)
    assert rare.treat_all == pytest.approx(0.1 - 0.9 * 0.45 / 0.55)
    (own,) = decision_curve(PROBABILITIES, LABELS, patients, [0.45], 0.5)
    assert (own.model.value, own.treat_all) == pytest.approx((0.318182, 0.090909), abs=1e-6)
    low, high = own.model.ends or (0, 0)
    assert low < own.model.value < high


def test_net_benefit_of_perfect_predictions_is_the_prevalence() -> None:
    labels = np.repeat([0, 1], 30)
    found = decision_curve(labels.astype(float), labels, np.arange(60), [0.1, 0.9], 0.2)
    assert [each.model.value for each in found] == pytest.approx([0.2, 0.2])


def test_correlation_of_sensitivity_and_specificity_between_patients() -> None:
    """Each patient has an image of either kind: both right, or both wrong: 1. One kind each: 0."""
    labels, predicted = np.tile([1, 0], 4), np.array([1, 0, 0, 1, 1, 0, 0, 1]) == 1
    assert patient_correlation(predicted, labels, np.repeat(np.arange(4), 2)) == pytest.approx(1)
    assert patient_correlation(predicted, labels, np.arange(8)) == 0
