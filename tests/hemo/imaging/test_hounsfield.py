import numpy as np
import pytest

from hemo.config.convert import WindowConfig
from hemo.errors import ConfigError
from hemo.imaging.hounsfield import Rescale, apply_windows, hounsfield_table, packed_lookup, repaired, to_hounsfield
from hemo.imaging.settings import WINDOWS, resolve_windows


@pytest.mark.parametrize(
    ("rescale", "stored", "hu"),
    [
        (Rescale(1, -1024, 16, True), [0, 1024, -1000 & 0xFFFF], [-1024, 0, -2024]),
        (Rescale(1, -1024, 12, False), [0, 1064, 4095], [-1024, 40, 3071]),
        (Rescale(1, 0, 12, True), [0x0FFF, 0x0800, 0x07FF], [-1, -2048, 2047]),
        (Rescale(2, -1000, 16, False), [0, 520, 40000], [-1000, 40, 32767]),
        (Rescale(0.5, 0, 8, False), [0, 3, 255], [0, 2, 128]),  # 1.5 and 127.5 round to the even neighbour
    ],
)
def test_stored_values_become_hounsfield_units(rescale, stored, hu):
    result = to_hounsfield(np.array([stored], np.uint16), rescale)
    assert result.dtype == np.int16
    np.testing.assert_array_equal(result, [hu])


def test_extreme_values_saturate_instead_of_wrapping():
    """-32,768 - 1,024 does not fit 16 bits and must not become positive."""
    lowest = np.array([[0x8000]], np.uint16)
    assert to_hounsfield(lowest, Rescale(1, -1024, 16, True))[0, 0] == -32768


def test_bits_above_those_stored_are_ignored():
    """Old overlays lie in the four bits above a 12-bit value."""
    overlaid = np.array([[0xF000 | 1064]], np.uint16)
    assert to_hounsfield(overlaid, Rescale(1, -1024, 12, False))[0, 0] == 40


def test_the_twelve_bit_fault_is_undone():
    """Background of a faulty slice is 3096: (3096 + 1000) % 4096 - 1000 = -1000; water, 0 HU, is stored as 0."""
    truth = repaired(Rescale(1, 0, 12, False))
    assert truth is not None
    stored = np.array([[3096, 0, 40, 3095]], np.uint16)
    np.testing.assert_array_equal(to_hounsfield(stored, truth), [[-1000, 0, 40, 3095]])


@pytest.mark.parametrize(
    "right",
    [Rescale(1, -1024, 12, False), Rescale(1, 0, 12, True), Rescale(1, 0, 16, False), Rescale(1, -100, 12, False)],
)
def test_slices_with_a_plausible_intercept_are_left_alone(right):
    assert repaired(right) is None


def test_the_table_covers_every_bit_pattern():
    table = hounsfield_table(Rescale(1, -1024, 16, True))
    assert table.shape == (65536,)
    assert (table[0], table[0x7FFF], table[0x8000], table[0xFFFF]) == (-1024, 31743, -33792, -1025)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("intercept", [-1024.0, 0.0, 1.0, 30000.0, -40000.0])
def test_every_pattern_has_the_value_of_the_table(bits, signed, intercept):
    """However a slice is turned into HU, each of its values must come out as the table has it."""
    rescale = Rescale(1.0, intercept, bits, signed)
    table = np.clip(np.rint(hounsfield_table(rescale)), -32768, 32767)
    patterns = np.arange(65536, dtype=np.uint16)
    for part in (patterns, patterns[:256], patterns[:4096], patterns[60000:], patterns[32000:33000]):
        np.testing.assert_array_equal(to_hounsfield(part[np.newaxis], rescale)[0], table[part])


def test_brain_window_at_hand_computed_values():
    """Brain spans 0 to 80 HU; 40 HU is 127.5, which rounds to the even 128."""
    hu = np.array([[-1000.0, 0.0, 20.0, 40.0, 80.0, 3000.0]])
    np.testing.assert_array_equal(apply_windows(hu, [WINDOWS["brain"]]), [[[0, 0, 64, 128, 255, 255]]])


def test_subdural_window_at_hand_computed_values():
    """Subdural spans -20 to 180 HU: 30 HU is a quarter, 63.75."""
    hu = np.array([-20.0, 30.0, 80.0, 180.0])
    np.testing.assert_array_equal(apply_windows(hu, [WINDOWS["subdural"]]), [[0, 64, 128, 255]])


def test_packed_tables_hold_the_same_channels_as_the_windows():
    hu = np.linspace(-1024, 3071, 65536, dtype=np.float32)
    windows = [WINDOWS[name] for name in ("brain", "subdural", "soft", "bone", "stroke")]
    first, second = (table.view(np.uint8).reshape(-1, 4) for table in packed_lookup(hu, windows))
    wanted = apply_windows(hu, windows)
    np.testing.assert_array_equal(first.T, wanted[:4])
    np.testing.assert_array_equal(second[:, 0], wanted[4])
    assert not second[:, 1:].any()


def test_windows_of_ones_own_pass_through():
    own = WindowConfig(name="liver", centre_hu=60, width_hu=150)
    assert resolve_windows(["bone", own]) == (WINDOWS["bone"], own)


def test_an_unknown_window_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'lung' is not a known window .*brain, subdural, soft, bone, stroke"):
        resolve_windows(["lung"])


def test_a_channel_named_twice_is_refused():
    with pytest.raises(ConfigError, match="has a channel twice"):
        resolve_windows(["brain", "brain"])
