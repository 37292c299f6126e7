"""Changes of images, drawn and applied."""

import numpy as np
import torch
from torch import Tensor

from hemo.config.trial import AugmentConfig
from hemo.training.data.augment import AugmentParameters, augment, draw_mixup, draw_parameters, mix

IMAGE = torch.arange(1.0, 17.0).reshape(1, 1, 4, 4)


def _parameters(**changed: float) -> AugmentParameters:
    still = {
        "horizontal_flip": torch.tensor([False]),
        "vertical_flip": torch.tensor([False]),
        "rotate_degrees": torch.zeros(1),
        "shift_x": torch.zeros(1),
        "shift_y": torch.zeros(1),
        "scale": torch.ones(1),
        "aspect": torch.ones(1),
        "window_level": torch.zeros(1),
        "window_width": torch.ones(1),
        "erased_height": torch.zeros(1),
        "erased_width": torch.zeros(1),
        "erased_top": torch.zeros(1),
        "erased_left": torch.zeros(1),
    }
    return AugmentParameters(**{**still, **{name: torch.tensor([value]) for name, value in changed.items()}})


def _close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_nothing_drawn_changes_nothing() -> None:
    assert augment(IMAGE, _parameters()) is IMAGE


def test_flips() -> None:
    _close(augment(IMAGE, _parameters(horizontal_flip=True)), IMAGE.flip(3))
    _close(augment(IMAGE, _parameters(vertical_flip=True)), IMAGE.flip(2))


def test_a_quarter_turn_is_counter_clockwise() -> None:
    _close(augment(IMAGE, _parameters(rotate_degrees=90.0)), IMAGE.rot90(1, (2, 3)))


def test_shift_moves_right_and_down_and_repeats_the_edge() -> None:
    right, down = augment(IMAGE, _parameters(shift_x=0.25)), augment(IMAGE, _parameters(shift_y=0.25))
    _close(right[..., 1:], IMAGE[..., :-1])
    _close(right[..., 0], IMAGE[..., 0])
    _close(down[..., 1:, :], IMAGE[..., :-1, :])
    _close(down[..., 0, :], IMAGE[..., 0, :])


def test_no_change_of_place_darkens_an_even_image() -> None:
    even = torch.full((1, 1, 8, 8), 0.7)
    moved = augment(even, _parameters(rotate_degrees=30.0, scale=0.5, shift_x=0.2, shift_y=-0.3))
    _close(moved, even)


def test_scale_by_two_makes_a_spot_four_times_as_large() -> None:
    spot = torch.zeros(1, 1, 8, 8)
    spot[..., 3:5, 3:5] = 1
    assert round(float(augment(spot, _parameters(scale=2.0)).sum())) == 16


def test_a_quarter_turn_of_an_oblong_image_keeps_lengths() -> None:
    bar = torch.zeros(1, 1, 8, 16)
    bar[..., 3:5, 5:11] = 1  # 6 wide, 2 high
    turned = augment(bar, _parameters(rotate_degrees=90.0))[0, 0] > 0.5
    assert [int(turned.any(dim=1).sum()), int(turned.any(dim=0).sum())] == [6, 2]


def test_an_aspect_of_four_makes_a_square_twice_as_wide_and_half_as_tall() -> None:
    square = torch.zeros(1, 1, 16, 16)
    square[..., 6:10, 6:10] = 1
    stretched = augment(square, _parameters(aspect=4.0))[0, 0] > 0.5
    assert [int(stretched.any(dim=1).sum()), int(stretched.any(dim=0).sum())] == [2, 8]


def test_what_is_stretched_is_turned_afterwards() -> None:
    square = torch.zeros(1, 1, 16, 16)
    square[..., 6:10, 6:10] = 1
    turned = augment(square, _parameters(aspect=4.0, rotate_degrees=90.0))[0, 0] > 0.5
    assert [int(turned.any(dim=1).sum()), int(turned.any(dim=0).sum())] == [8, 2]


def test_another_window_by_hand() -> None:
    """A level a tenth of the width higher makes greys a tenth darker; half the width doubles the distance to 0.5."""
    greys = torch.tensor([0.0, 0.3, 0.5, 0.9]).reshape(1, 1, 1, 4)
    _close(augment(greys, _parameters(window_level=0.1)).flatten(), torch.tensor([0.0, 0.2, 0.4, 0.8]))
    _close(augment(greys, _parameters(window_width=0.5)).flatten(), torch.tensor([0.0, 0.1, 0.5, 1.0]))
    _close(
        augment(greys, _parameters(window_level=0.1, window_width=2.0)).flatten(), torch.tensor([0.2, 0.35, 0.45, 0.65])
    )


def test_a_rectangle_is_erased() -> None:
    """From a quarter down and half across, half high and a quarter wide: rows 1 and 2 of column 2."""
    where = {"erased_top": 0.25, "erased_left": 0.5, "erased_height": 0.5, "erased_width": 0.25}
    expected = IMAGE.clone()
    expected[..., 1:3, 2] = 0
    assert torch.equal(augment(IMAGE, _parameters(**where)), expected)
    assert IMAGE.min() == 1  # what was given is as it was


def test_erased_rectangles_lie_in_the_image_and_have_the_share_that_was_asked_for() -> None:
    drawn = draw_parameters(AugmentConfig(erase=0.25), 4000, torch.Generator().manual_seed(1))
    chosen = drawn.erased_height > 0
    area = (drawn.erased_height * drawn.erased_width)[chosen]
    assert abs(float(chosen.float().mean()) - 0.25) < 0.03
    assert 0.02 <= float(area.min()) < 0.03
    assert 0.37 < float(area.max()) <= 0.4 + 1e-6
    assert abs(float(area.mean()) - 0.21) < 0.01
    assert float((drawn.erased_top + drawn.erased_height).max()) <= 1 + 1e-6
    assert float((drawn.erased_left + drawn.erased_width).max()) <= 1 + 1e-6
    assert float(drawn.erased_left.min()) < 0.01


def test_windows_stay_in_range() -> None:
    drawn = draw_parameters(AugmentConfig(window_level=0.1, window_width=0.2), 4000, torch.Generator().manual_seed(1))
    assert 0.099 < float(drawn.window_level.abs().max()) <= 0.1
    assert 0.8 <= float(drawn.window_width.min()) < 0.801
    assert abs(float(drawn.window_level.mean())) < 0.005


def test_a_seed_replays_a_batch() -> None:
    config = AugmentConfig(
        horizontal_flip=0.5, rotate_degrees=15, scale_fraction=0.1, erase=0.5, window_level=0.1, window_width=0.2
    )
    images = torch.rand(6, 2, 8, 8, generator=torch.Generator().manual_seed(3))
    first, again, other = (
        augment(images, draw_parameters(config, 6, torch.Generator().manual_seed(seed))) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_options_that_joined_later_leave_the_first_draws_alone() -> None:
    config = AugmentConfig(rotate_degrees=10, scale_fraction=0.2, aspect_fraction=0.3, erase=1.0, window_level=0.5)
    first = 2 * torch.rand(6, 5, generator=torch.Generator().manual_seed(4)) - 1
    drawn = draw_parameters(config, 5, torch.Generator().manual_seed(4))
    assert torch.equal(drawn.rotate_degrees, first[2] * 10)
    assert torch.equal(drawn.scale, 1 + first[5] * 0.2)


def test_parameters_stay_in_range_and_repeat_with_the_seed() -> None:
    config = AugmentConfig(
        horizontal_flip=0.25, rotate_degrees=10, shift_fraction=0.1, scale_fraction=0.2, aspect_fraction=0.3
    )
    drawn = draw_parameters(config, 4000, torch.Generator().manual_seed(1))
    again = draw_parameters(config, 4000, torch.Generator().manual_seed(1))
    assert all(torch.equal(vars(drawn)[name], vars(again)[name]) for name in vars(drawn))
    assert abs(float(drawn.horizontal_flip.float().mean()) - 0.25) < 0.03
    assert not drawn.vertical_flip.any()
    assert 9 < float(drawn.rotate_degrees.abs().max()) <= 10
    assert 0.09 < float(drawn.shift_x.abs().max()) <= 0.1
    assert 0.8 <= float(drawn.scale.min()) < 0.82
    assert 0.7 <= float(drawn.aspect.min()) < 0.71
    assert 1.29 < float(drawn.aspect.max()) <= 1.3


def test_parts_of_the_parameters_do_the_same_as_the_whole() -> None:
    config = AugmentConfig(horizontal_flip=0.5, rotate_degrees=20, erase=0.5, window_level=0.1)
    parameters = draw_parameters(config, 6, torch.Generator().manual_seed(2))
    images = torch.rand(6, 2, 8, 8, generator=torch.Generator().manual_seed(3))
    parts = [augment(images[place], parameters.part(place)) for place in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(torch.cat(parts), augment(images, parameters))
    places = torch.tensor([4, 1])
    torch.testing.assert_close(augment(images[places], parameters.part(places)), torch.cat(parts)[places])


def test_one_option_does_not_change_the_draws_of_another() -> None:
    plain = draw_parameters(AugmentConfig(rotate_degrees=10), 5, torch.Generator().manual_seed(4))
    flipped = draw_parameters(
        AugmentConfig(rotate_degrees=10, horizontal_flip=1.0), 5, torch.Generator().manual_seed(4)
    )
    assert torch.equal(plain.rotate_degrees, flipped.rotate_degrees)


def test_strength_scales_ranges_and_leaves_probabilities() -> None:
    """At strength 0.5 each move is half of what it was, around no move; flips and rectangles are the same."""
    full = AugmentConfig(
        horizontal_flip=0.5, rotate_degrees=10, shift_fraction=0.2, scale_fraction=0.2, erase=0.5, window_width=0.3
    )
    whole, half = (
        draw_parameters(full.model_copy(update={"strength": strength}), 32, torch.Generator().manual_seed(1))
        for strength in (1.0, 0.5)
    )
    assert torch.any(whole.rotate_degrees != 0)
    _close(half.rotate_degrees, whole.rotate_degrees / 2)
    _close(half.shift_x, whole.shift_x / 2)
    _close(half.scale - 1, (whole.scale - 1) / 2)
    _close(half.window_width - 1, (whole.window_width - 1) / 2)
    assert torch.equal(half.horizontal_flip, whole.horizontal_flip)
    assert torch.equal(half.erased_height, whole.erased_height)


def test_images_and_labels_are_mixed_by_their_share() -> None:
    own, others = torch.tensor([[[[1.0]]], [[[0.0]]]]), torch.tensor([[[[0.0]]], [[[8.0]]]])
    share = torch.tensor([0.75, 0.5])
    assert mix(own, others, share).flatten().tolist() == [0.75, 4.0]
    labels = mix(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]]), share)
    assert labels.tolist() == [[0.75, 0.25], [0.5, 0.0]]


def test_every_image_is_mixed_into_one_and_keeps_at_least_half_of_itself() -> None:
    drawn = draw_mixup(1.0, 4000, seed=1)
    assert np.array_equal(np.sort(drawn.partner), np.arange(4000))
    assert 0.5 <= float(drawn.weight.min()) < 0.501
    assert 0.999 < float(drawn.weight.max()) <= 1
    assert abs(float(drawn.weight.mean()) - 0.75) < 0.01  # evenly in 0.5..1


def test_a_small_alpha_hardly_mixes() -> None:
    assert float(draw_mixup(0.05, 1000, seed=1).weight.median()) > 0.999


def test_a_seed_replays_and_another_does_not() -> None:
    first, again, other = (draw_mixup(0.4, 64, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.partner, again.partner)
    assert torch.equal(first.weight, again.weight)
    assert not np.array_equal(first.partner, other.partner)


def test_a_part_keeps_places_in_the_whole_batch() -> None:
    drawn = draw_mixup(0.4, 6, seed=3)
    part = drawn.part(slice(2, 5))
    assert part.partner.tolist() == drawn.partner[2:5].tolist()
    assert part.weight.tolist() == drawn.weight[2:5].tolist()
