"""What a shard says about itself: the commit record of its unit."""

import json
from typing import Any

import pyarrow.parquet as pq
from pydantic import Field

from hemo.config.digest import digest_of
from hemo.config.fields import Config
from hemo.shards.manifest import Unit
from hemo.shards.schema import FOOTER_KEY, SCHEMA_VERSION
from hemo.storage import filesystem


class ShardReject(Config):
    """One input or frame that gave no row."""

    source_path: str
    frame: int
    reason: str
    detail: str


class ShardFooter(Config):
    """Key-value metadata of a shard, as JSON under `FOOTER_KEY`."""

    schema_version: int = SCHEMA_VERSION
    unit: int
    digest: str = Field(description="of the unit: its paths and settings")
    settings: dict[str, Any] = Field(description="what shapes pixels and ids, see hemo.imaging.settings")
    channels: tuple[str, ...]
    dtype: str
    height_px: int
    width_px: int
    files: int
    rows: int
    rejects: tuple[ShardReject, ...]

    def encoded(self) -> dict[bytes, bytes]:
        """Return the footer as Parquet metadata."""
        return {FOOTER_KEY: json.dumps(self.model_dump(mode="json"), separators=(",", ":")).encode()}


def unit_digest(unit: Unit, settings: dict[str, Any]) -> str:
    """Return what a finished shard of this unit must carry.

    Covers the unit's relative paths and what shapes pixels and ids; not the change marks, which differ by kind of
    source.
    """
    return digest_of({"schema": SCHEMA_VERSION, "unit": unit.number, "paths": list(unit.paths), "settings": settings})


def read_footer(location: str) -> ShardFooter:
    """Return the footer of a shard; only the end of the file is read.

    Raises:
        FileNotFoundError: If there is no such shard.
        pyarrow.ArrowInvalid: If the file is no Parquet file.
        KeyError, pydantic.ValidationError: If it is not hemo's, or of another version.
    """
    fs, path = filesystem(location)
    with fs.open(path, "rb") as file:
        metadata = pq.ParquetFile(file).metadata.metadata or {}
    return ShardFooter.model_validate_json(metadata[FOOTER_KEY])
