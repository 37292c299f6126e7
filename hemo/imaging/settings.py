"""Settings of the stored images, and the table of named intensity windows."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from hemo.config.convert import MEDIA, Corpus, ImagesConfig, Media, WindowConfig
from hemo.config.types import Config
from hemo.errors import ConfigError
from hemo.pseudonym import Pseudonymiser

IMAGE_PATH_VERSIONS = {"windows": 2, "hu16": 3}
"""Of `pixels`: raised when the same slice and settings would give other bytes; part of every unit digest."""

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


class ImageSettings(Config):
    """All that is needed to make the same image of another file. Stored in shards, cards and checkpoints."""

    version: int = Field(IMAGE_PATH_VERSIONS["windows"], description="of the image path, see `IMAGE_PATH_VERSIONS`")
    corpus: Corpus
    media: Media = Field(description="what a file of the corpus is")
    pixels: Literal["windows", "hu16"] = Field("windows", description="DICOM: windowed channels, or Hounsfield units")
    windows: tuple[WindowConfig, ...] = Field((), description="DICOM: one a channel; none with hu16")
    crop: Literal["none", "head"] = Field("none", description="DICOM: the part of a slice that is kept")
    colour: Literal["rgb", "grey", ""] = Field("", description="image folder: channels kept")
    side_px: int = Field(description="stored height and width in pixels")
    patient_pattern: str = Field(
        "", description="image folder: regular expression whose first group is the patient in a file name"
    )
    key_fingerprint: str = Field("", description="of the pseudonym key; empty: ids are public")
    public_classes: tuple[str, ...] = Field(
        (),
        description="classes whose names are kept under a key, sorted",
        exclude_if=lambda names: not names,  # what is stored without a key is as it was before there was one
    )

    @model_validator(mode="before")
    @classmethod
    def _of_corpus_and_pixels(cls, fields: Any) -> Any:
        """Fill in the version, and the media of a corpus; for a user's manifest these are required."""
        if not isinstance(fields, dict):
            return fields
        known: dict[str, Any] = {}
        if (corpus := fields.get("corpus")) in MEDIA:
            known["media"] = MEDIA[corpus]
        if (pixels := fields.get("pixels")) in IMAGE_PATH_VERSIONS:
            known["version"] = IMAGE_PATH_VERSIONS[pixels]
        return known | fields

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the stored channels, in order."""
        if self.media == "photo":
            return ("red", "green", "blue") if self.colour == "rgb" else ("grey",)
        return ("hu",) if self.pixels == "hu16" else tuple(window.name for window in self.windows)

    @property
    def dtype(self) -> str:
        """Of a stored pixel: int16 for Hounsfield units, else uint8."""
        return "int16" if self.pixels == "hu16" else "uint8"


def image_settings(config: ImagesConfig, media: Media, pseudonyms: Pseudonymiser) -> ImageSettings:
    """Return the image settings of a config; fields that do not apply to its corpus stay empty.

    Args:
        config: Of the conversion.
        media: What the files of its corpus are, see `hemo.corpus.sources.media_of`.
        pseudonyms: Of ids and paths.

    Raises:
        ConfigError: On an unknown window, or where pictures are to be stored as only DICOM can be.
    """
    fields: dict[str, Any] = {"pixels": config.pixels, "crop": config.crop}
    if media != "dicom":
        fields = _without_hounsfield_units(config)
    elif config.pixels == "windows":
        fields["windows"] = resolve_windows(config.windows)
    fields = {"side_px": config.side_px, "key_fingerprint": pseudonyms.fingerprint, **fields}
    public_classes = tuple(sorted(set(config.public_classes)))
    return ImageSettings(corpus=config.corpus, media=media, public_classes=public_classes, **fields)


def _without_hounsfield_units(config: ImagesConfig) -> dict[str, Any]:
    """Return the fields that apply to pictures only.

    Raises:
        ConfigError: If they are to be stored as only DICOM can be.
    """
    if config.pixels == "hu16" or config.crop == "head":
        raise ConfigError(
            f"pixels {config.pixels}, crop {config.crop}: {config.source} holds pictures, which have no Hounsfield "
            "units; leave both out"
        )
    pattern = config.patient_pattern if config.corpus == "image_folder" else ""
    return {"colour": config.colour, "patient_pattern": pattern}


def resolve_windows(windows: Sequence[str | WindowConfig]) -> tuple[WindowConfig, ...]:
    """Look up named windows; explicit ones pass through.

    Raises:
        ConfigError: On an unknown or repeated name.
    """
    unknown = [window for window in windows if isinstance(window, str) and window not in WINDOWS]
    if unknown:
        known = ", ".join(WINDOWS)
        remedy = "give {name, centre_hu, width_hu} to define another"
        raise ConfigError(f"windows: {unknown[0]!r} is not a known window ({known}); {remedy}")
    resolved = tuple(WINDOWS[window] if isinstance(window, str) else window for window in windows)
    names = [window.name for window in resolved]
    if len(set(names)) < len(names):
        raise ConfigError(f"windows: {', '.join(names)} has a channel twice")
    return resolved
