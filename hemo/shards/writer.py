"""Write rows to one Parquet file, built in memory, written completely or not at all."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hemo.shards.schema import COMPRESSION, COMPRESSION_LEVEL, IMAGE, ROW_SCHEMA, ROWS_PER_GROUP
from hemo.storage import write_bytes

GROUP_BYTES = 1 << 26
UNENCODED = (IMAGE, "pixel_digest")  # every value differs: a dictionary would only cost time


def parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """Return the options of pyarrow's Parquet writer: zstd 1, checksums, no dictionary and no statistics on pixels."""
    encoded = [name for name in schema.names if name not in UNENCODED]
    return {
        "compression": COMPRESSION,
        "compression_level": COMPRESSION_LEVEL,
        "write_page_checksum": True,
        "use_dictionary": [name for name in encoded if not pa.types.is_floating(schema.field(name).type)],
        "write_statistics": encoded,
    }


class ShardBuilder:
    """A shard under construction in memory; rows are encoded as soon as a row group is full."""

    def __init__(self, schema: pa.Schema = ROW_SCHEMA) -> None:
        """Start an empty shard with these columns."""
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(self._sink, schema, **parquet_options(schema))
        self._pending: list[dict[str, Any]] = []
        self._written = 0

    @property
    def rows(self) -> int:
        """Rows added so far."""
        return self._written + len(self._pending)

    def add(self, row: dict[str, Any]) -> None:
        """Append one row; `image` is an array of shape (channels, height_px, width_px)."""
        self._pending.append(row)
        if len(self._pending) == rows_per_group(row[IMAGE].nbytes):
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(rows_table(self._pending), row_group_size=len(self._pending))
            self._written += len(self._pending)
            self._pending = []

    def finish(self, metadata: dict[bytes, bytes]) -> pa.Buffer:
        """Return the finished file with `metadata` in its footer. Nothing can be added afterwards."""
        self._flush()
        self._writer.add_key_value_metadata(metadata)
        self._writer.close()
        return self._sink.getvalue()


def rows_per_group(image_bytes: int) -> int:
    """Return how many rows of this size make a row group: what one read decodes at once stays below `GROUP_BYTES`."""
    return max(1, min(ROWS_PER_GROUP, GROUP_BYTES // max(1, image_bytes)))


def rows_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Return rows as a table of `ROW_SCHEMA`.

    Args:
        rows: One dict a row, all of the schema's names; every `image` of the same shape.
    """
    columns = [
        images_array([row[IMAGE] for row in rows])
        if field.name == IMAGE
        else pa.array([row[field.name] for row in rows], field.type)
        for field in ROW_SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=ROW_SCHEMA)


def images_array(images: Sequence[np.ndarray[Any, Any]]) -> pa.BinaryArray:
    """Return images of one shape and dtype as a binary column, each C-contiguous, with a single copy."""
    data = np.stack(images) if images else np.empty((0, 1), np.uint8)
    size = data[0].nbytes if images else 0
    offsets = np.arange(len(images) + 1, dtype=np.int32) * np.int32(size)
    return pa.BinaryArray.from_buffers(pa.binary(), len(images), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def write_table(location: str, table: pa.Table) -> None:
    """Write a table without pixels as a Parquet file, completely or not at all."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=COMPRESSION)
    write_bytes(location, memoryview(sink.getvalue()))
