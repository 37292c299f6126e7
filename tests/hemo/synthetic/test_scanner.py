import numpy as np
import pytest

from hemo.synthetic.scanner import FORMATS, WRAPPED_FORMAT, Scanner, draw_scanner, paint_holder, scan, to_stored

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


def test_the_known_repair_mends_the_wrapped_format():
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
