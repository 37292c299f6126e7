"""Rows to normalised floats."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from hemo.learning.batch import Normalisation, _pinned, device_batches, normalise, plain_normalisation, to_unit_range
from hemo.learning.examples import Examples
from hemo.learning.images import ImageSet, ResidentImages


def test_examples_become_floats_at_hand_computed_values() -> None:
    pixels = np.array([[[[7, 7]]], [[[0, 51]]], [[[255, 102]]]], np.uint8)
    pixels.flags.writeable = False  # as Ray's object store gives them
    nothing = np.array(["a", "b", "c"])
    source = ImageSet(ResidentImages(pixels, np.array([3])), np.zeros((3, 1), np.uint8), nothing, nothing, nothing)
    examples = Examples(source, np.array([1, 2]), source.labels[1:], 1)
    first, second = device_batches(examples, [np.array([1, 0]), np.array([0])], torch.device("cpu"))
    assert first.dtype == torch.uint8
    assert second.tolist() == [[[[0, 51]]]]
    unit = to_unit_range(first)
    torch.testing.assert_close(unit, torch.tensor([[[[1.0, 0.4]]], [[[0.0, 0.2]]]]))
    torch.testing.assert_close(
        normalise(unit, plain_normalisation(1)), torch.tensor([[[[2.0, -0.4]]], [[[-2.0, -1.2]]]])
    )


def test_each_channel_has_its_own_mean_and_std() -> None:
    images = torch.full((1, 2, 1, 1), 0.5)
    scaled = normalise(images, Normalisation(mean=(0.1, 0.3), std=(0.2, 0.4)))
    torch.testing.assert_close(scaled.flatten(), torch.tensor([2.0, 0.5]))


@pytest.mark.parametrize("batches", [0, 1, 10])
def test_a_thread_gathers_a_few_ahead_in_order_and_ends(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda images: images)  # it needs a GPU
    gathered = _pinned(_counted(batches, []))
    assert [int(images) for images in gathered] == list(range(batches))


def test_what_ends_the_gathering_is_passed_on_and_who_leaves_early_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda images: images)
    seen, said = [], list[str]()
    with pytest.raises(ValueError, match="damaged"):
        seen.extend(_pinned(_counted(5, said, fault="damaged")))
    assert (len(seen), said) == (5, ["closed"])
    gathered = _pinned(_counted(100, said))
    next(gathered)
    gathered.close()
    assert said == ["closed", "closed"]


def _counted(batches: int, said: list[str], fault: str = "") -> Iterator[torch.Tensor]:
    """Yield numbered batches, then raise if there is a fault; `said` is told when nobody asks any more."""
    try:
        for number in range(batches):
            yield torch.tensor(number)
        if fault:
            raise ValueError(fault)
    finally:
        said.append("closed")
