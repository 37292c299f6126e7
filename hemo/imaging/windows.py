"""Intensity windows: Hounsfield units to 8-bit channels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hemo.config.convert import WindowConfig
from hemo.errors import ConfigError

WINDOWS = {
    window.name: window
    for window in (
        WindowConfig(name="brain", centre_hu=40, width_hu=80),
        WindowConfig(name="subdural", centre_hu=80, width_hu=200),
        WindowConfig(name="soft", centre_hu=40, width_hu=380),
        WindowConfig(name="bone", centre_hu=600, width_hu=2800),
        WindowConfig(name="stroke", centre_hu=32, width_hu=8),
    )
}
"""Named windows of the RSNA 2019 solutions (appian, NoBrainer, SeuTao); stroke is fastai's `dicom_windows`."""


WINDOWS_A_TABLE = 4
"""8-bit channels that fit one 32-bit entry of a look-up table."""


def resolve_windows(windows: Sequence[str | WindowConfig]) -> tuple[WindowConfig, ...]:
    """Look up named windows; explicit ones pass through.

    Raises:
        ConfigError: On an unknown name, or one name twice.
    """
    unknown = [window for window in windows if isinstance(window, str) and window not in WINDOWS]
    if unknown:
        known = ", ".join(WINDOWS)
        cure = "give {name, centre_hu, width_hu} for one of your own"
        raise ConfigError(f"windows: {unknown[0]!r} is no window hemo knows ({known}); {cure}")
    resolved = tuple(WINDOWS[window] if isinstance(window, str) else window for window in windows)
    names = [window.name for window in resolved]
    if len(set(names)) < len(names):
        raise ConfigError(f"windows: {', '.join(names)} names a channel twice")
    return resolved


def apply_windows(hu: NDArray[np.floating], windows: Sequence[WindowConfig]) -> NDArray[np.uint8]:
    """Map HU linearly to 0..255 in each window, clipped at its edges, rounded half to even.

    Args:
        hu: Hounsfield units, any shape.
        windows: One a channel.

    Returns:
        Array of shape (channels, *hu.shape): 0 at centre - width / 2 and below, 255 at centre + width / 2 and above.

    Source:
        DICOM PS3.3 C.11.2.1.3.2 (LINEAR_EXACT).
    """
    channels = [(hu - (window.centre_hu - window.width_hu / 2)) * 255 / window.width_hu for window in windows]
    rounded: NDArray[np.uint8] = np.rint(np.clip(np.stack(channels), 0, 255)).astype(np.uint8)
    return rounded


def packed_lookup(hu_of_stored: NDArray[np.float32], windows: Sequence[WindowConfig]) -> list[NDArray[np.int32]]:
    """Return lookup tables that apply up to four windows with one gather each.

    Args:
        hu_of_stored: HU of each of the 65,536 bit patterns of a stored value.
        windows: One a channel.

    Returns:
        One table of 65,536 entries for every four windows; the bytes of an entry, in memory order, are its channels.
    """
    channels = apply_windows(hu_of_stored, windows)
    tables = []
    for first in range(0, len(windows), WINDOWS_A_TABLE):
        packed = np.zeros((hu_of_stored.size, WINDOWS_A_TABLE), np.uint8)
        packed[:, : len(windows) - first] = channels[first : first + WINDOWS_A_TABLE].T
        tables.append(packed.view(np.int32).ravel())
    return tables
