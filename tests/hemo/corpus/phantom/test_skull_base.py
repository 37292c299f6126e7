import numpy as np

from hemo.corpus.phantom.geometry import enlarge
from hemo.corpus.phantom.section import cut
from hemo.corpus.phantom.skull_base import BASE_LEVEL, FAT_HU, GLOBE_HU, SINUS_AIR_HU, paint_skull_base


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
