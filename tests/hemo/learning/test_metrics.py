"""Figures of a split."""

import math

import numpy as np
import pytest
import torch

from hemo.config.trial import TrialConfig
from hemo.learning.loss import build_loss
from hemo.learning.metrics import choose_threshold, measure


def _measure(
    task: str, logits: list[list[float]], targets: list[list[int]], threshold: float = 0.5
) -> dict[str, float]:
    truth = torch.tensor(targets, dtype=torch.float32)
    loss = build_loss(TrialConfig(task=task), tuple("abc"[: truth.shape[1]]), truth)
    return measure(task, torch.tensor(logits), truth, loss, threshold)


def test_binary_figures_by_hand() -> None:
    found = _measure("binary", [[2.0], [1.0], [-1.0], [-2.0], [-3.0]], [[1], [0], [1], [0], [0]])
    log_losses = [math.log1p(math.exp(-2)), math.log1p(math.e), math.log1p(math.e)]
    log_losses += [math.log1p(math.exp(-2)), math.log1p(math.exp(-3))]
    expected = {
        "loss": sum(log_losses) / 5,
        "accuracy": 3 / 5,
        "auroc": 5 / 6,  # of six pairs only (-1, 1) is in the wrong order
        "sensitivity": 1 / 2,
        "specificity": 2 / 3,
    }
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_threshold_is_a_probability_to_exceed() -> None:
    logits, targets = [[0.0], [0.0], [math.log(3)]], [[0], [1], [1]]
    assert _measure("binary", logits, targets, 0.5)["sensitivity"] == pytest.approx(1 / 2)
    assert _measure("binary", logits, targets, 0.49)["sensitivity"] == pytest.approx(1.0)
    assert _measure("binary", logits, targets, 0.8)["sensitivity"] == 0.0


def test_what_is_not_defined_is_left_out() -> None:
    assert set(_measure("binary", [[1.0], [2.0]], [[1], [1]])) == {"loss", "accuracy", "sensitivity"}
    assert set(_measure("binary", [[1.0], [2.0]], [[0], [0]])) == {"loss", "accuracy", "specificity"}


def test_multi_label_figures_are_means_over_classes_that_have_them() -> None:
    found = _measure("multi_label", [[2.0, -1.0], [-2.0, -1.0], [3.0, 1.0]], [[1, 0], [0, 0], [1, 0]])
    assert found["accuracy"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["auroc"] == pytest.approx(1.0)  # class b has no positives
    assert found["sensitivity"] == pytest.approx(1.0)
    assert found["specificity"] == pytest.approx((1 + 2 / 3) / 2)


def test_multi_class_accuracy_is_of_the_most_probable_class() -> None:
    logits = [[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [2.0, 0.0, 1.0], [0.0, 1.0, 2.0]]
    found = _measure("multi_class", logits, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]])
    assert found["accuracy"] == pytest.approx(3 / 4)
    assert found["sensitivity"] == pytest.approx((1 + 1 + 1 / 2) / 3)
    assert found["specificity"] == pytest.approx((2 / 3 + 1 + 1) / 3)


@pytest.mark.parametrize(
    ("probabilities", "labels", "threshold"),
    [
        ([0.1, 0.2, 0.3, 0.9], [0, 0, 1, 1], 0.25),
        ([0.1, 0.7, 0.6, 0.9], [0, 0, 1, 1], 0.35),  # as good as 0.8, and nearer to 0.5
        ([0.2, 0.4, 0.4], [0, 1, 1], 0.3),
        ([0.9, 0.1], [0, 1], 0.05),  # wrong way round: all one class is the best, either
        ([0.3, 0.4], [1, 1], 0.5),
    ],
)
def test_threshold_of_the_best_balanced_accuracy(
    probabilities: list[float], labels: list[int], threshold: float
) -> None:
    found = choose_threshold(np.array(probabilities), np.array(labels, np.uint8))
    assert found == pytest.approx(threshold)


def test_a_threshold_is_chosen_for_both_classes_alike_however_rare_one_is() -> None:
    probabilities = np.concatenate([np.linspace(0.01, 0.3, 99), [0.29]])
    labels = np.concatenate([np.zeros(99), [1]]).astype(np.uint8)
    assert choose_threshold(probabilities, labels) < 0.29
