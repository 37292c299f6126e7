import numpy as np

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
