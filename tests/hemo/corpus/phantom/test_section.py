from dataclasses import replace

import numpy as np
import pytest

from hemo.corpus.phantom.section import cut

MIDDLE = 64


def test_depth_falls_from_the_middle_to_the_table_and_on(head, upright):
    plain = replace(head, harmonics=(), roll=0.0, half_width_mm=60.0)
    section = cut(plain, upright, 0.34)
    across = section.depth_mm[MIDDLE]
    assert across[MIDDLE + 20] == pytest.approx(60.0 - 41.0, abs=0.5)
    assert across[MIDDLE + 29] > 0 > across[MIDDLE + 31]  # 59 and 63 mm from the centre, in cells of 2 mm


def test_the_outer_table_is_a_skull_outside_the_inner(head, upright):
    section = cut(head, upright, 0.34)
    thickness = section.shell_mm - section.depth_mm
    assert thickness.min() >= head.skull_mm - 1e-3
    assert thickness.max() <= 1.25 * head.skull_mm + 1e-3


@pytest.mark.parametrize(("level", "seen"), [(0.1, False), (0.2, True), (0.5, True), (0.7, True), (0.85, False)])
def test_ventricles_lie_between_the_fourth_and_the_bodies(head, upright, level, seen):
    assert bool((cut(head, upright, level).ventricles_mm < 0).any()) is seen


def test_adjacent_slices_look_alike_and_distant_ones_do_not(head, upright):
    here, next_to, far = (cut(head, upright, level).folds for level in (0.50, 0.505, 0.80))
    assert np.corrcoef(here.ravel(), next_to.ravel())[0, 1] > 0.9
    assert abs(np.corrcoef(here.ravel(), far.ravel())[0, 1]) < 0.3
