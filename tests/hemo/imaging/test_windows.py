import numpy as np
import pytest

from hemo.config.convert import WindowConfig
from hemo.errors import ConfigError
from hemo.imaging.windows import WINDOWS, apply_windows, packed_lookup, resolve_windows


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
    with pytest.raises(ConfigError, match=r"'lung' is no window .*brain, subdural, soft, bone, stroke"):
        resolve_windows(["lung"])


def test_a_channel_named_twice_is_refused():
    with pytest.raises(ConfigError, match="names a channel twice"):
        resolve_windows(["brain", "brain"])
