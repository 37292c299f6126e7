"""Read images and columns from shards: whole files, or one column of a row group by one read."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hemo.errors import SourceError
from hemo.parquet import open_parquet
from hemo.shards.schema import ROWS_PER_GROUP
from hemo.storage import filesystem, read_range

if TYPE_CHECKING:
    import pandas as pd

CONVERT_AGAIN = "remove it and run `hemo convert` again: it makes that one again"
CURATE_AGAIN = "remove the training set and run `hemo curate` again"

FOUND_BY_ITSELF = {CONVERT_AGAIN: CONVERT_AGAIN.removeprefix("remove it and ")}
"""Remedy -> that of a file without a readable footer: `convert` reads the footers, and makes such a file again."""


@contextmanager
def checked_parquet(location: str, remedy: str) -> Iterator[pq.ParquetFile]:
    """Open a shard or a part; pages are checked against their checksums when they are read.

    What one call reads is fetched together, without the columns between. s3fs would read 50 MiB ahead, and again after
    each step back: for the columns beside the images of a shard of 135 MB it fetched 3.0 GB in 83 requests, so opened
    0.12 MB in 10 (measured with 8 row groups of 128 images of 3 x 224 x 224).

    Args:
        location: The file.
        remedy: What to do about a damaged one, for the error.

    Raises:
        SourceError: If it is no Parquet file, or damaged.
        OSError: As the storage raises it.
    """
    fs, path = filesystem(location)
    with fs.open(path, "rb", cache_type="none") as file:
        with damage_as_source_error(location, FOUND_BY_ITSELF.get(remedy, remedy)):
            opened = open_parquet(file, location, page_checksum_verification=True, pre_buffer=True)
        with damage_as_source_error(location, remedy):
            yield opened


def batches_by_group(
    file: pq.ParquetFile, columns: Sequence[str] | None = None, rows: int = ROWS_PER_GROUP
) -> Iterator[pa.RecordBatch]:
    """Yield a shard's rows in order, of one row group at a time: in memory is no other.

    pyarrow's own `iter_batches` keeps what it has fetched of the whole file, where it fetches columns together.

    Args:
        file: As `checked_parquet` opens it.
        columns: Wanted; None: all.
        rows: Of a batch, at most.
    """
    for group in range(file.num_row_groups):
        yield from file.read_row_group(group, columns=columns).to_batches(max_chunksize=rows)


@contextmanager
def existing_parquet(location: str, remedy: str) -> Iterator[pq.ParquetFile]:
    """Open a shard or a part as `checked_parquet` does, of which there must be one.

    Raises:
        SourceError: Also if it does not exist.
        OSError: As the storage raises it.
    """
    try:
        with checked_parquet(location, remedy) as file:
            yield file
    except FileNotFoundError as error:
        raise SourceError(f"{location} does not exist; {FOUND_BY_ITSELF.get(remedy, remedy)}") from error


def frame_of(location: str, remedy: str) -> "pd.DataFrame":
    """Return a Parquet file without images as a frame; errors are those of `existing_parquet`."""
    with existing_parquet(location, remedy) as file:
        frame: pd.DataFrame = file.read().to_pandas()
    return frame


@contextmanager
def damage_as_source_error(location: str, remedy: str) -> Iterator[None]:
    """Turn what pyarrow raises on a damaged file into an error with a remedy.

    Raises:
        SourceError: In its place.
        OSError: Of the storage: these have an errno.
        MemoryError: Arrow's too, which does not mean that the file is damaged.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno):
            raise
        raise SourceError(f"{location} is damaged; {remedy}") from error


def images_of(
    column: pa.ChunkedArray | pa.BinaryArray, shape: tuple[int, int, int], dtype: str = "uint8"
) -> NDArray[Any]:
    """Return an `image` column as one array, without copying where the column is one chunk.

    Args:
        column: Binary column of rows that all have the same shape.
        shape: (channels, height_px, width_px).
        dtype: Of a pixel, as in the footer: uint8, or int16 for Hounsfield units.

    Returns:
        Read-only array of shape (rows, *shape) and this dtype.

    Raises:
        ValueError: If a row has another size.
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    arrays = [_chunk_images(chunk, shape, np.dtype(dtype)) for chunk in chunks if len(chunk)]
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate(arrays) if arrays else np.empty((0, *shape), dtype)


def _chunk_images(chunk: pa.BinaryArray, shape: tuple[int, int, int], dtype: np.dtype[np.generic]) -> NDArray[Any]:
    _, offsets_buffer, data = chunk.buffers()
    offset_type = np.int64 if pa.types.is_large_binary(chunk.type) else np.int32
    offsets = np.frombuffer(offsets_buffer, offset_type)[chunk.offset : chunk.offset + len(chunk) + 1]
    size = int(np.prod(shape)) * dtype.itemsize
    if not np.all(np.diff(offsets) == size):
        raise ValueError(f"a row is not {shape} of {dtype}, {size} bytes")
    values: NDArray[Any] = np.frombuffer(data, dtype, count=len(chunk) * size // dtype.itemsize, offset=int(offsets[0]))
    return values.reshape(len(chunk), *shape)


def read_column(location: str, metadata: pq.FileMetaData, group: int, name: str, remedy: str) -> pa.ChunkedArray:
    """Read one column of one row group; its pages are checked against their checksums.

    Args:
        location: The Parquet file.
        metadata: Its footer.
        group: Row group, 0-based.
        name: Of the column, which is flat.
        remedy: What to do about a damaged file, for the error.

    Raises:
        SourceError: If the file is gone or damaged.
        OSError: As the storage raises it.
    """
    column = metadata.row_group(group).column(metadata.schema.names.index(name))
    start = column.data_page_offset
    if column.has_dictionary_page:
        start = min(start, column.dictionary_page_offset)
    try:
        window = _Window(read_range(location, start, start + column.total_compressed_size), start)
    except FileNotFoundError as error:
        raise SourceError(f"{location} is gone, or not mounted on this node: mount it there, or {remedy}") from error
    with damage_as_source_error(location, remedy):
        file = pq.ParquetFile(window, metadata=metadata, page_checksum_verification=True)
        return file.read_row_group(group, columns=[name], use_threads=False).column(0)


class _Window(io.RawIOBase):
    """A byte range of a file, in the positions of the whole file; reads outside it return nothing."""

    def __init__(self, content: bytes, start: int) -> None:
        """Hold `content`, which begins at byte `start` of the file."""
        self._content, self._start, self._at = memoryview(content), start, start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origins = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._start + len(self._content)}
        self._at = origins[whence] + offset
        return self._at

    def read(self, size: int = -1) -> memoryview:
        """Return a view, which pyarrow takes without a copy."""
        first = self._at - self._start
        if first < 0:
            return memoryview(b"")
        view = self._content[first : first + size if size >= 0 else None]
        self._at += len(view)
        return view
