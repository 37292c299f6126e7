from dataclasses import replace

import cv2
import numpy as np
import pytest

from hemo.corpus.phantom.hemorrhage import MIN_VISIBLE_PX
from hemo.corpus.phantom.plan import plan_corpus
from hemo.corpus.phantom.rendering import render


@pytest.fixture(scope="module")
def scenes():
    plans = plan_corpus(slices=120, seed=3, positive_fraction=0.5, traps=False)
    return [plan.scene for plan in plans if plan.scene.lesions][::8]


def test_without_its_blood_a_slice_is_the_same_but_for_the_lesion(scenes):
    for scene in scenes:
        with_blood, visible = render(scene)
        without, nothing = render(replace(scene, lesions=()))
        changed = with_blood != without
        assert nothing == {}
        assert changed.any()
        brighter = int(np.count_nonzero(with_blood > without + 8))
        assert brighter >= MIN_VISIBLE_PX  # the label is true
        grown = cv2.dilate((with_blood.astype(int) - without > 8).astype(np.uint8), np.ones((61, 61)))
        assert not changed[grown == 0].any()  # blur and oedema reach no further than 15 mm
        assert sum(visible.values()) < 3 * brighter


def test_a_slice_without_lesions_shows_none_and_looks_like_a_head(scenes):
    hu, visible = render(replace(scenes[0], lesions=(), level=0.6))
    assert visible == {}
    assert hu.shape == (512, 512)
    assert np.percentile(hu, 10) == pytest.approx(-1000, abs=15)
    assert 0.2 < ((hu > 0) & (hu < 80)).mean() < 0.6
    assert (hu > 1000).mean() > 0.01


def test_the_number_of_threads_changes_no_pixel(scenes):
    threads = cv2.getNumThreads()
    try:
        images = []
        for count in (1, 2):
            cv2.setNumThreads(count)
            images.append(render(scenes[0])[0])
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(*images)
