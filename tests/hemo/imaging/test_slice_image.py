from pathlib import Path

import numpy as np
import pydicom
import pytest

from hemo.config.convert import WindowConfig
from hemo.errors import SliceError
from hemo.imaging.dicom.read import quiet_pydicom
from hemo.imaging.hounsfield import Rescale
from hemo.imaging.image import pixel_digest
from hemo.imaging.settings import ImageSettings, resolve_windows
from hemo.imaging.slice_image import (
    Box,
    brain_fraction,
    head_box,
    hounsfield_flags,
    is_blank,
    render_picture,
    render_slice,
    without_padding,
)

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
        render_picture(np.zeros((4, 4, 3), np.uint8), bits_stored=8, inverted=False, settings=HU16)


def test_deep_colours_are_scaled_to_8_bits():
    """16-bit white: 65,535 / 256 = 255.996, cut to 255."""
    white = np.full((4, 4, 3), 65535, np.uint16)
    assert render_picture(white, bits_stored=16, inverted=False, settings=WINDOWED).pixels[0, 0, 0] == 255


def test_overlay_bits_of_a_capture_do_not_count():
    """Bit 12 lies above the 12 stored: 0x1800 is 0x800, 2,048 / 16 = 128."""
    overlaid = np.array([[0x1800, 0x800], [0x800, 0x800]], np.uint16)
    pixels = render_picture(overlaid, bits_stored=12, inverted=False, settings=WINDOWED).pixels
    np.testing.assert_array_equal(pixels[0], [[128, 128], [128, 128]])


def test_an_inverted_capture_is_shown_as_it_is_displayed():
    """Of 12 bits, 4,095 is black and 2,047 is 255 - 127; what is added to make it square stays black."""
    stored = np.array([[0, 2047, 4095, 4095]], np.uint16)
    settings = WINDOWED.model_copy(update={"side_px": 4})
    pixels = render_picture(stored, bits_stored=12, inverted=True, settings=settings).pixels
    np.testing.assert_array_equal(pixels[0], [[0] * 4, [255, 128, 0, 0], [0] * 4, [0] * 4])


def test_padding_becomes_air_before_it_is_averaged():
    """-3024 and 0 gave -1512: air and water give -500. -1100 is noise in air: (-1100 + 0) / 2 = -550."""
    np.testing.assert_array_equal(rendered_hu(np.array([[-3024, 0], [0, -3024]]), side_px=1), [[[-500]]])
    np.testing.assert_array_equal(rendered_hu(np.array([[-1100, 0], [0, -1100]]), side_px=1), [[[-550]]])


@pytest.mark.parametrize(
    ("padding_hu", "wanted"),
    [
        (None, [-1000, -1050, -1024, -1001, -1000, 0, 40]),
        ([-1024], [-1000, -1050, -1000, -1001, -1000, 0, 40]),
        ([-1024, -1100], [-1000, -1000, -1000, -1001, -1000, 0, 40]),  # the limits in any order
        ([-1024, 0], [-1000, -1050, -1000, -1000, -1000, 0, 40]),  # but what may be tissue
        ([0], [-1000, -1050, -1024, -1001, -1000, 0, 40]),
    ],
)
def test_declared_padding_counts_below_air(padding_hu, wanted):
    hu = np.array([[-2000, -1050, -1024, -1001, -1000, 0, 40]], np.int16)
    before = hu.copy()
    found = without_padding(hu, None if padding_hu is None else np.array([padding_hu], np.int16))
    assert found.tolist() == [wanted]
    np.testing.assert_array_equal(hu, before)


@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (1, 4), (2, 4), (4, 3), (3, 1)])
def test_padding_of_any_shape_becomes_air(shape):
    """OpenCV takes four numbers for a colour."""
    hu = np.resize(np.array([-2000, 40, -1050], np.int16), shape)
    wanted = np.where(hu < -1020, -1000, hu)
    np.testing.assert_array_equal(without_padding(hu, np.array([[-1050]], np.int16)), wanted)


def test_padding_is_part_of_what_is_measured_and_windowed():
    """Flags and digest are of the slice as it came; black is black in a window."""
    hu = head()
    hu[0] = -2000
    plain, declared = (render_slice(hu, SIGNED_HU, WINDOWED, padding=padding) for padding in ((), (63536,)))
    assert plain.flags == declared.flags == ["padded"]
    assert plain.digest == declared.digest == pixel_digest(hu)
    np.testing.assert_array_equal(plain.pixels, declared.pixels)


def slice_hu(rows: int = 512, cols: int = 512) -> np.ndarray:
    return np.full((rows, cols), -1000, np.int16)


def test_the_box_is_a_square_around_the_head_with_a_margin():
    """A head of 200 x 160 px: 200 x 1.08 = 216 px, up to 7 x 32 = 224, centred: rows 88 to 312, columns 188 to 412."""
    hu = slice_hu()
    hu[100:300, 220:380] = 30
    assert head_box(hu) == Box(top=88, left=188, height=224, width=224)


def test_a_headrest_and_a_table_do_not_widen_it():
    """A shell, 6 px thick, and a tube that joins it to the head: a pixel of the reduced image may stay, 4 px."""
    hu = slice_hu()
    hu[100:300, 220:380] = 30
    alone = head_box(hu)
    hu[320:326, 100:500] = 200  # the shell
    hu[200:326, 100:106] = 200
    hu[100:326, 294:298] = 200  # the tube
    hu[460:512] = -800  # a table of foam
    np.testing.assert_allclose(head_box(hu), alone, atol=4)


def test_the_largest_part_is_the_head():
    hu = slice_hu()
    hu[100:300, 220:380] = 30
    alone = head_box(hu)
    hu[400:440, 40:100] = 40  # a hand
    assert head_box(hu) == alone


def test_a_box_at_the_edge_is_moved_inwards():
    hu = slice_hu()
    hu[0:200, 312:512] = 30
    assert head_box(hu) == Box(top=0, left=288, height=224, width=224)


def test_a_box_is_no_larger_than_the_slice():
    hu = slice_hu(512, 400)
    hu[20:500, 100:300] = 30
    assert head_box(hu) == Box(top=0, left=0, height=512, width=400)


@pytest.mark.parametrize("hu", [slice_hu(), np.full((3, 5), -1000, np.int16), np.full((1, 1), 40, np.int16)])
def test_a_slice_without_a_head_has_no_box(hu):
    assert head_box(hu) is None


def test_a_thin_shell_alone_is_no_head():
    hu = slice_hu()
    hu[400:408, 40:480] = 300
    assert head_box(hu) is None


def test_real_heads_are_found_whole(shared_data: Path):
    """All but a thousandth of the bone lies within the box; of the 27 slices one shows a headrest and no head."""
    shares = []
    for file in sorted((shared_data / "rsna").rglob("*.dcm")):
        with quiet_pydicom():
            dataset = pydicom.dcmread(file)
            hu = (dataset.pixel_array.astype(np.int32) + int(dataset.RescaleIntercept)).astype(np.int16)
        if box := head_box(hu):
            bone = hu > 500
            inside = bone[box.top : box.top + box.height, box.left : box.left + box.width]
            assert inside.sum() >= 0.999 * bone.sum()
            shares.append(inside.size / hu.size)
    assert len(shares) == 26
    assert np.median(shares) < 0.75


def small_slice_hu(fill: int = -1000) -> np.ndarray:
    return np.full((64, 64), fill, np.int16)


def head() -> np.ndarray:
    """Air with a quarter of the slice at 30 to 37 HU."""
    hu = small_slice_hu()
    hu[16:48, 16:48] = 30 + np.arange(32) % 8
    return hu


def test_brain_fraction_counts_what_lies_strictly_between_0_and_80():
    hu = np.array([[0, 1, 79, 80], [-5, 40, 40, 1000]], np.int16)
    assert brain_fraction(hu) == 4 / 8


def flags_of(hu: np.ndarray) -> list[str]:
    return hounsfield_flags(hu, brain=brain_fraction(hu))


def test_a_head_in_air_has_no_flags():
    assert flags_of(head()) == []


def test_a_constant_slice_is_blank_and_has_little_brain():
    assert flags_of(small_slice_hu()) == ["blank", "little_brain"]


def test_a_constant_disc_within_padding_is_blank():
    hu = small_slice_hu(-2000)
    hu[16:48, 16:48] = 10
    assert flags_of(hu) == ["blank", "padded"]


def test_padding_outside_the_field_of_view_is_flagged():
    hu = head()
    hu[0] = -2000
    assert flags_of(hu) == ["padded"]


def test_less_than_a_fiftieth_of_brain_is_little():
    assert hounsfield_flags(head(), brain=0.0199) == ["little_brain"]
    assert hounsfield_flags(head(), brain=0.0201) == []


@pytest.mark.parametrize(("padded", "flags"), [(20, []), (21, ["padded"])])
def test_more_than_half_a_percent_of_padding_is_flagged(padded, flags):
    """Every eighth pixel of 512 x 512 px in both directions counts: 4,096, half a percent of which is 20.48."""
    hu = np.tile(head(), (8, 8))
    hu[0, : 8 * padded : 8] = -2000
    assert flags_of(hu) == flags


def test_garbled_rows_are_noise():
    hu = head()
    hu[40:] = np.random.default_rng(0).integers(-32768, 32767, hu[40:].shape)
    assert "noise" in flags_of(hu)


@pytest.mark.parametrize(("low", "high"), [(-32768, 32768), (-1024, 3072), (-1024, 31744)])
def test_rows_of_random_values_are_noise_whatever_their_bits(low, high):
    """A third of a slice of 16-bit, 12-bit unsigned or 15-bit values; random 12-bit neighbours differ by 1,365."""
    hu = np.full((512, 512), -1000, np.int16)
    hu[100:400, 100:400] = 40
    assert "noise" not in flags_of(hu)
    hu[332:] = np.random.default_rng(0).integers(low, high, hu[332:].shape)
    assert "noise" in flags_of(hu)


def streaked() -> np.ndarray:
    """Return a head with metal, 3,071 HU, in it, and streaks of 600 HU around the metal."""
    rows, cols = np.mgrid[:512, :512]
    angle, distance = np.arctan2(rows - 250, cols - 300), np.hypot(rows - 250, cols - 300)
    hu = np.where(np.hypot(rows - 256, cols - 256) < 200, 40, -1000) + 600 * np.sin(40 * angle) * np.exp(
        -distance / 150
    )
    hu[distance < 12] = 3071
    return np.clip(hu, -1024, 3071).astype(np.int16)


def grating() -> np.ndarray:
    """Return bone and air side by side every 16 pixels: the most edges an anatomy could have, steps of 2,000 / 16."""
    return np.where(np.arange(512) // 16 % 2, 1000, -1000).astype(np.int16)[np.newaxis].repeat(512, axis=0)


def outliers() -> np.ndarray:
    """Return a head with a column of -32,768."""
    hu = streaked()
    hu[:, 7] = -32768
    return hu


def grain() -> np.ndarray:
    """Return a slice of a starved detector: a standard deviation of 300 HU."""
    noise = np.random.default_rng(0).normal(0, 300, (512, 512))
    return (streaked() + noise).clip(-1024, 3071).astype(np.int16)


@pytest.mark.parametrize("made", [streaked, grating, outliers, grain])
def test_what_a_scanner_can_show_is_not_noise(made):
    assert "noise" not in flags_of(made())


def test_no_real_slice_is_noise_or_blank(shared_data):
    """27 slices of the corpus, and a whole series of 28 from the neck to the vertex."""
    checked = 0
    for folder in ("rsna/stage_2_train", "head_ct_bsd/GE"):
        for file in sorted((shared_data / folder).iterdir()):
            with quiet_pydicom():
                dataset = pydicom.dcmread(file)
                assert dataset.RescaleSlope == 1
            hu = dataset.pixel_array.astype(np.int32) + int(dataset.RescaleIntercept)
            assert not {"noise", "blank"} & set(flags_of(hu.astype(np.int16))), file.name
            checked += 1
    assert checked == 55


@pytest.mark.parametrize(("spread", "blank"), [(0.5, True), (4.0, False)])
def test_blank_is_decided_at_one_unit_of_spread(spread, blank):
    assert is_blank(np.random.default_rng(0).normal(0, spread, 1000).astype(np.float32)) is blank
