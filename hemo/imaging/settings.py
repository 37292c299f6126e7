"""The part of a conversion's config that decides what a stored image looks like and is called."""

from typing import Any, Literal

from pydantic import Field

from hemo.config.convert import ConvertConfig, WindowConfig
from hemo.config.fields import Config
from hemo.imaging.pseudonym import Pseudonymiser
from hemo.imaging.windows import resolve_windows

IMAGE_PATH_VERSION = 2
"""Raised when the same file and settings would give other bytes; part of every unit digest."""


class ImageSettings(Config):
    """Stored in shards, cards and checkpoints: all that is needed to make the same image of another file."""

    version: int = IMAGE_PATH_VERSION
    corpus: Literal["rsna", "dicom", "image_folder", "manifest"]
    pixels: Literal["windows", "hu16"] = Field("windows", description="DICOM: windowed channels, or Hounsfield units")
    windows: tuple[WindowConfig, ...] = Field((), description="DICOM: one a channel; none with hu16")
    crop: Literal["none", "head"] = Field("none", description="DICOM: the part of a slice that is kept")
    colour: Literal["rgb", "grey", ""] = Field("", description="image folder: channels kept")
    side_px: int
    patient_pattern: str = Field("", description="image folder: where the patient stands in a file name")
    key_fingerprint: str = Field("", description="of the pseudonym key; empty: ids are public")

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the stored channels, in order."""
        if self.corpus == "image_folder":
            return ("red", "green", "blue") if self.colour == "rgb" else ("grey",)
        return ("hu",) if self.pixels == "hu16" else tuple(window.name for window in self.windows)

    @property
    def dtype(self) -> str:
        """Of a stored pixel: int16 for Hounsfield units, else uint8."""
        return "int16" if self.pixels == "hu16" else "uint8"


def image_settings(config: ConvertConfig, pseudonyms: Pseudonymiser) -> ImageSettings:
    """Return the settings of a conversion; fields that do not apply to its corpus stay empty.

    Raises:
        ConfigError: On an unknown window.
    """
    own: dict[str, Any] = {"pixels": config.pixels, "crop": config.crop}
    if config.corpus == "image_folder":
        own = {"colour": config.colour, "patient_pattern": config.patient_pattern}
    elif config.pixels == "windows":
        own["windows"] = resolve_windows(config.windows)
    return ImageSettings(corpus=config.corpus, side_px=config.side_px, key_fingerprint=pseudonyms.fingerprint, **own)
