import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
import xxhash

from hemo.imaging.image import Image, Reject
from hemo.imaging.picture import images_of_picture
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
    (image,) = images_of_picture(encoded(pixels, "PNG"), settings("rgb"))
    assert isinstance(image, Image)
    np.testing.assert_array_equal(image.pixels[:, 0, 0], [10, 20, 30])
    assert (image.pixel_format, image.flags, image.brain_fraction) == ("rgb8", (), None)


def test_grey_is_the_luminance_of_a_colour_image():
    """0.299 x 100 + 0.587 x 200 + 0.114 x 50 = 153.0 (ITU-R BT.601)."""
    pixels = np.tile(np.array([100, 200, 50], np.uint8), (2, 2, 1))
    (image,) = images_of_picture(encoded(pixels, "PNG"), settings("grey"))
    np.testing.assert_array_equal(image.pixels, np.full((1, 2, 2), 153))
    assert image.flags == ("blank",)


def test_equal_pixels_have_the_same_digest_in_any_file():
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    png = images_of_picture(encoded(pixels, "PNG"), settings("rgb"))[0]
    other = images_of_picture(encoded(pixels[::-1], "PNG"), settings("rgb"))[0]
    again = images_of_picture(encoded(pixels, "PNG") + b"trailing", settings("rgb"))[0]
    assert png.pixel_digest == again.pixel_digest != other.pixel_digest


@pytest.mark.parametrize("colour", ["rgb", "grey"])
@pytest.mark.parametrize("shape", [(7, 5), (4, 4), (2, 2), (1, 3)])
def test_a_grey_picture_becomes_the_same_row_as_its_copy_in_colour(colour, shape):
    """It is resized in one channel, and its digest is that of three."""
    grey = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    (one,) = images_of_picture(encoded(grey, "PNG"), settings(colour))
    (three,) = images_of_picture(encoded(np.stack([grey] * 3, 2), "PNG"), settings(colour))
    assert isinstance(one, Image)
    assert isinstance(three, Image)
    np.testing.assert_array_equal(one.pixels, three.pixels)
    assert one.pixels.flags.c_contiguous
    stored = np.stack([grey] * 3, 2) if colour == "rgb" else grey
    assert one.pixel_digest == three.pixel_digest == xxhash.xxh3_128_digest(stored.tobytes())
    assert (one.source_rows, one.source_cols, one.pixel_format, one.flags) == (
        *shape,
        "rgb8" if colour == "rgb" else "grey8",
        three.flags,
    )


@pytest.mark.parametrize(("step", "flags"), [(1, ("blank",)), (3, ())])
def test_a_picture_is_blank_below_one_grey_level_of_spread(step, flags):
    """Half of the pixels are 0, half `step`: the standard deviation is half of it."""
    pixels = np.tile(np.array([0, step], np.uint8), (4, 2))
    assert images_of_picture(encoded(pixels, "PNG"), settings("rgb"))[0].flags == flags


def test_16_bit_pictures_are_scaled_not_clipped():
    """65,535 becomes 255, and 32,896 = 128 x 257 becomes 128."""
    deep = np.array([[0, 32896], [65535, 257]], np.uint16)
    (image,) = images_of_picture(encoded(deep, "PNG"), settings("grey"))
    np.testing.assert_array_equal(image.pixels[0], [[0, 128], [255, 1]])


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"GIF89a" + data, lambda data: b""]
)
def test_a_damaged_file_is_a_reject(damage):
    jpeg = encoded(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), "JPEG")
    (reject,) = images_of_picture(damage(jpeg), settings("rgb"))
    assert isinstance(reject, Reject)
    assert reject.code == "not_image"


def test_photographs_of_the_web_become_colours():
    """CMYK as Adobe writes it, palettes with a transparent colour, grey with an alpha channel: 4 x 2 becomes 2 x 2."""
    for mode, kind in (("CMYK", "JPEG"), ("P", "PNG"), ("LA", "PNG"), ("1", "PNG")):
        buffer = io.BytesIO()
        PIL.Image.new(mode, (4, 2)).save(buffer, kind, **({"transparency": 0} if mode == "P" else {}))
        (image,) = images_of_picture(buffer.getvalue(), settings("rgb"))
        assert (image.pixels.shape, image.source_rows, image.source_cols) == ((3, 2, 2), 2, 4)


@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\0\0\0\x08\0\x05", b"Exif\0\0junk"])
def test_a_photo_with_a_damaged_exif_block_is_still_a_photo(exif, recwarn):
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
    plain = encoded(pixels, "JPEG")
    block = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    (image,) = images_of_picture(plain[:2] + block + plain[2:], settings("rgb"))
    assert image.pixel_digest == images_of_picture(plain, settings("rgb"))[0].pixel_digest


@pytest.mark.parametrize("side", [9000, 60000])
def test_a_picture_that_would_fill_memory_is_a_reject(side):
    """The header of a PNG of a few bytes may promise anything; 9,000 x 9,000 is below Pillow's own limit."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (reject,) = images_of_picture(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\x00IDAT5\xaf\x06\x1e", settings("rgb"))
    assert (type(reject), reject.code) == (Reject, "too_large")


def test_a_sideways_photo_is_turned_upright():
    """EXIF orientation 6: the first row is the right-hand side."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.array([[10, 10], [200, 200]], np.uint8).repeat(8, 0).repeat(8, 1)).save(
        buffer, "JPEG", exif=exif, quality=100
    )
    (image,) = images_of_picture(buffer.getvalue(), settings("grey"))
    np.testing.assert_allclose(image.pixels[0], [[200, 10], [200, 10]], atol=2)


def test_byte_identical_files_share_a_digest_and_patients_do_not_matter():
    data = encoded(np.arange(48, dtype=np.uint8).reshape(4, 4, 3), "PNG")
    first, second = (images_of_picture(data, settings("rgb"))[0] for _ in range(2))
    assert first.pixel_digest == second.pixel_digest
    assert len(first.pixel_digest) == 16
