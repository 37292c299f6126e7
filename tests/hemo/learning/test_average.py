"""A running average of weights, by hand."""

import pytest
import torch
from torch import nn

from hemo.learning.average import running_average


def _after(decay: float, weights: dict[int, float]) -> list[float]:
    """Return the average after each of the steps, at which the model has these weights."""
    module = nn.Linear(1, 1, bias=False)
    average = running_average(module, decay)
    found = []
    for step, weight in weights.items():
        nn.init.constant_(module.weight, weight)
        average.update(module, step=step)
        found.append(average.module.weight.item())
    return found


def test_the_first_steps_count_more() -> None:
    """Step 1 keeps nothing of the untrained weights, step 2 keeps 1 - 2 ** -0.75 = 0.4054."""
    assert _after(0.999, {1: 1.0, 2: 2.0}) == pytest.approx([1.0, 0.405396 * 1 + 0.594604 * 2], abs=1e-5)


def test_later_steps_keep_the_decay() -> None:
    assert _after(0.25, {1: 1.0, 2: 3.0, 3: 5.0}) == pytest.approx([1.0, 0.25 + 2.25, 0.625 + 3.75])


def test_running_statistics_are_averaged_and_counts_copied() -> None:
    module = nn.BatchNorm1d(1)
    average = running_average(module, 0.5)
    for step, mean in ((1, 2.0), (3, 4.0)):
        module.running_mean.fill_(mean)
        module.num_batches_tracked.fill_(step)
        average.update(module, step=step)
    assert (average.module.running_mean.item(), average.module.num_batches_tracked.item()) == (3.0, 3)


def test_the_average_is_a_model_of_its_own() -> None:
    module = nn.Linear(1, 1)
    average = running_average(module, 0.9).module
    with torch.no_grad():
        module.weight += 1
    assert average.weight.item() == pytest.approx(module.weight.item() - 1)
