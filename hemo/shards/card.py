"""`card.json` of a conversion: what was read, what became of it, and how the images were made."""

from typing import Any

from pydantic import Field

from hemo.config.types import Config
from hemo.errors import SourceError
from hemo.shards.schema import SCHEMA_VERSION
from hemo.storage import exists, join, read_json


class ConversionCard(Config):
    """`OUT/card.json`, derived from the shards' footers. `rows + rejects` accounts for every input frame."""

    schema_version: int = SCHEMA_VERSION
    digest: str = Field(description="covers all unit digests: the same inputs and image config give the same")
    image: dict[str, Any] = Field(
        description="the config fields that shape pixels: corpus, windows, side_px, colour, ..."
    )
    channels: tuple[str, ...]
    dtype: str = Field(description="of a pixel: uint8 or int16")
    height_px: int
    width_px: int
    units: int
    files: int = Field(description="files in the manifest; each became rows, rejects or both")
    ignored_files: int = Field(description="files beside them with another ending, which are no part of such a corpus")
    rows: int
    rejects: int
    reject_reasons: dict[str, int]
    flags: dict[str, int]
    pixel_formats: dict[str, int]
    patients: int


def read_card(shards: str) -> ConversionCard:
    """Return the card of a conversion.

    Raises:
        SourceError: If the folder is no finished conversion, or of another version.
    """
    place = join(shards, "card.json")
    if not exists(place):
        raise SourceError(f"{shards} is no finished conversion (it has no card.json); `hemo convert` makes one")
    content = read_json(place)
    if (
        not isinstance(content, dict)
        or content.get("schema_version") != SCHEMA_VERSION
        or "reject_reasons" not in content
    ):
        raise SourceError(f"{place} is no conversion card of version {SCHEMA_VERSION}; run `hemo convert` again")
    return ConversionCard.model_validate(content)
