"""Rows to normalised floats."""

import numpy as np
import torch

from hemo.learning.batch import Normalisation, device_batches, normalise, plain_normalisation, to_unit_range
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
