import numpy as np
import pytest

from hemo.synthetic.faults import CONSTANT_HU, NOISE_FROM_ROW, corrupt_pixels, photograph, truncate

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
