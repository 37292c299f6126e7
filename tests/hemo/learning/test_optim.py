"""Optimisers and learning rates."""

import pytest
import torch
from torch import nn

from hemo.config.trial import TrainingConfig
from hemo.learning.optim import build_optimizer, learning_rate_at, set_learning_rate


@pytest.mark.parametrize(
    ("name", "first_step"),
    [
        ("sgd", 1 - 0.1 * (2.0 + 0.5 * 1)),  # decay is added to the gradient
        ("adam", 1 - 0.1),  # the first step of Adam has the length of the learning rate
        ("adamw", 1 - 0.1 * 0.5 * 1 - 0.1),  # decay apart from the gradient
    ],
)
def test_first_step_by_hand(name: str, first_step: float) -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.ones_(module.weight)
    config = TrainingConfig(optimizer=name, learning_rate=0.1, weight_decay=0.5)
    optimizer = build_optimizer(module, config, torch.device("cpu"))
    (module.weight * 2.0).sum().backward()
    optimizer.step()
    assert module.weight.item() == pytest.approx(first_step, abs=1e-6)


def test_constant_rate_without_warmup() -> None:
    config = TrainingConfig(learning_rate=0.3)
    assert [learning_rate_at(step, steps_an_epoch=10, config=config) for step in (0, 299)] == [0.3, 0.3]


def test_warmup_then_half_a_cosine() -> None:
    config = TrainingConfig(learning_rate=1.0, epochs=4, schedule="cosine", warmup_epochs=1)
    rates = {step: learning_rate_at(step, steps_an_epoch=10, config=config) for step in (0, 4, 9, 10, 20, 25, 39)}
    assert rates == pytest.approx({0: 0.1, 4: 0.5, 9: 1.0, 10: 1.0, 20: 0.75, 25: 0.5, 39: 0.00273905}, abs=1e-6)


def test_set_learning_rate_reaches_every_group() -> None:
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)]}], lr=1.0)
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]
