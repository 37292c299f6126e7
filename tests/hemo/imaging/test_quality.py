import numpy as np
import pytest

from hemo.imaging.quality import brain_fraction, hounsfield_flags, is_blank


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


def test_streaks_of_metal_are_not_noise():
    hu = head()
    hu[20:24, 20:24] = 3071
    assert "noise" not in flags_of(hu)


@pytest.mark.parametrize(("spread", "blank"), [(0.5, True), (4.0, False)])
def test_blank_is_decided_at_one_unit_of_spread(spread, blank):
    assert is_blank(np.random.default_rng(0).normal(0, spread, 1000).astype(np.float32)) is blank
