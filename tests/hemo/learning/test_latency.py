"""The time of one image."""

import time

import torch
from torch import Tensor, nn

from hemo.learning import latency
from hemo.learning.latency import TIMED_CALLS, WARM_UP_CALLS, image_latency_ms


class Sleeper(nn.Module):
    """Takes ten milliseconds an image, the first calls ten times as long."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[tuple[int, ...], bool]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append((tuple(images.shape), self.training))
        time.sleep(0.1 if len(self.seen) <= WARM_UP_CALLS else 0.01)
        return self.weight


def test_the_median_of_one_image_after_warming_up() -> None:
    model = Sleeper().train()
    assert 10 <= image_latency_ms(model, (3, 8, 6)) < 100
    assert model.seen == [((1, 3, 8, 6), False)] * (WARM_UP_CALLS + TIMED_CALLS)
    assert model.training


def test_it_is_told_in_milliseconds(monkeypatch) -> None:
    monkeypatch.setattr(latency, "_seconds", lambda module, image: 0.25)
    assert image_latency_ms(Sleeper(), (1, 2, 2)) == 250
