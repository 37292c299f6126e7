from dataclasses import replace

import numpy as np

from hemo.corpus.phantom.anatomy import AIR_HU, DURA_HU, FLUID_HU, paint_anatomy
from hemo.corpus.phantom.geometry import enlarge
from hemo.corpus.phantom.section import cut


def test_from_outside_in_there_are_air_scalp_skull_and_brain(head, upright):
    section = cut(head, upright, 0.62)
    hu, room = paint_anatomy(head, section)
    depth, shell = enlarge(section.depth_mm), enlarge(section.shell_mm)
    assert set(np.unique(hu[shell < -head.scalp_mm - 0.1])) == {AIR_HU}
    assert hu[(shell > 0.2) & (shell < 1.5)].min() == np.float32(head.bone_hu)
    brain = hu[depth > 2]
    assert brain.min() == FLUID_HU
    assert brain.max() == DURA_HU
    assert not room[depth < 0.5].any()
    assert room[depth > 2].all()


def test_white_and_gray_matter_are_what_the_head_says(head, upright):
    hu, room = paint_anatomy(head, cut(head, upright, 0.7))
    brain = hu[room & (hu > 20) & (hu < 45)]
    assert brain.min() >= np.float32(head.white_hu) - 0.01
    assert brain.max() <= np.float32(head.gray_hu) + 0.01
    assert 0.3 < (brain < (head.white_hu + head.gray_hu) / 2).mean() < 0.95


def test_an_older_brain_shows_more_fluid(head, upright):
    fluid = []
    for atrophy in (0.1, 1.0):
        hu, room = paint_anatomy(replace(head, atrophy=atrophy), cut(head, upright, 0.8))
        fluid.append(np.count_nonzero(room & (hu < 20)) / np.count_nonzero(room))
    assert fluid[1] > 1.5 * fluid[0] > 0


def test_calcium_is_brighter_than_blood_and_no_room_for_it(head, upright):
    calcified = replace(head, has_pineal_calcification=True, has_choroid_calcification=True)
    bare = replace(head, has_pineal_calcification=False, has_choroid_calcification=False)
    section = cut(head, upright, 0.48)
    with_calcium, room = paint_anatomy(calcified, section)
    without, _ = paint_anatomy(bare, section)
    changed = with_calcium != without
    assert 20 < np.count_nonzero(changed) < 400
    assert with_calcium[changed].min() > 100
    assert not room[changed].any()
