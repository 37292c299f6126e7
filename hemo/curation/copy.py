"""Copy images to the parts of a training set in two passes, both repeatable: shards to buckets, buckets to parts."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hemo.curation.card import PartFile
from hemo.curation.plan import ImageLayout
from hemo.errors import HemoError, SourceError
from hemo.shards.manifest import shard_path
from hemo.shards.reader import CONVERT_AGAIN, checked_parquet, images_of
from hemo.shards.schema import FOOTER_KEY, IMAGE, ROW_SCHEMA
from hemo.shards.writer import parquet_options, rows_per_group
from hemo.storage import filesystem, join, write_bytes

READ_THREADS = 8
"""Buckets read at once for a part: hides the storage's latency."""

BATCH_BYTES = 1 << 24
"""Pixels of a record batch at most: what each of the threads decodes at once."""

_PARTS = b"parts"


@dataclass(frozen=True)
class CopyTask:
    """Arguments common to all tasks of a copy."""

    shards: str
    buckets: str
    out: str
    layout: ImageLayout
    footer: str  # JSON for the metadata of each part


def write_buckets(task: CopyTask, copies: pa.Table) -> None:
    """Read a piece of a shard once, in order, and write its images that are needed to one file, record batches by part.

    In memory at once: the images that are read, `READ_BYTES` at most, what is written of them, and a row group.

    Args:
        task: Locations and layout.
        copies: Columns of `COPY_SCHEMA`, all of one read, sorted by part.

    Raises:
        SourceError: If the shard is missing or does not match the index.
    """
    unit = int(copies["unit"][0].as_py())
    needed, first, positions = np.unique(copies["row"].to_numpy(), return_index=True, return_inverse=True)
    image_ids = copies["image_id"].take(first)
    images = _read_images(join(task.shards, shard_path(unit)), needed, image_ids, task.layout)
    part = copies["part"].to_numpy()
    bounds = _batch_bounds(part, max(1, BATCH_BYTES // task.layout.image_bytes))
    schema = _bucket_schema(task.layout.image_bytes, part[bounds[:-1]].tolist())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        for start, stop in pairwise(bounds):
            pixels = pa.py_buffer(images[positions[start:stop]].data)
            image = pa.FixedSizeBinaryArray.from_buffers(schema.field(IMAGE).type, stop - start, [None, pixels])
            columns = [copies[name].slice(start, stop - start).combine_chunks() for name in ("position", "slot")]
            writer.write_batch(pa.RecordBatch.from_arrays([*columns, image], schema=schema))
    read = int(copies["read"][0].as_py())
    write_bytes(join(task.buckets, _bucket_name(read)), memoryview(sink.getvalue()))


def _bucket_name(read: int) -> str:
    return f"read-{read:06d}.arrow"


def write_part(task: CopyTask, part: int, path: str, rows: pa.Table, reads: int) -> PartFile:
    """Gather the images of one part from the buckets and write its file, completely or not at all; describe the file.

    In memory at once: its images, `PART_BYTES` at most, the file they become, and `BATCH_BYTES` a thread.

    Args:
        task: Locations and layout.
        part: Number of the part.
        path: Its file, below the training set.
        rows: Its rows in order: columns of `INDEX_SCHEMA`, then the labels.
        reads: Number of bucket files.

    Raises:
        HemoError: If the buckets lack an image.
    """
    images = np.empty((len(rows), task.layout.slots, task.layout.image_bytes), np.uint8)
    with ThreadPoolExecutor(READ_THREADS) as pool:
        count = sum(pool.map(lambda read: _fill(images, task.buckets, read, part), range(reads)))
    if count != len(rows) * task.layout.slots:
        raise HemoError(f"{path}: {count} of {len(rows) * task.layout.slots} images in its buckets; run curate again")
    content = memoryview(_encode(rows, images, task.footer))
    write_bytes(join(task.out, path), content)
    digest = hashlib.sha256(content).hexdigest()
    return PartFile(path=path, rows=len(rows), size_bytes=content.nbytes, sha256=digest)


def _read_images(
    shard: str, needed: NDArray[np.int32], image_ids: "pa.ChunkedArray[Any]", layout: ImageLayout
) -> NDArray[np.uint8]:
    """Return the images of the needed rows, ascending and named `image_ids`, as bytes: shape (needed, image_bytes)."""
    images = np.empty((len(needed), layout.image_bytes), np.uint8)
    fs, path = filesystem(shard)
    if not fs.exists(path):
        raise SourceError(f"{shard} is in the index but does not exist; run `hemo convert` again")
    try:
        with checked_parquet(shard, CONVERT_AGAIN) as file:
            for first, group in _groups_with(file, needed):
                here = slice(*np.searchsorted(needed, [first, first + len(group)]))
                if not group["image_id"].take(needed[here] - first).equals(image_ids[here]):
                    raise ValueError(f"other images from row {first} on")
                pixels = images_of(group[IMAGE], layout.shape, layout.dtype).reshape(len(group), -1).view(np.uint8)
                images[here] = pixels[needed[here] - first]
    except (ValueError, IndexError) as error:
        raise SourceError(f"{shard} does not match the index ({error}); run `hemo convert` again") from error
    return images


def _groups_with(file: pq.ParquetFile, needed: NDArray[np.int32]) -> Iterator[tuple[int, pa.Table]]:
    """Yield first row and the columns `image_id` and `image` of each row group that holds a needed row, in order."""
    rows = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    if needed[-1] >= sum(rows):
        raise IndexError(f"{sum(rows)} rows, where row {needed[-1]} is needed")
    ends = np.cumsum(rows)
    for group in np.unique(np.searchsorted(ends, needed, side="right")).tolist():
        yield int(ends[group]) - rows[group], file.read_row_group(group, columns=["image_id", IMAGE])


def _batch_bounds(part: NDArray[np.int32], rows_at_most: int) -> list[int]:
    """Return where batches begin, and the end of the last: one part a batch, `rows_at_most` rows each.

    Args:
        part: Part of each row, ascending, shape (rows,).
        rows_at_most: At least 1.
    """
    starts = [*np.flatnonzero(np.diff(part, prepend=-1)).tolist(), len(part)]
    return [at for start, stop in pairwise(starts) for at in range(start, stop, rows_at_most)] + [len(part)]


def _bucket_schema(image_bytes: int, parts: list[int]) -> pa.Schema:
    fields: list[pa.Field[Any]] = [
        pa.field("position", pa.int32()),
        pa.field("slot", pa.int8()),
        pa.field(IMAGE, pa.binary(image_bytes)),
    ]
    return pa.schema(fields, metadata={_PARTS: json.dumps(parts).encode()})


def _fill(images: NDArray[np.uint8], buckets: str, read: int, part: int) -> int:
    """Put the images that one read gives a part at their positions; return how many.

    Args:
        images: Shape (rows, slots, image_bytes), written to; calls for different reads write different elements.
        buckets: Folder of the bucket files.
        read: Whose file to open.
        part: Whose images to take.
    """
    fs, path = filesystem(join(buckets, _bucket_name(read)))
    # without a cache: s3fs would read 50 MiB ahead for a batch of some 100 kB
    with fs.open(path, "rb", cache_type="none") as file, pa.ipc.open_file(pa.PythonFile(file, mode="r")) as reader:
        batches = [at for at, other in enumerate(json.loads(reader.schema.metadata[_PARTS])) if other == part]
        return sum(_scatter(images, reader.get_batch(at)) for at in batches)


def _scatter(images: NDArray[np.uint8], batch: pa.RecordBatch) -> int:
    """Put the images of one batch at their positions; return how many."""
    column: Any = batch[IMAGE]
    pixels = np.frombuffer(column.buffers()[1], np.uint8).reshape(len(batch), -1)
    images[batch["position"].to_numpy(), batch["slot"].to_numpy()] = pixels
    return len(batch)


def _encode(rows: pa.Table, images: NDArray[np.uint8], footer: str) -> pa.Buffer:
    """Return a part as a Parquet file: `ROW_SCHEMA`, then the labels.

    Args:
        rows: Everything but the images.
        images: Shape (rows, slots, image_bytes).
        footer: JSON for the file's metadata.
    """
    labels = [field for field in rows.schema if field.name not in ROW_SCHEMA.names]
    schema = pa.schema([*ROW_SCHEMA, *labels], metadata={FOOTER_KEY: footer.encode()})
    pixels = images.reshape(len(images), -1)
    step = rows_per_group(pixels.shape[1])
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, **parquet_options(schema)) as writer:
        for start in range(0, len(pixels), step):
            group = rows.slice(start, step)
            column = _binary_column(pixels[start : start + step])
            columns = [column if name == IMAGE else group[name] for name in schema.names]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=step)
    return sink.getvalue()


def _binary_column(pixels: NDArray[np.uint8]) -> pa.BinaryArray:
    """Return rows of bytes, shape (rows, image_bytes), C-contiguous, as a binary column without copying them."""
    offsets = (np.arange(len(pixels) + 1) * pixels.shape[1]).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets.data), pa.py_buffer(pixels.data)]
    column: Any = pa.BinaryArray.from_buffers(pa.binary(), len(pixels), buffers)
    return cast(pa.BinaryArray, column)
