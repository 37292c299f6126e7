import io

import numpy as np
import PIL.Image
import pytest

from hemo.imaging.image import Image, Reject
from hemo.imaging.photo import images_of_photo
from hemo.imaging.settings import ImageSettings


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def settings(colour: str) -> ImageSettings:
    return ImageSettings(corpus="image_folder", colour=colour, side_px=2, patient_pattern="(.)")


def test_colours_come_out_as_planes_in_the_order_of_the_channels():
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 0] = (10, 20, 30)
    (image,) = images_of_photo(encoded(pixels, "PNG"), settings("rgb"))
    assert isinstance(image, Image)
    np.testing.assert_array_equal(image.pixels[:, 0, 0], [10, 20, 30])
    assert (image.pixel_format, image.flags, image.brain_fraction) == ("rgb8", (), None)


def test_grey_is_the_luminance_of_a_colour_image():
    """0.299 x 100 + 0.587 x 200 + 0.114 x 50 = 153.0 (ITU-R BT.601)."""
    pixels = np.tile(np.array([100, 200, 50], np.uint8), (2, 2, 1))
    (image,) = images_of_photo(encoded(pixels, "PNG"), settings("grey"))
    np.testing.assert_array_equal(image.pixels, np.full((1, 2, 2), 153))
    assert image.flags == ("blank",)


def test_the_digest_tells_equal_pixels_whatever_the_file():
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    png = images_of_photo(encoded(pixels, "PNG"), settings("rgb"))[0]
    other = images_of_photo(encoded(pixels[::-1], "PNG"), settings("rgb"))[0]
    again = images_of_photo(encoded(pixels, "PNG") + b"trailing", settings("rgb"))[0]
    assert png.pixel_digest == again.pixel_digest != other.pixel_digest


def test_16_bit_pictures_are_scaled_not_clipped():
    """65,535 becomes 255, and 32,896 = 128 x 257 becomes 128."""
    deep = np.array([[0, 32896], [65535, 257]], np.uint16)
    (image,) = images_of_photo(encoded(deep, "PNG"), settings("grey"))
    np.testing.assert_array_equal(image.pixels[0], [[0, 128], [255, 1]])


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"GIF89a" + data, lambda data: b""]
)
def test_a_damaged_file_is_a_reject(damage):
    jpeg = encoded(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), "JPEG")
    (reject,) = images_of_photo(damage(jpeg), settings("rgb"))
    assert isinstance(reject, Reject)
    assert reject.code == "not_image"
