import numpy as np
import pydicom
import pytest

from hemo.imaging.dicom.read import quiet_pydicom
from hemo.imaging.flags import brain_fraction, hounsfield_flags, is_blank


def slice_hu(fill: int = -1000) -> np.ndarray:
    return np.full((64, 64), fill, np.int16)


def head() -> np.ndarray:
    """Air with a quarter of the slice at 30 to 37 HU."""
    hu = slice_hu()
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
    assert flags_of(slice_hu()) == ["blank", "little_brain"]


def test_a_constant_disc_within_padding_is_blank():
    hu = slice_hu(-2000)
    hu[16:48, 16:48] = 10
    assert flags_of(hu) == ["blank", "padded"]


def test_padding_outside_the_field_of_view_is_flagged():
    hu = head()
    hu[0] = -2000
    assert flags_of(hu) == ["padded"]


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
