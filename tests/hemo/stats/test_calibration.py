"""Prior correction, temperature and Platt scaling, by hand and against probabilities that are known."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit

from hemo.stats.calibration import (
    Calibration,
    LabelledLogits,
    SampledClass,
    TrainPrior,
    calibrated_logits,
    fit_calibration,
    logistic_line,
    smoothed_targets,
    to_probabilities,
)

ONE_TO_ONE = SampledClass(column=0, train_prevalence=0.5, population_prevalence=0.1, implied=True)
"""Odds of 1 in train, 1/9 in the population."""


def probabilities(
    logits: list[list[float]], calibration: Calibration, *, exclusive: bool = False
) -> NDArray[np.float64]:
    corrected = calibrated_logits(np.array(logits, np.float32), calibration, exclusive=exclusive)
    return to_probabilities(corrected, exclusive=exclusive)


def simulated(
    temperature: float, *, prevalence: float, train_prevalence: float, images: int = 20_000
) -> LabelledLogits:
    """One image a patient, of known log likelihood ratio; its log odds in train are `temperature` times too large."""
    generator = np.random.default_rng(0)
    labels = (generator.random(images) < prevalence).astype(np.uint8)
    ratio = generator.normal(np.where(labels == 1, 1.5, -1.5), np.sqrt(3))  # of normal distributions: mean is var / 2
    logits = temperature * (ratio + logit(train_prevalence))
    return LabelledLogits(logits[:, None].astype(np.float32), labels[:, None], np.arange(images), False)


def test_without_calibration_logits_stay() -> None:
    logits = np.array([[-3.0, 100.0]])
    np.testing.assert_array_equal(calibrated_logits(logits, Calibration(), exclusive=False), logits)


def test_prior_correction_multiplies_the_odds() -> None:
    """Of train 1 : 1, of the population 1 : 9; odds of 3 become 3/9, a probability of 1/4."""
    assert ONE_TO_ONE.log_odds == pytest.approx(np.log(1 / 9))
    calibration = Calibration("prior", "", (1.0,), (0.0,), ONE_TO_ONE)
    assert probabilities([[np.log(3)]], calibration)[0, 0] == pytest.approx(1 / 4)


def test_slope_and_intercept_come_before_the_prior() -> None:
    """Log odds 2 ln 3 / 2 + 0 = ln 3, then odds 3/9."""
    calibration = Calibration("prior_and_temperature", "", (0.5,), (0.0,), ONE_TO_ONE)
    assert probabilities([[2 * np.log(3)]], calibration)[0, 0] == pytest.approx(1 / 4)


def test_a_subtype_keeps_its_part_of_the_class_it_implies() -> None:
    """Any: 3/4 becomes 1/4. Half of them, 3/8, have the subtype: 1/8 after, for p' = p x (1/4) / (3/4)."""
    calibration = Calibration("prior", "", (1.0, 1.0), (0.0, 0.0), ONE_TO_ONE)
    found = probabilities([[logit(3 / 4), logit(3 / 8)]], calibration)
    assert found[0] == pytest.approx([1 / 4, 1 / 8])
    assert calibration.couples_classes


def test_the_sampled_class_may_stand_anywhere() -> None:
    sampled = SampledClass(column=1, train_prevalence=0.5, population_prevalence=0.1, implied=True)
    found = probabilities([[logit(3 / 8), logit(3 / 4)]], Calibration("prior", "", (1.0, 1.0), (0.0, 0.0), sampled))
    assert found[0] == pytest.approx([1 / 8, 1 / 4])


def test_certain_logits_stay_finite() -> None:
    calibration = Calibration("prior", "", (1.0, 1.0), (0.0, 0.0), ONE_TO_ONE)
    corrected = calibrated_logits(np.array([[900.0, 900.0], [-900.0, -900.0]]), calibration, exclusive=False)
    assert np.isfinite(corrected).all()
    assert (corrected[0] > 60).all()
    assert (corrected[1] < -60).all()


def test_exclusive_classes_share_what_the_sampled_one_leaves() -> None:
    """Weights 3 : 2 : 1, the first times 1/9: 1/3 : 2 : 1, so 0.1, 0.6, 0.3; the last two keep their ratio of 2."""
    calibration = Calibration("prior", "", (1.0,) * 3, (0.0,) * 3, ONE_TO_ONE)
    found = probabilities([[np.log(3), np.log(2), 0.0]], calibration, exclusive=True)
    assert found[0] == pytest.approx([0.1, 0.6, 0.3])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_temperature_and_prior_give_the_probabilities_of_the_population(temperature: float) -> None:
    """The true probability is known: the sigmoid of ratio + logit(0.1). The slope varies by 2 %."""
    validation = simulated(temperature, prevalence=0.1, train_prevalence=0.5)
    found = fit_calibration("where_prior_shifted", validation, TrainPrior(sampled=ONE_TO_ONE), ["any"])
    assert (found.method, found.images, found.patients) == ("prior_and_temperature", 20_000, 20_000)
    assert 1 / found.slopes[0] == pytest.approx(temperature, rel=0.08)
    truth = expit(validation.logits / temperature + logit(0.1))
    estimated = to_probabilities(calibrated_logits(validation.logits, found, exclusive=False), exclusive=False)
    assert np.abs(estimated - truth).mean() < 0.01
    assert np.abs(expit(validation.logits) - truth).mean() > 0.1


def test_platt_absorbs_the_prior() -> None:
    validation = simulated(2.0, prevalence=0.1, train_prevalence=0.5)
    found = fit_calibration("platt", validation, TrainPrior(sampled=ONE_TO_ONE), ["any"])
    assert (found.method, found.sampled) == ("platt", None)
    assert found.slopes[0] == pytest.approx(0.5, rel=0.1)
    assert found.intercepts[0] == pytest.approx(np.log(1 / 9), abs=0.15)


def test_weights_of_the_loss_are_taken_back() -> None:
    """Positives weigh nine times as much, as with `class_weighted` at a prevalence of 0.1: as if train had 0.5."""
    validation = simulated(1.0, prevalence=0.1, train_prevalence=0.5)
    prior = TrainPrior(shifts=(float(-np.log(9)),))
    found = fit_calibration("where_prior_shifted", validation, prior, ["any"])
    assert (found.method, found.intercepts) == ("prior_and_temperature", pytest.approx((-np.log(9),)))
    assert found.slopes[0] == pytest.approx(1.0, abs=0.08)


def test_where_the_prior_is_right_nothing_is_done_unless_configured() -> None:
    validation = simulated(2.0, prevalence=0.1, train_prevalence=0.1)
    for choice, reason in (("none", "not configured"), ("where_prior_shifted", "neither sampled nor weighted")):
        found = fit_calibration(choice, validation, TrainPrior(), ["any"])
        assert (found.method, found.slopes) == ("none", ())
        assert reason in found.reason
    assert 1 / fit_calibration("temperature", validation, TrainPrior(), ["any"]).slopes[0] == pytest.approx(2, rel=0.1)


def test_sampling_that_no_formula_takes_back_needs_platt() -> None:
    validation = simulated(1.0, prevalence=0.1, train_prevalence=0.5)
    prior = TrainPrior(unknown="sampled by any, which is no class of the task")
    found = fit_calibration("where_prior_shifted", validation, prior, ["subdural"])
    assert (found.method, found.reason) == ("platt", "sampled by any, which is no class of the task")
    assert fit_calibration("temperature", validation, prior, ["subdural"]).reason == prior.unknown


def test_too_few_patients_leave_the_prior_correction() -> None:
    """Nine patients: no temperature; the prior needs none of them."""
    few = LabelledLogits(np.zeros((18, 1), np.float32), np.arange(18)[:, None] % 2, np.arange(18) // 2, False)
    found = fit_calibration("where_prior_shifted", few, TrainPrior(sampled=ONE_TO_ONE), ["any"])
    assert (found.method, found.slopes, found.images) == ("prior", (1.0,), 0)
    assert found.reason == "no temperature: 9 patients, at least 10 are needed"
    assert fit_calibration("platt", few, TrainPrior(), ["any"]).method == "none"
    assert fit_calibration("platt", few, TrainPrior(sampled=ONE_TO_ONE), ["any"]).method == "prior"


def test_only_the_class_with_too_few_patients_is_left_out() -> None:
    generator = np.random.default_rng(0)
    labels = np.stack([np.arange(40) % 2, np.arange(40) < 3], axis=1).astype(np.uint8)
    logits = (3 * labels - 1.5 + generator.normal(size=(40, 2))).astype(np.float32)
    split = LabelledLogits(logits, labels, np.arange(40), False)
    for choice in ("temperature", "platt"):
        found = fit_calibration(choice, split, TrainPrior(), ["a", "b"])
        assert found.slopes[0] != 1
        assert (found.slopes[1], found.intercepts[1]) == (1, 0)
        assert "of b (3 patients with the finding, at least 5 are needed)" in found.reason


def with_a_rare_class(*, prevalence: float, train_prevalence: float) -> LabelledLogits:
    """Return a simulated class, and a second one of the same logits that only the first patient with it has."""
    one = simulated(1.0, prevalence=prevalence, train_prevalence=train_prevalence, images=2_000)
    rare = np.zeros_like(one.labels)
    rare[np.flatnonzero(one.labels[:, 0])[0]] = 1
    both = np.concatenate([one.logits, one.logits], axis=1)
    return LabelledLogits(both, np.concatenate([one.labels, rare], axis=1), one.patients, False)


def test_platt_leaves_the_weights_taken_back_of_a_class_it_cannot_fit() -> None:
    """Shifts of -2 and -3: Platt fits the first, 0.5 to 0.1 is ln 1/9; the second keeps its -3."""
    split = with_a_rare_class(prevalence=0.1, train_prevalence=0.5)
    found = fit_calibration("platt", split, TrainPrior(shifts=(-2.0, -3.0)), ["any", "epidural"])
    assert (found.method, found.slopes[1], found.intercepts[1]) == ("platt", 1, -3)
    assert found.intercepts[0] == pytest.approx(np.log(1 / 9), abs=0.4)
    prior = Calibration("prior", "", (1.0, 1.0), (-2.0, -3.0))
    logits = split.logits.tolist()
    np.testing.assert_array_equal(probabilities(logits, found)[:, 1], probabilities(logits, prior)[:, 1])


def test_a_sampled_class_and_one_that_platt_cannot_fit_are_left_to_temperature() -> None:
    """Beside Platt's lines no class keeps its part of another one; a temperature of the second is not fitted either."""
    split = with_a_rare_class(prevalence=0.1, train_prevalence=0.5)
    classes = ["any", "epidural"]
    found = fit_calibration("platt", split, TrainPrior(sampled=ONE_TO_ONE), classes)
    expected = fit_calibration("temperature", split, TrainPrior(sampled=ONE_TO_ONE), classes)
    assert (found.method, found.sampled, found.slopes) == ("prior_and_temperature", ONE_TO_ONE, expected.slopes)
    few = "epidural (1 patient with the finding, at least 5 are needed)"
    assert found.reason == (
        f"no Platt scaling of {few}, whose prior correction needs temperatures in its place; no temperature of {few}"
    )
    plain = Calibration("prior", "", (found.slopes[0], 1.0), (0.0, 0.0), ONE_TO_ONE)
    logits = split.logits.tolist()
    np.testing.assert_array_equal(probabilities(logits, found)[:, 1], probabilities(logits, plain)[:, 1])


def test_a_prior_that_validation_contradicts_is_left_out_of_platt_too() -> None:
    split = with_a_rare_class(prevalence=0.1, train_prevalence=0.1)
    found = fit_calibration("platt", split, TrainPrior(sampled=ONE_TO_ONE), ["any", "epidural"])
    assert (found.method, found.sampled, found.slopes[1], found.intercepts[1]) == ("platt", None, 1, 0)
    assert "validation contradicts the prior correction" in found.reason


def test_logits_that_fall_with_the_label_are_left_alone() -> None:
    labels = (np.arange(60) % 2)[:, None]
    contrary = LabelledLogits(np.where(labels == 1, -2.0, 2.0).astype(np.float32), labels, np.arange(60), False)
    for choice in ("temperature", "platt"):
        found = fit_calibration(choice, contrary, TrainPrior(), ["any"])
        assert (found.method, found.images) == ("none", 0)
        assert "do not rise with the label" in found.reason


def test_separated_validation_does_not_lead_to_certainty() -> None:
    """Ten and ten patients, apart: smoothed labels are 11/12 and 1/12, so the slope is ln 11 over the logit."""
    labels = (np.arange(20) % 2)[:, None]
    apart = LabelledLogits(np.where(labels == 1, 4.0, -4.0).astype(np.float32), labels, np.arange(20), False)
    for choice in ("temperature", "platt"):
        assert fit_calibration(choice, apart, TrainPrior(), ["any"]).slopes[0] == pytest.approx(
            np.log(11) / 4, rel=1e-4
        )


def test_smoothed_labels_are_those_of_platt() -> None:
    """2 of 8 images positive: (2 + 1) / (2 + 2) and 1 / (6 + 2), however many patients they are of."""
    labels = np.array([1, 1, 0, 0, 0, 0, 0, 0])[:, None]
    for patients in (np.arange(8) // 2, np.arange(8)):
        found = smoothed_targets(LabelledLogits(np.zeros((8, 1)), labels, patients, False))
        assert sorted(set(found[:, 0])) == pytest.approx([1 / 8, 3 / 4])


def test_a_prior_that_validation_contradicts_is_left_out() -> None:
    """The log odds are those of the population although train was 1 : 1: repeated images were remembered, no more."""
    validation = simulated(1.0, prevalence=0.1, train_prevalence=0.1)
    found = fit_calibration("where_prior_shifted", validation, TrainPrior(sampled=ONE_TO_ONE), ["any"])
    assert (found.method, found.sampled) == ("platt", None)
    assert found.reason.startswith("validation contradicts the prior correction: log loss 0.")
    assert (found.slopes[0], found.intercepts[0]) == pytest.approx((1.0, 0.0), abs=0.1)
    both = np.concatenate([validation.logits, np.zeros_like(validation.logits)], axis=1)
    labels = np.concatenate([validation.labels, 1 - validation.labels], axis=1)
    exclusive = LabelledLogits(both, labels, validation.patients, True)
    found = fit_calibration("where_prior_shifted", exclusive, TrainPrior(shifts=(-2.0, 0.0)), ["any", "none"])
    assert (found.method, found.intercepts) == ("temperature", (0, 0))
    assert "contradicts" in found.reason


def test_smoothed_exclusive_labels_sum_to_one() -> None:
    """Classes of 2, 1 and 1 images: 3/4, and 2/3 for the others; the rest is halved."""
    labels = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    found = smoothed_targets(LabelledLogits(np.zeros((4, 3)), labels, np.arange(4), True))
    assert found[0] == pytest.approx([3 / 4, 1 / 8, 1 / 8])
    assert found[3] == pytest.approx([1 / 6, 1 / 6, 2 / 3])


def test_exclusive_classes_share_one_temperature() -> None:
    """Twelve images a class, 2/3 of them as predicted: log 4 of the softmax weight; smoothed a little below."""
    labels = np.eye(3, dtype=np.uint8)[np.repeat([0, 1, 2], 12)]
    predicted = np.eye(3)[
        np.concatenate([np.r_[np.full(8, k), np.full(2, (k + 1) % 3), np.full(2, (k + 2) % 3)] for k in range(3)])
    ]
    split = LabelledLogits((6 * predicted).astype(np.float32), labels, np.arange(36), True)
    found = fit_calibration("temperature", split, TrainPrior(), ["a", "b", "c"])
    assert len(set(found.slopes)) == 1
    odds = np.exp(6 * found.slopes[0])  # of the predicted class to another: 2/3 : 1/6 = 4 without smoothing
    assert 3.0 < odds < 4.0


def test_logistic_line_by_hand() -> None:
    """Frequencies 1/4 at 0 and 3/4 at 1 are met exactly: intercept -ln 3, slope 2 ln 3."""
    scores, labels = np.repeat([0.0, 1.0], 4), np.array([1, 0, 0, 0, 1, 1, 1, 0])
    assert logistic_line(scores, labels) == pytest.approx((2 * np.log(3), -np.log(3)))
