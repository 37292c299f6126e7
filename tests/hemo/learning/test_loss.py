"""Losses against numbers worked out by hand."""

import math

import pytest
import torch

from hemo.config.trial import TrainingConfig, TrialConfig
from hemo.learning.loss import ImageLoss, build_loss

RSNA = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")
LN3 = math.log(3)  # the logit of probability 3/4


def _loss(task: str, name: str, classes: tuple[str, ...], labels: list[list[int]]) -> ImageLoss:
    config = TrialConfig(task=task, training=TrainingConfig(loss=name))
    return build_loss(config, classes, torch.tensor(labels, dtype=torch.float32))


def test_binary_cross_entropy_of_each_image() -> None:
    loss = _loss("binary", "default", ("any",), [[0], [1]])
    found = loss(torch.tensor([[LN3], [LN3], [0.0]]), torch.tensor([[1.0], [0.0], [1.0]]))
    torch.testing.assert_close(found, torch.tensor([-math.log(0.75), -math.log(0.25), math.log(2)]))


def test_multi_label_is_the_mean_over_columns() -> None:
    loss = _loss("multi_label", "default", ("a", "b"), [[0, 1], [1, 0]])
    found = loss(torch.tensor([[LN3, 0.0]]), torch.tensor([[0.0, 1.0]]))
    assert found.item() == pytest.approx((-math.log(0.25) + math.log(2)) / 2)


@pytest.mark.parametrize("classes", [RSNA, ("any", *RSNA[:5])])
def test_rsna_counts_any_twice_wherever_it_stands(classes: tuple[str, ...]) -> None:
    loss = _loss("multi_label", "rsna", classes, [[0] * 6, [1] * 6])
    place = classes.index("any")
    logits, targets = torch.zeros(1, 6), torch.zeros(1, 6)
    logits[0, place], targets[0, place] = LN3, 1.0
    assert loss(logits, targets).item() == pytest.approx((2 * -math.log(0.75) + 5 * math.log(2)) / 7)


def test_class_weights_are_inverse_frequencies() -> None:
    loss = _loss("binary", "class_weighted", ("any",), [[1], [0], [0], [0]])
    found = loss(torch.zeros(2, 1), torch.tensor([[1.0], [0.0]]))
    torch.testing.assert_close(found, torch.tensor([4 / (2 * 1), 4 / (2 * 3)]) * math.log(2))


def test_a_column_without_positives_keeps_weight_one() -> None:
    loss = _loss("multi_label", "class_weighted", ("a", "b"), [[1, 0], [0, 0]])
    assert loss.positive_weight.tolist() == [1.0, 1.0]
    assert loss.negative_weight.tolist() == [1.0, 0.5]


def test_multi_class_is_cross_entropy() -> None:
    loss = _loss("multi_class", "default", ("a", "b", "c"), [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    found = loss(torch.tensor([[math.log(2), 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]]))
    assert found.item() == pytest.approx(math.log(2))  # e^ln2 / (2 + 1 + 1) = 1/2


def test_multi_class_weights() -> None:
    loss = _loss("multi_class", "class_weighted", ("a", "b"), [[1, 0], [0, 1], [0, 1], [0, 1]])
    assert loss.positive_weight.tolist() == pytest.approx([4 / (2 * 1), 4 / (2 * 3)])


def test_extreme_logits_stay_finite() -> None:
    loss = _loss("binary", "default", ("any",), [[0], [1]])
    assert loss(torch.tensor([[200.0]]), torch.tensor([[0.0]])).item() == pytest.approx(200.0)
