import io
import math

import numpy as np
import pydicom
import pytest

from hemo.synthetic.scanner import (
    FORMATS,
    WRAPPED_FORMAT,
    Identity,
    Scanner,
    capture_file,
    ct_file,
    draw_scanner,
    paint_holder,
    scan,
    to_stored,
)

HU = np.full((512, 512), -1000, np.int16)
HU[256, 250:256] = [-1000, 0, 40, 80, 2047, 3000]
SEEN = (256, slice(250, 256))


@pytest.mark.parametrize(
    ("pixel_format", "stored"),
    [
        (FORMATS[0], [24, 1024, 1064, 1104, 3071, 4024]),
        (FORMATS[2], [65536 - 1000, 0, 40, 80, 2047, 3000]),
        (FORMATS[3], [24, 1024, 1064, 1104, 3071, 4024]),
        (FORMATS[5], [65536 - 1000, 0, 40, 80, 2047, 2047]),  # 12 bits signed end at 2047
        (WRAPPED_FORMAT, [3096, 0, 40, 80, 2047, 3000]),
    ],
)
def test_stored_words_by_hand(pixel_format, stored):
    np.testing.assert_array_equal(to_stored(HU, pixel_format)[SEEN], stored)


def test_the_known_repair_restores_the_wrapped_format():
    air = np.minimum(HU, 3000)
    air[0, 0] = -1024  # below what the format can say
    repaired = (to_stored(air, WRAPPED_FORMAT).astype(np.int32) + 1000) % 4096 - 1000
    np.testing.assert_array_equal(repaired, np.maximum(air, -1000))


def test_padding_fills_what_lies_outside_the_round_field_of_view():
    stored = to_stored(HU, FORMATS[0]).view(np.int16)
    assert stored[0, 0] == stored[511, 511] == -2000
    assert stored[0, 256] == stored[256, 0] == 24
    assert (stored == -2000).mean() == pytest.approx(1 - np.pi / 4, abs=0.002)
    assert to_stored(HU, FORMATS[3])[0, 0] == 24


def test_noise_has_the_scanner_s_strength_and_leaves_the_mean():
    scanner = Scanner(FORMATS[0], noise_hu=3.0, holder=0, holder_hu=100.0)
    flat = np.full((512, 512), 30.0, np.float32)
    seen = scan(flat, scanner, 0.5, np.random.default_rng(0))
    assert seen.dtype == np.int16
    assert seen.std() == pytest.approx(3.0, abs=0.2)
    assert seen.mean() == pytest.approx(30.0, abs=0.1)


def test_streaks_only_near_the_base():
    scanner = Scanner(FORMATS[0], noise_hu=0.0, holder=0, holder_hu=100.0)
    flat = np.full((512, 512), 30.0, np.float32)
    assert scan(flat, scanner, 0.3, np.random.default_rng(0)).std() == 0
    rows = scan(flat, scanner, 0.0, np.random.default_rng(0))
    assert rows.std(axis=1).max() == 0
    assert rows.std(axis=0).min() > 1


def test_the_holder_is_painted_in_air_only_and_below():
    hu = np.full((512, 512), -1000.0, np.float32)
    hu[:, :256] = 30.0
    bare = hu.copy()
    paint_holder(hu, Scanner(FORMATS[0], 3.0, 1, 250.0), 0.5)
    np.testing.assert_array_equal(hu[:, :256], bare[:, :256])
    assert (hu == 250.0).sum() > 100
    assert not (hu[:200] == 250.0).any()
    without = bare.copy()
    paint_holder(without, Scanner(FORMATS[0], 3.0, 0, 250.0), 0.5)
    np.testing.assert_array_equal(without, bare)


def test_scanners_are_drawn_within_their_ranges():
    scanners = [draw_scanner(np.random.default_rng(seed), FORMATS[1]) for seed in range(40)]
    assert {scanner.holder for scanner in scanners} == {0, 1, 2}
    assert all(2.5 <= scanner.noise_hu <= 4.5 for scanner in scanners)


WHO = Identity(
    "ID_0123456ab", "ID_01234567", "ID_0123456789", "ID_9876543210", (-125.0, -113.0, 77.5), math.asin(0.6), 0.488281
)
RAMP_HU = np.arange(512 * 512, dtype=np.int32).reshape(512, 512) % 3000 - 1000


pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # `ID_...` is none


def read(data):
    return pydicom.dcmread(io.BytesIO(data))


@pytest.mark.parametrize("pixel_format", [*FORMATS, WRAPPED_FORMAT])
def test_pixels_come_back_in_hu(pixel_format):
    dataset = read(ct_file(RAMP_HU.astype(np.int16), WHO, pixel_format))
    stored = dataset.pixel_array.astype(np.int32)
    hu = (stored + 1000) % 4096 - 1000 if pixel_format.wraps else stored + round(float(dataset.RescaleIntercept))
    inside = np.s_[200:300, 200:300]
    np.testing.assert_array_equal(hu[inside], RAMP_HU[inside])
    assert dataset.original_encoding[0] is pixel_format.implicit_vr
    assert dataset.BitsStored == pixel_format.bits_stored


def test_position_and_tilt():
    dataset = read(ct_file(RAMP_HU.astype(np.int16), WHO, FORMATS[0]))
    assert [float(value) for value in dataset.ImageOrientationPatient] == [1, 0, 0, 0, 0.8, -0.6]
    assert [float(value) for value in dataset.ImagePositionPatient] == [-125, -113, 77.5]


def test_oddities_of_the_corpus():
    dataset = read(ct_file(RAMP_HU.astype(np.int16), WHO, FORMATS[3]))
    for keyword in ("InstanceNumber", "SliceThickness", "SOPClassUID"):
        assert keyword not in dataset
    assert dataset.SOPInstanceUID == "ID_0123456ab"
    assert dataset.WindowCenter == [40, 40]
    assert dataset.StudyID == ""


def test_writing_ids_that_are_no_uids_does_not_warn(recwarn):
    ct_file(RAMP_HU.astype(np.int16), WHO, FORMATS[0])
    assert [str(warning.message) for warning in recwarn] == []


def test_a_capture_is_colour_and_calls_itself_ct():
    rgb = np.random.default_rng(0).integers(0, 256, (512, 512, 3)).astype(np.uint8)
    dataset = read(capture_file(rgb, WHO))
    assert (dataset.Modality, dataset.PhotometricInterpretation, dataset.SamplesPerPixel) == ("CT", "RGB", 3)
    np.testing.assert_array_equal(dataset.pixel_array, rgb)


def test_the_header_has_the_real_one_s_tags_and_types_and_names_its_scanner(shared_data):
    ours = read(ct_file(RAMP_HU.astype(np.int16), WHO, FORMATS[0]))
    real = read((shared_data / "rsna/stage_2_train/ID_000012eaf.dcm").read_bytes())
    tags = [(element.keyword, element.VR) for element in ours]
    assert (ours.Manufacturer, ours.ManufacturerModelName) == ("hemo", "synthetic phantom")
    named = [("Manufacturer", "LO"), ("ManufacturerModelName", "LO")]
    assert [tag for tag in tags if tag not in named] == [(element.keyword, element.VR) for element in real]
    assert [element.keyword for element in ours.file_meta] == [element.keyword for element in real.file_meta]
