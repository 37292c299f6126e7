from dataclasses import replace

import numpy as np
import pytest

from hemo.synthetic.head import WIDEST_LEVEL, draw_head


def radius(head, angle, level):
    return head.inner_radius_mm(np.array([angle], np.float32), np.array([level], np.float32))[0]


def test_the_widest_section_has_the_head_s_own_half_axes(head):
    plain = replace(head, harmonics=(), half_width_mm=60.0, half_length_mm=80.0)
    assert radius(plain, 0.0, WIDEST_LEVEL) == pytest.approx(60.0)
    assert radius(plain, np.pi / 2, WIDEST_LEVEL) == pytest.approx(80.0 * 1.035)
    assert radius(plain, -np.pi / 2, WIDEST_LEVEL) == pytest.approx(80.0 * 0.965)


def test_the_skull_closes_towards_the_vertex_and_looks_thicker_there(head):
    radii = [radius(head, 0.3, level) for level in (0.34, 0.6, 0.8, 1.0)]
    assert radii == sorted(radii, reverse=True)
    assert radii[-1] < 0.55 * radii[0]
    assert head.obliquity(0.2) == 1.0
    assert head.obliquity(0.34 + 0.6 * 0.76) == pytest.approx(1 / 0.8)


def test_patients_differ_and_the_same_draw_gives_the_same_patient():
    first, again, other = (draw_head(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.half_width_mm == again.half_width_mm
    np.testing.assert_array_equal(first.folds.phases_rad, again.folds.phases_rad)
    assert first.half_width_mm != other.half_width_mm
