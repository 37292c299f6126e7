import numpy as np
import pytest

from hemo.config.convert import WindowConfig
from hemo.errors import SliceError
from hemo.imaging.hounsfield import Rescale
from hemo.imaging.image import pixel_digest
from hemo.imaging.settings import ImageSettings
from hemo.imaging.slice_image import render_picture, render_slice
from hemo.imaging.windows import resolve_windows

HU16 = ImageSettings(corpus="dicom", pixels="hu16", side_px=2)
WINDOWED = ImageSettings(corpus="dicom", windows=resolve_windows(["brain"]), side_px=2)
SIGNED_HU = Rescale(slope=1, intercept=0, bits_stored=16, signed=True)


def rendered_hu(hu: np.ndarray, side_px: int = 2) -> np.ndarray:
    settings = HU16.model_copy(update={"side_px": side_px})
    return render_slice(hu.astype(np.int16), SIGNED_HU, settings).pixels


def test_hounsfield_units_are_the_mean_of_their_area():
    """The mean of bone and brain is neither: (1000 + 40 + 40 + 40) / 4 = 280 HU; it is not windowed."""
    hu = np.array([[1000, 40, -1000, -1000], [40, 40, -1000, -998], [0, 1, 3071, 3071], [1, 0, 3071, 3071]])
    pixels = rendered_hu(hu)
    assert pixels.dtype == np.int16
    np.testing.assert_array_equal(pixels, [[[280, -999], [1, 3071]]])  # -999.5 and 0.5 go up


def test_thirds_are_rounded_to_the_nearest():
    """3 x 3 to 1: (8 x 0 + 4) / 9 = 0.44, (8 x 0 + 5) / 9 = 0.56."""
    for value, wanted in ((4, 0), (5, 1), (-4, 0), (-5, -1)):
        hu = np.zeros((3, 3))
        hu[1, 1] = value
        assert rendered_hu(hu, side_px=1)[0, 0, 0] == wanted


def test_what_is_not_square_is_padded_with_air_not_with_water():
    np.testing.assert_array_equal(
        rendered_hu(np.full((2, 4), 30), 4)[0], [[-1000] * 4, [30] * 4, [30] * 4, [-1000] * 4]
    )


def test_full_size_keeps_every_value():
    hu = np.arange(-1024, 3072, 64).reshape(8, 8)
    np.testing.assert_array_equal(rendered_hu(hu, 8)[0], hu)


def test_flags_digest_and_brain_do_not_depend_on_what_is_stored():
    hu = np.full((64, 64), -1000, np.int16)
    hu[16:40, 16:40] = 30
    settings = (WINDOWED, HU16, HU16.model_copy(update={"crop": "head"}))
    found = [render_slice(hu, SIGNED_HU, each) for each in settings]
    assert {one.digest for one in found} == {pixel_digest(hu)}
    assert {one.brain_fraction for one in found} == {576 / 4096}
    assert {tuple(one.flags) for one in found} == {()}


@pytest.mark.parametrize("pixels", ["hu16", "windows"])
def test_a_cropped_slice_shows_the_head_alone(pixels):
    """A head of 24 x 24 has a box of 32 px, four pixels of air around it."""
    hu = np.full((128, 128), -1000, np.int16)
    hu[40:64, 90:114] = 40
    windows = (WindowConfig(name="wide", centre_hu=-480, width_hu=1040),)
    settings = ImageSettings(corpus="dicom", pixels=pixels, windows=windows, side_px=32, crop="head")
    (image,) = render_slice(hu, SIGNED_HU, settings).pixels
    air, head = (-1000, 40) if pixels == "hu16" else (0, 255)
    wanted = np.full((32, 32), air)
    wanted[4:28, 4:28] = head
    np.testing.assert_array_equal(image, wanted)


def test_a_slice_without_a_head_stays_whole():
    hu = np.full((128, 128), -1000, np.int16)
    hu[100, 5:120] = 300
    np.testing.assert_array_equal(
        render_slice(hu, SIGNED_HU, WINDOWED.model_copy(update={"crop": "head"})).pixels,
        render_slice(hu, SIGNED_HU, WINDOWED).pixels,
    )


def test_a_picture_has_no_hounsfield_units():
    with pytest.raises(SliceError, match="no_rescale"):
        render_picture(np.zeros((4, 4, 3), np.uint8), bits_stored=8, settings=HU16)


def test_deep_colours_are_scaled_to_8_bits():
    """16-bit white: 65,535 / 256 = 255.996, cut to 255."""
    white = np.full((4, 4, 3), 65535, np.uint16)
    assert render_picture(white, bits_stored=16, settings=WINDOWED).pixels[0, 0, 0] == 255


def test_overlay_bits_of_a_capture_do_not_count():
    """Bit 12 lies above the 12 stored: 0x1800 is 0x800, 2,048 / 16 = 128."""
    overlaid = np.array([[0x1800, 0x800], [0x800, 0x800]], np.uint16)
    pixels = render_picture(overlaid, bits_stored=12, settings=WINDOWED).pixels
    np.testing.assert_array_equal(pixels[0], [[128, 128], [128, 128]])
