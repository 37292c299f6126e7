"""What a shard says about itself: the commit record of its unit."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from hemo.config.types import Config
from hemo.digest import digest_of
from hemo.errors import OutputError
from hemo.pseudonym import Pseudonymiser
from hemo.shards.manifest import PUBLIC, Unit
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


def unit_digest(unit: Unit, settings: dict[str, Any], pseudonyms: Pseudonymiser = PUBLIC) -> str:
    """Return what a finished shard of this unit must carry.

    Covers the unit's relative paths and what shapes pixels and ids; not the change marks, which differ by kind of
    source. Under a key it is a pseudonym itself: else who guesses the paths of a small unit could check the guess.
    """
    content = {"schema": SCHEMA_VERSION, "unit": unit.number, "paths": list(unit.paths), "settings": settings}
    return pseudonyms("unit", digest_of(content))[:16]


def read_footer(location: str) -> ShardFooter | None:
    """Return the footer of a shard; only the end of the file is read. None if the file is damaged, or no shard.

    Raises:
        OSError: If the storage fails: the shard may be whole.
        OutputError: If it is a shard of another version: it is not lost, and nothing may take it for damaged.
    """
    fs, path = filesystem(location)
    with fs.open(path, "rb") as file:
        try:
            metadata = pq.ParquetFile(file).metadata.metadata or {}
        except pa.ArrowException:
            return None
        except OSError as error:
            if error.errno is not None:  # the storage's; Arrow's own, on a damaged footer, have no number
                raise
            return None
    content = json.loads(metadata.get(FOOTER_KEY, b"{}"))
    version = content.get("schema_version")
    if version is not None and version != SCHEMA_VERSION:
        raise OutputError(
            f"out: {location} is a shard of version {version}, this hemo writes {SCHEMA_VERSION}; give another folder"
        )
    return ShardFooter.model_validate(content) if content else None
