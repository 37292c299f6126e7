"""One column of one row group, by one read of the storage and no look at the footer."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from hemo.errors import SourceError
from hemo.shards.read import damage_told
from hemo.storage import read_range


def read_column(location: str, metadata: pq.FileMetaData, group: int, name: str, cure: str) -> pa.ChunkedArray:
    """Read one column of one row group; its pages are checked against the checksums they were written with.

    Args:
        location: The Parquet file.
        metadata: Its footer.
        group: Row group, 0-based.
        name: Of the column, which is flat.
        cure: What to do about a damaged file, for the error.

    Raises:
        SourceError: If the file is gone, or its bytes are not those that were written.
        OSError: As the storage raises it.
    """
    column = metadata.row_group(group).column(metadata.schema.names.index(name))
    start = column.data_page_offset
    if column.has_dictionary_page:
        start = min(start, column.dictionary_page_offset)
    try:
        window = _Window(read_range(location, start, start + column.total_compressed_size), start)
    except FileNotFoundError as error:
        raise SourceError(f"{location} is gone, or this node does not see it: mount it there, or {cure}") from error
    with damage_told(location, cure):
        file = pq.ParquetFile(window, metadata=metadata, page_checksum_verification=True)
        return file.read_row_group(group, columns=[name], use_threads=False).column(0)


class _Window(io.RawIOBase):
    """Some bytes of a file as if they were the whole: reads elsewhere find nothing."""

    def __init__(self, content: bytes, start: int) -> None:
        """Hold `content`, which stands in the file from byte `start` on."""
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
        found = self._content[first : first + size if size >= 0 else None]
        self._at += len(found)
        return found
