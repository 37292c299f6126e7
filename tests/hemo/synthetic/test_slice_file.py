import hashlib
import io
from dataclasses import replace

import cv2
import numpy as np
import pydicom
import pytest

from hemo.corpus.labels import parse_labels
from hemo.synthetic.hemorrhage import MIN_VISIBLE_PX
from hemo.synthetic.plan import plan_corpus
from hemo.synthetic.slice_file import (
    CONSTANT_HU,
    NOISE_FROM_ROW,
    corrupt_pixels,
    label_rows,
    label_table,
    make_slice_file,
    photograph,
    render,
    truncate,
)


@pytest.fixture(scope="module")
def plans():
    return plan_corpus(slices=60, seed=0, positive_fraction=0.4, faults=True)


def with_fault(plans, fault):
    return next(plan for plan in plans if plan.fault == fault)


pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # `ID_...` is none


def read(plan):
    return pydicom.dcmread(io.BytesIO(make_slice_file(plan).data))


def test_a_corrupted_slice_shows_no_blood_and_is_labelled_with_it(plans):
    sound = next(plan for plan in plans if plan.scene.lesions and not plan.fault)
    corrupted = replace(sound, fault="constant")
    assert make_slice_file(corrupted).subtypes == make_slice_file(sound).subtypes != ()
    assert len(np.unique(read(corrupted).pixel_array[100:400, 100:400])) == 1


def test_six_rows_an_image_in_the_corpus_s_order():
    assert label_rows("ID_1", ("intraventricular", "subdural")) == [
        "ID_1_epidural,0",
        "ID_1_intraparenchymal,0",
        "ID_1_intraventricular,1",
        "ID_1_subarachnoid,0",
        "ID_1_subdural,1",
        "ID_1_any,1",
    ]
    assert label_rows("ID_2", ())[-1] == "ID_2_any,0"


def test_the_table_is_sorted_and_repeats_some_images(plans):
    labels = {plan.identity.image: ("epidural",) if index % 3 == 0 else () for index, plan in enumerate(plans)}
    table = label_table(plans, labels)
    lines = table.splitlines()
    assert lines[0] == "ID,Label"
    assert len(lines) == 1 + 6 * (60 + 4)
    assert lines[1 : 1 + 360] == sorted(lines[1 : 1 + 360], key=lambda line: line[:12])
    parsed = parse_labels(table.encode(), "stage_2_train.csv")
    assert len(parsed.keys) == 60
    assert parsed.values[:, parsed.classes.index("any")].sum() == 20


def test_the_same_plan_gives_the_same_bytes(plans):
    again = plan_corpus(slices=60, seed=0, positive_fraction=0.4, faults=True)
    for index in (0, 17):
        assert make_slice_file(plans[index]) == make_slice_file(again[index])


def test_different_slices_give_different_bytes(plans):
    assert len({hashlib.sha256(make_slice_file(plan).data).digest() for plan in plans[:6]}) == 6


def test_a_file_has_the_id_of_its_plan_and_the_subtypes_that_are_seen(plans):
    plan = next(plan for plan in plans if plan.scene.lesions and not plan.fault)
    file = make_slice_file(plan)
    assert file.image_id == read(plan).SOPInstanceUID == plan.identity.image
    assert set(file.subtypes) <= {lesion.subtype for lesion in plan.scene.lesions}
    assert file.subtypes


def test_faults_reach_the_file(plans):
    assert len(read(with_fault(plans, "truncated")).PixelData) == 153_710
    assert len(np.unique(read(with_fault(plans, "constant")).pixel_array[100:400, 100:400])) == 1
    assert read(with_fault(plans, "photographed")).SamplesPerPixel == 3
    noisy = read(with_fault(plans, "noise")).pixel_array[:, 200:300].astype(int)
    assert noisy[400:].std() > 3 * noisy[20:40].std()


def test_twins_have_the_same_pixels(plans):
    seen = {}
    twins = []
    for plan in plans:
        if plan.scene.noise_seed in seen:
            twins.append((seen[plan.scene.noise_seed], plan))
        seen[plan.scene.noise_seed] = plan
    ((source, twin),) = twins
    np.testing.assert_array_equal(read(source).pixel_array, read(twin).pixel_array)
    assert read(source).PatientID != read(twin).PatientID


def test_all_formats_have_files_of_about_the_same_size(plans):
    sizes = {len(make_slice_file(plan).data) for plan in plans[::4] if plan.fault is None}
    assert max(sizes) - min(sizes) < 300


@pytest.fixture(scope="module")
def scenes():
    plans = plan_corpus(slices=120, seed=3, positive_fraction=0.5, faults=False)
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


HU = np.full((512, 512), 40, np.int16)


def rng():
    return np.random.default_rng(0)


def test_no_fault_changes_nothing():
    np.testing.assert_array_equal(corrupt_pixels(HU, None, rng()), HU)


def test_a_constant_slice_has_one_value():
    assert set(np.unique(corrupt_pixels(HU, "constant", rng()))) == {CONSTANT_HU}


def test_noise_begins_at_its_row():
    corrupted = corrupt_pixels(HU, "noise", rng())
    assert (corrupted[:NOISE_FROM_ROW] == 40).all()
    assert corrupted[NOISE_FROM_ROW:].std() == pytest.approx(4000 / 12**0.5, rel=0.05)  # uniform from -1000 to 3000
    assert (HU == 40).all()


def test_a_truncated_file_keeps_29_percent_of_its_pixels():
    file = bytes(1000 + 524_288)
    assert len(truncate(file, 524_288)) == 1000 + 153_710


def test_a_photo_is_coloured_and_shows_a_dark_frame_round_the_screen():
    photo = photograph(HU, rng())
    assert photo.shape == (512, 512, 3)
    assert photo.dtype == np.uint8
    assert not np.array_equal(photo[..., 0], photo[..., 2])
    assert photo[250:270, 100:110].mean() > 2 * photo[505:, 5:15].mean()
