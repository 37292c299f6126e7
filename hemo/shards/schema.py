"""The Parquet schema of a shard, and the footer in its metadata."""

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
from pydantic import Field

from hemo.config.types import Config
from hemo.digest import differences
from hemo.errors import OutputError
from hemo.parquet import open_parquet
from hemo.storage import filesystem, join, list_files

SCHEMA_VERSION = 3
"""3: scanner. Raised when columns or their meaning change; part of every unit digest."""

IMAGE = "image"

ID_COLUMNS = ("image_id", "patient", "study", "series", "position_mm", "source_path", "flags")
"""Columns of an image that stand beside what a model made of it."""

OWN_ROWS = "own"
"""`corpus` in the settings of shards that a `hemo.ShardWriter` wrote."""

NOT_IN_THE_STACK = ("localizer", "secondary_capture")
"""Flags of images that belong to a series but are no slice of its stack."""

_ROW_FIELDS: "list[pa.Field[Any]]" = [
    # RSNA: the stem; else the relative path without its ending; `#frame` added for multi-frame files
    pa.field("image_id", pa.string(), nullable=False),
    # channels x height_px x width_px, C-contiguous, dtype as in the footer
    pa.field(IMAGE, pa.binary(), nullable=False),
    pa.field("height_px", pa.int32(), nullable=False),
    pa.field("width_px", pa.int32(), nullable=False),
    pa.field("frame", pa.int32(), nullable=False),  # 0 for single-frame files
    pa.field("source_class", pa.string()),  # image folder: the class folder
    pa.field("source_split", pa.string()),  # image folder: the split folder
    pa.field("patient", pa.string()),  # null: unknown
    pa.field("study", pa.string()),
    pa.field("series", pa.string()),
    pa.field("position_mm", pa.float32()),  # along the normal of the image plane
    pa.field("orientation", pa.list_(pa.float32(), 6)),  # direction cosines of a row and of a column, (0020,0037)
    pa.field("source_rows", pa.int32(), nullable=False),
    pa.field("source_cols", pa.int32(), nullable=False),
    pa.field("spacing_mm", pa.float32()),  # between pixel centres of a column, (0028,0030) first value
    pa.field("slice_thickness_mm", pa.float32()),  # (0018,0050)
    pa.field("brain_fraction", pa.float32()),  # part of the pixels with 0 < HU < 80; null for photographs
    pa.field("flags", pa.list_(pa.string()), nullable=False),  # decodable but suspect, see hemo.imaging.image.FLAGS
    pa.field("pixel_digest", pa.binary(16)),  # xxh3-128 of the HU as int16 (of the stored pixels for photographs)
    pa.field("source_path", pa.string(), nullable=False),  # relative to the source
    pa.field("pixel_format", pa.string(), nullable=False),  # u12, i16, ...: signedness and bits stored
    # (0008,0070) manufacturer and (0008,1090) model, keyed under a key; null: unknown
    pa.field("scanner", pa.string()),
]

ROW_SCHEMA = pa.schema(_ROW_FIELDS)
"""Columns of a shard."""

INDEX_SCHEMA = pa.schema([field for field in _ROW_FIELDS if field.name != IMAGE])
"""Everything but the pixels."""

SHARD_INDEX_SCHEMA = pa.schema(
    [*INDEX_SCHEMA, pa.field("unit", pa.int32(), nullable=False), pa.field("row", pa.int32(), nullable=False)]
)
"""Columns of `index.parquet`: everything but the pixels, and the position: unit, and row in its shard."""

_REJECT_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("source_path", pa.string(), nullable=False),
    pa.field("frame", pa.int32(), nullable=False),
    pa.field("reason", pa.string(), nullable=False),  # code, see hemo.imaging.image.REASONS
    pa.field("detail", pa.string(), nullable=False),
    pa.field("scanner", pa.string()),  # as in a row; null as well where the header cannot be read
]

REJECT_SCHEMA = pa.schema(_REJECT_FIELDS)
"""Columns of `rejects.parquet`."""

ROWS_PER_GROUP = 128
"""Rows in a row group at most: what one read decodes at once."""

COMPRESSION = "zstd"
COMPRESSION_LEVEL = 1

SHARD_PATH = re.compile(r"shards/unit-\d{6,}\.parquet")
FOOTER_THREADS = 16

FOOTER_KEY = b"hemo"
"""Key of the footer JSON in the Parquet metadata of a shard."""


class ShardReject(Config):
    """One input or frame that gave no row."""

    source_path: str
    frame: int
    reason: str
    detail: str
    scanner: str | None = None


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


def read_footers(out: str, settings: Mapping[str, Any]) -> dict[str, ShardFooter | None]:
    """Return the footers of all shards in an output folder, by path relative to it; None: the shard is damaged.

    Args:
        out: Output folder of a conversion.
        settings: What the shards must have been made with.

    Raises:
        OutputError: If a file is no shard, or one was made with other settings.
    """
    paths = [join("shards", name) for name in list_files(join(out, "shards"))]
    foreign = [path for path in paths if not SHARD_PATH.fullmatch(path)]
    if foreign:
        raise OutputError(f"out: {join(out, foreign[0])} is no shard of hemo's; give another folder")
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        footers = dict(zip(paths, pool.map(lambda path: read_footer(join(out, path)), paths), strict=True))
    for footer in footers.values():
        if footer and (differing := differences(footer.settings, {**dict.fromkeys(footer.settings), **settings})):
            raise OutputError(
                f"out: {out} holds shards made otherwise ({differing}); give another folder or remove this one"
            )
    return footers


def read_footer(location: str) -> ShardFooter | None:
    """Read the footer of a shard, from the end of the file only. None if the file is damaged, or no shard.

    Raises:
        OSError: If the storage fails: the shard may be whole.
        OutputError: If it is a shard of another version: it must not be replaced as if it were damaged.
    """
    fs, path = filesystem(location)
    with fs.open(path, "rb") as file:
        try:
            metadata = open_parquet(file, location).metadata.metadata or {}
        except pa.ArrowException:
            return None
        except OSError as error:
            if error.errno is not None:  # of the storage; Arrow's, on a damaged footer, have no errno
                raise
            return None
    content = json.loads(metadata.get(FOOTER_KEY, b"{}"))
    version = content.get("schema_version")
    if version is not None and version != SCHEMA_VERSION:
        raise OutputError(
            f"out: {location} is a shard of version {version}, this hemo writes {SCHEMA_VERSION}; give another folder"
        )
    return ShardFooter.model_validate(content) if content else None
