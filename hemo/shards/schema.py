"""The row of a shard, and what its footer says. The contract between `convert` and everything after it."""

from typing import Any

import pyarrow as pa

SCHEMA_VERSION = 1
"""Raised when columns or their meaning change; part of every unit digest."""

IMAGE = "image"

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
    pa.field("patient", pa.string()),  # null: every image is its own group
    pa.field("study", pa.string()),
    pa.field("series", pa.string()),
    pa.field("position_mm", pa.float32()),  # along the normal of the image plane
    pa.field("source_rows", pa.int32(), nullable=False),
    pa.field("source_cols", pa.int32(), nullable=False),
    pa.field("spacing_mm", pa.float32()),  # between pixel centres of a column, (0028,0030) first value
    pa.field("brain_fraction", pa.float32()),  # part of the pixels with 0 < HU < 80; null for photographs
    pa.field("flags", pa.list_(pa.string()), nullable=False),  # decodable but suspect, see hemo.imaging.flags
    pa.field("pixel_digest", pa.binary(16)),  # xxh3-128 of the HU as int16 (of the stored pixels for photographs)
    pa.field("source_path", pa.string(), nullable=False),  # relative to the source
    pa.field("pixel_format", pa.string(), nullable=False),  # u12, i16, ...: signedness and bits stored
]

ROW_SCHEMA = pa.schema(_ROW_FIELDS)
"""Columns of a shard."""

INDEX_SCHEMA = pa.schema([field for field in _ROW_FIELDS if field.name != IMAGE])
"""Everything but the pixels."""

SHARD_INDEX_SCHEMA = pa.schema(
    [*INDEX_SCHEMA, pa.field("unit", pa.int32(), nullable=False), pa.field("row", pa.int32(), nullable=False)]
)
"""Columns of `index.parquet`: everything but the pixels, and where they lie: the unit, and the row in its shard."""

_REJECT_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("source_path", pa.string(), nullable=False),
    pa.field("frame", pa.int32(), nullable=False),
    pa.field("reason", pa.string(), nullable=False),  # code, see hemo.imaging.image.REASONS
    pa.field("detail", pa.string(), nullable=False),
]

REJECT_SCHEMA = pa.schema(_REJECT_FIELDS)
"""Columns of `rejects.parquet`."""

ROWS_PER_GROUP = 128
"""Rows in a row group at most: what one read decodes at once."""

COMPRESSION = "zstd"
COMPRESSION_LEVEL = 1

FOOTER_KEY = b"hemo"
"""Key in a shard's Parquet metadata under which its footer JSON lies."""
