import cv2
import numpy as np
import pytest

from hemo.corpus.labels import RSNA_CLASSES
from hemo.synthetic.anatomy import cut, paint_anatomy
from hemo.synthetic.geometry import enlarge
from hemo.synthetic.hemorrhage import MIN_VISIBLE_PX, OEDEMA_HU, SUBTYPES, Lesion, draw_lesion, paint_hemorrhage

FLAT = (0.0,) * 6
CASES = {
    "epidural": Lesion("epidural", (0.4, 0.7), 0.0, 30.0, 14.0, 70.0, FLAT),
    "intraparenchymal": Lesion("intraparenchymal", (0.4, 0.7), 0.0, 14.0, 0.4, 70.0, FLAT),
    "intraventricular": Lesion("intraventricular", (0.4, 0.7), 0.0, 10.0, 0.9, 70.0, FLAT),
    "subarachnoid": Lesion("subarachnoid", (0.4, 0.7), 0.0, 1.0, 0.3, 65.0, FLAT),
    "subdural": Lesion("subdural", (0.4, 0.7), 0.0, 80.0, 9.0, 65.0, FLAT),
}


def bleed(head, pose, *lesions, level=0.55):
    """Return HU without and with blood, the mask of blood, the section, and what is visible."""
    section = cut(head, pose, level)
    before, allowed = paint_anatomy(head, section)
    after = before.copy()
    visible = paint_hemorrhage(after, allowed, section, lesions)
    return before, after, (after != before) & (after >= 50), section, visible


def test_subtypes_are_those_of_the_corpus_in_its_order():
    assert RSNA_CLASSES[1:] == SUBTYPES


@pytest.mark.parametrize("subtype", SUBTYPES)
def test_blood_has_50_to_90_hu_and_is_counted_pixel_by_pixel(head, upright, subtype):
    before, after, blood, _, visible = bleed(head, upright, CASES[subtype])
    assert visible == {subtype: np.count_nonzero(blood)}
    assert visible[subtype] > 400
    rim = (after != before) & ~blood
    assert set(np.unique(after[rim])) <= {np.float32(OEDEMA_HU)}
    assert bool(rim.any()) is (subtype == "intraparenchymal")
    assert after[blood].max() <= 90


def test_an_epidural_is_a_lens_against_the_table_on_its_side(head, upright):
    _, _, blood, section, _ = bleed(head, upright, CASES["epidural"])
    depth, x, y = (enlarge(field) for field in (section.depth_mm, section.x_mm, section.y_mm))
    assert depth[blood].max() == pytest.approx(13.5, abs=1.0)  # 14 mm, a little less off its middle
    assert x[blood].min() > 20
    assert np.ptp(y[blood]) == pytest.approx(60, abs=8)
    middle, edge = np.abs(y[blood]) < 5, np.abs(y[blood]) > 20
    assert depth[blood][middle].max() > 1.5 * depth[blood][edge].max()


def test_a_subdural_is_longer_and_thinner_and_stays_on_its_side(head, upright):
    _, _, blood, section, _ = bleed(head, upright, CASES["subdural"])
    depth, x, y = (enlarge(field) for field in (section.depth_mm, section.x_mm, section.y_mm))
    assert depth[blood].max() < 12
    assert np.ptp(y[blood]) > 100
    assert x[blood].min() > 0


def test_an_intraparenchymal_lies_off_the_table_where_it_was_put(head, upright):
    _, _, blood, section, visible = bleed(head, upright, CASES["intraparenchymal"])
    x, y, depth = (enlarge(field) for field in (section.x_mm, section.y_mm, section.depth_mm))
    assert x[blood].mean() == pytest.approx(0.4 * 66, abs=2)
    assert y[blood].mean() == pytest.approx(0, abs=2)
    assert depth[blood].min() > 2
    assert visible["intraparenchymal"] * 0.25 == pytest.approx(np.pi * 14**2, rel=0.25)  # mm2 of a disc, bent a little


def test_blood_in_the_ventricles_settles_behind(head, upright):
    _, _, blood, section, _ = bleed(head, upright, CASES["intraventricular"])
    ventricles, y = enlarge(section.ventricles_mm), enlarge(section.y_mm)
    assert ventricles[blood].max() < 1
    assert y[blood].min() > 9


def test_subarachnoid_blood_is_thin(head, upright):
    _, _, blood, _, _ = bleed(head, upright, CASES["subarachnoid"], level=0.62)
    widths_px = 2 * cv2.distanceTransform(blood.astype(np.uint8), cv2.DIST_L2, 3)
    assert np.percentile(widths_px[blood], 95) < 16  # 8 mm


def test_a_lesion_is_smaller_at_its_ends_and_absent_beyond(head, upright):
    sizes = [
        bleed(head, upright, CASES["intraparenchymal"], level=level)[4].get("intraparenchymal", 0)
        for level in (0.39, 0.40, 0.55, 0.70, 0.71)
    ]
    assert sizes[0] == sizes[4] == 0
    assert sizes[1] == pytest.approx(0.36 * sizes[2], rel=0.2)
    assert sizes[3] == pytest.approx(0.36 * sizes[2], rel=0.2)


def test_what_is_too_small_to_see_is_neither_painted_nor_reported(head, upright):
    speck = Lesion("intraparenchymal", (0.4, 0.7), 0.0, 3.0, 0.4, 80.0, FLAT)  # 28 mm2: about 113 pixels
    before, after, _, _, visible = bleed(head, upright, speck)
    assert visible == {}
    np.testing.assert_array_equal(after, before)


def test_a_later_lesion_covers_an_earlier_one(head, upright):
    blob = CASES["intraparenchymal"]
    cover = Lesion("intraparenchymal", (0.4, 0.7), 0.0, 20.0, 0.4, 55.0, FLAT)
    _, after, blood, _, visible = bleed(head, upright, blob, cover)
    assert visible == {"intraparenchymal": np.count_nonzero(blood)}
    assert np.median(after[blood]) == pytest.approx(55, abs=3)


@pytest.mark.parametrize("subtype", SUBTYPES)
def test_drawn_lesions_can_be_seen_wherever_they_reach(head, upright, subtype):
    for seed in range(6):
        lesion = draw_lesion(np.random.default_rng(seed), subtype, (0.47, 0.7))
        for level in (0.47, 0.58, 0.7):
            assert bleed(head, upright, lesion, level=level)[4][subtype] >= MIN_VISIBLE_PX
