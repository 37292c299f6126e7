"""Speed by a clock of our own."""

import numpy as np
import pytest
import torch
from torch import nn

from hemo.inference.predict import QUICK, THOROUGH, Speed, Timing, measure_speed, median_seconds, megabytes, quick_speed


class Clock:
    """A model and its clock: a call takes `call_seconds` and each image `image_seconds` more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, call_seconds: float, image_seconds: float) -> None:
        self.now, self.batches = 0.0, list[int]()
        self._call_seconds, self._image_seconds = call_seconds, image_seconds
        monkeypatch.setattr("hemo.inference.predict.time.perf_counter", lambda: self.now)

    def predict(self, images: np.ndarray) -> None:
        self.batches.append(len(images))
        self.now += self._call_seconds + len(images) * self._image_seconds


def test_speed_is_that_of_one_image_and_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One image takes 1 + 1/2 s, four take 3: three calls of each, after two to warm up."""
    clock = Clock(monkeypatch, call_seconds=1.0, image_seconds=0.5)
    assert measure_speed(clock.predict, np.zeros((4, 1, 2, 2), np.uint8)) == Speed(1500.0, 4 / 3, 4)
    assert clock.batches == [1] * 5 + [4] * 5


def test_the_median_is_not_moved_by_one_slow_call(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seconds = Clock(monkeypatch, call_seconds=0.0, image_seconds=0.0), iter([9.0, 1.0, 1.0, 50.0])

    def predict(images: np.ndarray) -> None:
        clock.now += next(seconds)

    three = Timing(warm_up_calls=1, least_calls=3, most_calls=3, seconds=0.0)
    assert median_seconds(predict, np.zeros((1, 1, 2, 2), np.uint8), three) == 1.0


@pytest.mark.parametrize(
    ("image_seconds", "largest", "batch", "calls"),
    [
        (1 / 1024, 64, 32, 12 + 8),  # 0.2 s are 6.4 batches of 1/32 s: a seventh is begun, and one warmed up
        (1 / 1024, 8, 8, 12 + 12),
        (1 / 64, 64, 6, 12 + 4),  # 0.1 s are 6.4 images, 0.2 s are 2.1 batches of six
        (2.0, 64, 1, 2),  # a slow model is called twice
    ],
)
def test_a_slow_model_gets_smaller_batches(
    monkeypatch: pytest.MonkeyPatch, image_seconds: float, largest: int, batch: int, calls: int
) -> None:
    clock = Clock(monkeypatch, call_seconds=0.0, image_seconds=image_seconds)
    found = quick_speed(clock.predict, (1, 2, 2), largest)
    assert found == Speed(1000 * image_seconds, pytest.approx(1 / image_seconds), batch)
    assert len(clock.batches) == calls
    assert clock.now < max(1.0, 2 * image_seconds + 0.1)


def test_size_is_that_of_weights_and_buffers() -> None:
    """Of 10 channels: 4 x 10 values of 4 bytes and a count of 8."""
    assert megabytes(nn.BatchNorm2d(10)) == pytest.approx(168 / 1e6)
    assert megabytes(nn.Linear(3, 2, dtype=torch.float16)) == pytest.approx(16 / 1e6)
    assert QUICK.seconds < THOROUGH.seconds
