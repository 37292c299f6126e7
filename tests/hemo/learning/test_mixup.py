"""Mixup, drawn and applied."""

import numpy as np
import torch

from hemo.learning.mixup import draw_mixing, mixed


def test_images_and_labels_are_mixed_by_their_share() -> None:
    own, others = torch.tensor([[[[1.0]]], [[[0.0]]]]), torch.tensor([[[[0.0]]], [[[8.0]]]])
    share = torch.tensor([0.75, 0.5])
    assert mixed(own, others, share).flatten().tolist() == [0.75, 4.0]
    labels = mixed(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]]), share)
    assert labels.tolist() == [[0.75, 0.25], [0.5, 0.0]]


def test_every_image_is_mixed_into_one_and_keeps_at_least_half_of_itself() -> None:
    drawn = draw_mixing(1.0, 4000, seed=1)
    assert np.array_equal(np.sort(drawn.partner), np.arange(4000))
    assert 0.5 <= float(drawn.share.min()) < 0.501
    assert 0.999 < float(drawn.share.max()) <= 1
    assert abs(float(drawn.share.mean()) - 0.75) < 0.01  # evenly in 0.5..1


def test_a_small_alpha_hardly_mixes() -> None:
    assert float(draw_mixing(0.05, 1000, seed=1).share.median()) > 0.999


def test_a_seed_replays_and_another_does_not() -> None:
    first, again, other = (draw_mixing(0.4, 64, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.partner, again.partner)
    assert torch.equal(first.share, again.share)
    assert not np.array_equal(first.partner, other.partner)


def test_a_part_keeps_places_in_the_whole_batch() -> None:
    drawn = draw_mixing(0.4, 6, seed=3)
    part = drawn.part(slice(2, 5))
    assert part.partner.tolist() == drawn.partner[2:5].tolist()
    assert part.share.tolist() == drawn.share[2:5].tolist()
