"""Losses against numbers worked out by hand."""

import math

import pytest
import torch

from hemo.config.trial import TrainingConfig, TrialConfig
from hemo.training.loss import ImageLoss, build_loss, smoothed

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


def test_focal_counts_an_image_by_the_square_of_what_it_lacks() -> None:
    """A probability of 3/4 for what is so counts (1/4)^2 of its log loss, of 1/4 (3/4)^2."""
    loss = _loss("binary", "focal", ("any",), [[0], [1]])
    found = loss(torch.tensor([[LN3], [LN3], [-LN3]]), torch.tensor([[1.0], [0.0], [0.0]]))
    easy, hard = -math.log(0.75) / 16, -math.log(0.25) * 9 / 16
    torch.testing.assert_close(found, torch.tensor([easy, hard, easy]))


def test_focal_of_columns_and_of_exclusive_classes() -> None:
    columns = _loss("multi_label", "focal", ("a", "b"), [[0, 1], [1, 0]])
    found = columns(torch.tensor([[LN3, 0.0]]), torch.tensor([[1.0, 1.0]]))
    assert found.item() == pytest.approx((-math.log(0.75) / 16 + math.log(2) / 4) / 2)
    exclusive = _loss("multi_class", "focal", ("a", "b", "c"), [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    found = exclusive(torch.tensor([[math.log(2), 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]]))
    assert found.item() == pytest.approx(math.log(4) * 9 / 16)  # probability 1/4


def test_dice_of_each_image() -> None:
    """1 - (2 p y + 1) / (p + y + 1) of p = 3/4: 1 - 2.5 / 2.75 with the class, 1 - 1 / 1.75 without."""
    loss = _loss("binary", "dice", ("any",), [[0], [1]])
    found = loss(torch.tensor([[LN3], [LN3]]), torch.tensor([[1.0], [0.0]]))
    torch.testing.assert_close(found, torch.tensor([1 / 11, 3 / 7]))


def test_dice_of_columns_and_of_exclusive_classes() -> None:
    columns = _loss("multi_label", "dice", ("a", "b"), [[0, 1], [1, 0]])
    found = columns(torch.tensor([[LN3, LN3]]), torch.tensor([[1.0, 0.0]]))
    assert found.item() == pytest.approx((1 / 11 + 3 / 7) / 2)
    exclusive = _loss("multi_class", "dice", ("a", "b", "c"), [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    found = exclusive(torch.tensor([[math.log(2), 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]]))
    assert found.item() == pytest.approx((1 / 5 + 1 / 5 + 1 / 5) / 3)  # 1 - 2 / 2.5; 1 - 1 / 1.25 twice


@pytest.mark.parametrize("name", ["focal", "dice"])
def test_gradients_of_a_sure_answer_are_finite(name: str) -> None:
    logits = torch.tensor([[200.0], [-200.0]], requires_grad=True)
    _loss("binary", name, ("any",), [[0], [1]])(logits, torch.tensor([[0.0], [0.0]])).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_smoothed_labels() -> None:
    two_sides = smoothed(torch.tensor([[1.0, 0.0]]), 0.2, exclusive=False)
    torch.testing.assert_close(two_sides, torch.tensor([[0.9, 0.1]]))
    four_classes = smoothed(torch.tensor([[0.0, 1.0, 0.0, 0.0]]), 0.2, exclusive=True)
    torch.testing.assert_close(four_classes, torch.tensor([[0.05, 0.85, 0.05, 0.05]]))
    plain = torch.tensor([[1.0, 0.0]])
    assert torch.equal(smoothed(plain, 0.0, exclusive=False), plain)


def test_the_loss_of_smoothed_labels_is_that_of_both_answers() -> None:
    loss = _loss("binary", "default", ("any",), [[0], [1]])
    found = loss(torch.tensor([[LN3]]), smoothed(torch.tensor([[1.0]]), 0.2, exclusive=False))
    assert found.item() == pytest.approx(-0.9 * math.log(0.75) - 0.1 * math.log(0.25))
