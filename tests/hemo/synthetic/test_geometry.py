import math

import numpy as np
import pytest

from hemo.synthetic.geometry import (
    NOWHERE_MM,
    Capsule,
    Pose,
    Waves,
    capsules_mm,
    coarse_axis_mm,
    ellipse_mm,
    enlarge,
    presence,
)

BAR = Capsule((0, 0), (10, 0), 2.0, (0.2, 0.6))


def at(x, y):
    return np.array([[x]], np.float32), np.array([[y]], np.float32)


@pytest.mark.parametrize(
    ("point", "distance"),
    [((5, 0), -2.0), ((5, 2), 0.0), ((5, 7), 5.0), ((13, 4), 3.0), ((-2, 0), 0.0)],
)
def test_distance_to_a_bar_of_radius_2_from_0_to_10(point, distance):
    assert capsules_mm(*at(*point), 0.4, (BAR,))[0, 0] == pytest.approx(distance)


def test_a_tapered_bar_is_half_as_thick_at_its_end():
    bar = Capsule((0, 0), (10, 0), 2.0, (0.2, 0.6), taper=0.5)
    assert capsules_mm(*at(0, 5), 0.4, (bar,))[0, 0] == pytest.approx(3.0)
    assert capsules_mm(*at(10, 5), 0.4, (bar,))[0, 0] == pytest.approx(4.0)


def test_a_mirrored_bar_is_on_both_sides_and_a_plain_one_is_not():
    mirrored = Capsule((4, 0), (10, 0), 2.0, (0.2, 0.6), mirrored=True)
    assert capsules_mm(*at(-7, 0), 0.4, (mirrored,))[0, 0] == pytest.approx(-2.0)
    assert capsules_mm(*at(-7, 0), 0.4, (BAR,))[0, 0] == pytest.approx(5.0)


def test_nothing_is_near_where_no_bar_reaches_the_level():
    assert capsules_mm(*at(5, 0), 0.61, (BAR,))[0, 0] == NOWHERE_MM


def test_presence_is_whole_in_the_middle_and_ends_at_both_levels():
    assert presence(0.4, (0.2, 0.6)) == 1.0
    assert presence(0.5, (0.2, 0.6)) == pytest.approx(math.sqrt(1 - 0.5**4))
    assert presence(0.6, (0.2, 0.6)) == pytest.approx(0.0, abs=1e-6)
    assert presence(0.1, (0.2, 0.6)) == 0.0


def test_ellipse_edge_is_at_its_half_axes():
    assert ellipse_mm(*at(9, 2), (5.0, 2.0), (4.0, 1.0))[0, 0] == pytest.approx(0.0, abs=1e-6)
    assert ellipse_mm(*at(5, 2), (5.0, 2.0), (4.0, 1.0))[0, 0] == pytest.approx(-1.0)


def test_coarse_axis_is_centred_and_four_pixels_apart():
    axis = coarse_axis_mm(0.5)
    assert axis[0] == -127.0
    assert axis[1] - axis[0] == 2.0
    assert axis.sum() == 0.0


def test_a_quarter_turn_lays_the_image_s_downward_axis_along_x():
    x, y = Pose(math.pi / 2, 3.0, 0.0, 0.5).head_coordinates()
    axis = coarse_axis_mm(0.5)
    np.testing.assert_allclose(x[:, 10], axis, atol=1e-4)
    np.testing.assert_allclose(y[10, :], -(axis - 3.0), atol=1e-4)


def test_enlarging_a_ramp_keeps_its_slope():
    ramp = np.tile(np.arange(128, dtype=np.float32) * 4, (128, 1))
    row = enlarge(ramp)[200]
    np.testing.assert_allclose(np.diff(row[2:-2]), 1.0, atol=1e-4)


def test_one_wave_is_the_expected_cosine():
    wave = Waves(np.array([[0.1, 0.0, 0.05]]), np.array([0.3]))
    expected = math.sqrt(2) * np.cos(0.1 * coarse_axis_mm(0.5) + 0.05 * 20 + 0.3)
    np.testing.assert_allclose(wave.at(Pose(0, 0, 0, 0.5), 20.0)[64], expected, atol=1e-5)


def test_a_texture_moves_with_the_head():
    waves = Waves.draw(np.random.default_rng(0), 20, (10.0, 30.0))
    here, moved = waves.at(Pose(0, 0, 0, 0.5), 40.0), waves.at(Pose(0, 4.0, 0, 0.5), 40.0)
    np.testing.assert_allclose(moved[:, 2:], here[:, :-2], atol=1e-4)
    assert here.std() == pytest.approx(1.0, abs=0.25)
