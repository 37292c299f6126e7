"""Parquet made to run code is refused before a value of it is read."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data  # its import registers the extension types with pyarrow

from hemo.corpus.labels import parse_labels
from hemo.corpus.user_manifest import list_table
from hemo.errors import SourceError
from hemo.parquet import open_parquet, read_parquet
from hemo.shards.reader import CONVERT_AGAIN, checked_parquet

REFUSED = r"has extension types .*may run code when read; write it with plain columns"
assert ray.data.DataContext


class MakesAFile:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def parquet(column: pa.Field, values: list[Any], key: str = "image_id") -> bytes:
    ids = pa.field(key, pa.string())
    table = pa.table({key: ["a"], column.name: pa.array(values, column.type)}, schema=pa.schema([ids, column]))
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def extension(name: str, kind: pa.DataType, stored: bytes = b"") -> pa.Field:
    return pa.field("blood", kind, metadata={b"ARROW:extension:name": name, b"ARROW:extension:metadata": stored})


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    return tmp_path / "ran"


@pytest.fixture
def pickled_objects(ran: Path) -> bytes:
    payload = pickle.dumps(MakesAFile(ran))
    return parquet(extension("ray.data.arrow_pickled_object", pa.large_binary()), [payload])


def test_pyarrow_alone_would_run_it(pickled_objects: bytes, ran: Path) -> None:
    """Else the refusals below would prove nothing."""
    pq.read_table(io.BytesIO(pickled_objects)).to_pylist()
    assert ran.is_dir()


def test_pickled_objects_are_refused_and_not_run(pickled_objects: bytes, ran: Path) -> None:
    with pytest.raises(SourceError, match=rf"^table {REFUSED}"):
        read_parquet(pickled_objects, "table")
    assert not ran.exists()


def test_pickled_shapes_are_refused_and_not_run(ran: Path) -> None:
    column = extension("ray.data.arrow_tensor", pa.list_(pa.int64()), pickle.dumps(MakesAFile(ran)))
    with pytest.raises(SourceError, match=REFUSED):
        read_parquet(parquet(column, [[1, 2]]), "table")
    assert not ran.exists()


@pytest.mark.parametrize("name", ["ray.data.arrow_pickled_object", "nobodys.type"])
def test_an_extension_within_a_struct_is_found(name: str) -> None:
    inner = pa.struct([extension(name, pa.large_binary())])
    with pytest.raises(SourceError, match=r"\(columns study\)"):
        read_parquet(parquet(pa.field("study", pa.list_(inner)), [[{"blood": b""}]]), "table")


def test_plain_columns_are_read() -> None:
    data = parquet(pa.field("blood", pa.list_(pa.uint8())), [[1, 0]])
    assert read_parquet(data, "table").to_pylist() == [{"image_id": "a", "blood": [1, 0]}]
    assert open_parquet(io.BytesIO(data), "table").metadata.num_rows == 1


def test_labels_manifests_and_shards_of_this_kind_are_refused(
    pickled_objects: bytes, ran: Path, tmp_path: Path
) -> None:
    file = tmp_path / "table.parquet"
    file.write_bytes(pickled_objects)
    with pytest.raises(SourceError, match=f"labels: .*table.parquet {REFUSED}"):
        parse_labels(pickled_objects, str(file))
    with pytest.raises(SourceError, match=f"source: .*table.parquet {REFUSED}"):
        list_table(str(file))
    with pytest.raises(SourceError, match=f"table.parquet {REFUSED}"), checked_parquet(str(file), CONVERT_AGAIN):
        pass
    assert not ran.exists()
