import cv2
import numpy as np
import pytest

from hemo.imaging.resize import to_square


def test_halving_takes_the_mean_of_four_pixels():
    pixels = np.array([[0, 4, 10, 10], [8, 12, 10, 10], [0, 0, 255, 255], [0, 0, 255, 255]], np.uint8)[..., None]
    np.testing.assert_array_equal(to_square(pixels, 2)[..., 0], [[6, 10], [0, 255]])


def test_a_wide_image_is_padded_above_and_below_not_stretched():
    wide = np.full((2, 4, 1), 200, np.uint8)
    np.testing.assert_array_equal(to_square(wide, 4)[..., 0], [[0] * 4, [200] * 4, [200] * 4, [0] * 4])


def test_an_image_of_the_right_size_is_unchanged():
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    np.testing.assert_array_equal(to_square(pixels, 4), pixels)


def test_a_small_image_is_enlarged_and_keeps_its_channel_axis():
    assert to_square(np.full((2, 2, 1), 7, np.uint8), 6).shape == (6, 6, 1)
    np.testing.assert_array_equal(to_square(np.full((2, 2, 4), 7, np.uint8), 3), np.full((3, 3, 4), 7))


def test_a_pixel_over_two_sources_weighs_them_by_area():
    """Three pixels to two: each result covers one source pixel and half of the middle one."""
    pixels = np.zeros((3, 3, 1), np.uint8)
    pixels[0] = [[90], [30], [60]]
    np.testing.assert_array_equal(to_square(pixels, 2)[..., 0], [[47, 33], [0, 0]])  # 420 / 9 and 300 / 9


@pytest.mark.parametrize("side_px", [224, 384, 320, 192, 128, 64])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_quick_ratios_give_the_picture_of_the_slow_resize(side_px, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, channels), np.uint8)
    ours = to_square(pixels, side_px)
    theirs = cv2.resize(pixels, (side_px, side_px), interpolation=cv2.INTER_AREA).reshape(ours.shape)
    difference = ours.astype(int) - theirs
    assert ours.shape == (side_px, side_px, channels)
    assert np.abs(difference).max() <= 1
    assert abs(difference.mean()) < 0.1  # halves go up here, to the even there


def test_white_stays_white():
    """The largest sums there are: they must not overflow 16 bits."""
    assert (to_square(np.full((512, 512, 4), 255, np.uint8), 224) == 255).all()
