"""Open Parquet files of unknown origin: plain columns only, because reading an extension type may run code."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hemo.errors import SourceError, first_names

EXTENSION = b"ARROW:extension:name"
"""Key of a field's metadata that names its extension type, where that type is not registered in this process."""


def open_parquet(file: Any, location: str, **options: Any) -> pq.ParquetFile:
    """Open a Parquet file whose columns have plain types, as all files that hemo writes.

    Ray registers extension types with pyarrow whose values are pickled objects: to read one runs what its author wants.

    Args:
        file: A path or a seekable binary file.
        location: Its path or URI, for the error.
        options: Of `pyarrow.parquet.ParquetFile`.

    Raises:
        SourceError: If a column has an extension type. No value has been read then.
        pa.ArrowException: If it is no Parquet file, or damaged.

    Source:
        CVE-2026-41486.
    """
    try:
        opened = pq.ParquetFile(file, **options)
    except ValueError as error:
        if isinstance(error, pa.ArrowException):
            raise
        raise _refusal(location, str(error)) from error  # of Ray's type, which found no JSON where pickle may be
    extended = [field.name for field in opened.schema_arrow if _is_extended(field)]
    if extended:
        raise _refusal(location, f"columns {first_names(extended)}")
    return opened


def read_parquet(data: bytes, location: str) -> pa.Table:
    """Return the table in a Parquet file's bytes; raises what `open_parquet` raises."""
    return open_parquet(io.BytesIO(data), location).read()


def _is_extended(field: pa.Field) -> bool:
    kind = field.type
    if isinstance(kind, pa.BaseExtensionType) or EXTENSION in (field.metadata or {}):
        return True
    return any(_is_extended(kind.field(number)) for number in range(kind.num_fields))


def _refusal(location: str, what: str) -> SourceError:
    return SourceError(
        f"{location} has extension types ({what}): they may run code when read; write it with plain columns of "
        "numbers, text, lists or binary"
    )
