"""Stored pixels to the model's input."""

import torch

from hemo.models.normalisation import Normalisation, normalise


def test_each_channel_has_its_own_mean_and_std() -> None:
    images = torch.full((1, 2, 1, 1), 0.5)
    scaled = normalise(images, Normalisation(mean=(0.1, 0.3), std=(0.2, 0.4)))
    torch.testing.assert_close(scaled.flatten(), torch.tensor([2.0, 0.5]))
