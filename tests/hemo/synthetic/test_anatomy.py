from dataclasses import replace

import numpy as np
import pytest

from hemo.synthetic.anatomy import (
    AIR_HU,
    BASE_LEVEL,
    DURA_HU,
    FLUID_HU,
    GLOBE_HU,
    SINUS_AIR_HU,
    WIDEST_LEVEL,
    cut,
    draw_head,
    paint_anatomy,
    paint_skull_base,
)
from hemo.synthetic.anatomy import ORBITAL_FAT_HU as FAT_HU
from hemo.synthetic.geometry import enlarge


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


MIDDLE = 64


def test_from_outside_in_there_are_air_scalp_skull_and_brain(head, upright):
    section = cut(head, upright, 0.62)
    hu, allowed = paint_anatomy(head, section)
    depth, shell = enlarge(section.depth_mm), enlarge(section.shell_mm)
    assert set(np.unique(hu[shell < -head.scalp_mm - 0.1])) == {AIR_HU}
    assert hu[(shell > 0.2) & (shell < 1.5)].min() == np.float32(head.bone_hu)
    brain = hu[depth > 2]
    assert brain.min() == FLUID_HU
    assert brain.max() == DURA_HU
    assert not allowed[depth < 0.5].any()
    assert allowed[depth > 2].all()


def test_white_and_gray_matter_have_the_densities_of_the_head(head, upright):
    hu, allowed = paint_anatomy(head, cut(head, upright, 0.7))
    brain = hu[allowed & (hu > 20) & (hu < 45)]
    assert brain.min() >= np.float32(head.white_hu) - 0.01
    assert brain.max() <= np.float32(head.gray_hu) + 0.01
    assert 0.3 < (brain < (head.white_hu + head.gray_hu) / 2).mean() < 0.95


def test_an_older_brain_shows_more_fluid(head, upright):
    fluid = []
    for atrophy in (0.1, 1.0):
        hu, allowed = paint_anatomy(replace(head, atrophy=atrophy), cut(head, upright, 0.8))
        fluid.append(np.count_nonzero(allowed & (hu < 20)) / np.count_nonzero(allowed))
    assert fluid[1] > 1.5 * fluid[0] > 0


def test_calcium_is_brighter_than_blood_and_no_room_for_it(head, upright):
    calcified = replace(head, has_pineal_calcification=True, has_choroid_calcification=True)
    bare = replace(head, has_pineal_calcification=False, has_choroid_calcification=False)
    section = cut(head, upright, 0.48)
    with_calcium, allowed = paint_anatomy(calcified, section)
    without, _ = paint_anatomy(bare, section)
    changed = with_calcium != without
    assert 20 < np.count_nonzero(changed) < 400
    assert with_calcium[changed].min() > 100
    assert not allowed[changed].any()


def painted(head, pose, level):
    section = cut(head, pose, level)
    hu = np.full((512, 512), 30.0, np.float32)
    paint_skull_base(hu, head, section, enlarge(section.depth_mm))
    return hu, section


def test_nothing_of_the_base_is_seen_above_it(head, upright):
    hu, _ = painted(head, upright, BASE_LEVEL)
    assert set(np.unique(hu)) == {30.0}


def test_low_slices_show_orbits_air_and_petrous_bone(head, upright):
    hu, section = painted(head, upright, 0.03)
    y = enlarge(section.y_mm)
    globes = hu == GLOBE_HU
    assert globes.sum() > 400
    assert y[globes].max() < 0  # eyes are in front
    assert (hu == FAT_HU).sum() > 400
    assert (hu == SINUS_AIR_HU).sum() > 400
    behind = (y > 5) & (y < 30)
    assert (hu[behind] > 600).mean() > 0.05


def test_between_base_and_brain_only_bone_and_frontal_sinus_are_left(head, upright):
    hu, _ = painted(head, upright, 0.22)
    assert not (hu == GLOBE_HU).any()
    assert (hu > 600).any()


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
