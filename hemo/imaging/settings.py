"""The part of a conversion's config that decides what a stored image looks like and is called."""

from typing import Any, Literal

from pydantic import Field

from hemo.config.convert import ConvertConfig, WindowConfig
from hemo.config.fields import Config
from hemo.imaging.pseudonym import Pseudonymiser
from hemo.imaging.windows import resolve_windows

IMAGE_PATH_VERSION = 1
"""Raised when the same file and settings would give other bytes; part of every unit digest."""


class ImageSettings(Config):
    """Stored in shards, cards and checkpoints: all that is needed to make the same image of another file."""

    version: int = IMAGE_PATH_VERSION
    corpus: Literal["rsna", "dicom", "image_folder"]
    windows: tuple[WindowConfig, ...] = Field((), description="DICOM: one a channel")
    colour: Literal["rgb", "grey", ""] = Field("", description="image folder: channels kept")
    side_px: int
    patient_pattern: str = Field("", description="image folder: where the patient stands in a file name")
    key_fingerprint: str = Field("", description="of the pseudonym key; empty: ids are public")

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the stored channels, in order."""
        if self.corpus == "image_folder":
            return ("red", "green", "blue") if self.colour == "rgb" else ("grey",)
        return tuple(window.name for window in self.windows)


def image_settings(config: ConvertConfig, pseudonyms: Pseudonymiser) -> ImageSettings:
    """Return the settings of a conversion; fields that do not apply to its corpus stay empty.

    Raises:
        ConfigError: On an unknown window.
    """
    own: dict[str, Any] = (
        {"colour": config.colour, "patient_pattern": config.patient_pattern}
        if config.corpus == "image_folder"
        else {"windows": resolve_windows(config.windows)}
    )
    return ImageSettings(corpus=config.corpus, side_px=config.side_px, key_fingerprint=pseudonyms.fingerprint, **own)
