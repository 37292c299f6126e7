"""One column of one row group."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hemo.errors import SourceError
from hemo.shards import row_group
from hemo.shards.row_group import _Window, read_column

CURE = "make it anew"


@pytest.fixture(params=[True, False], ids=["dictionary", "plain"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    content = pa.table({"number": range(30), "text": [f"row {number % 7}" for number in range(30)]})
    place = tmp_path / "table.parquet"
    pq.write_table(content, place, row_group_size=10, use_dictionary=request.param, write_page_checksum=True)
    return str(place)


def test_it_is_read_by_one_request_for_its_own_bytes(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def read_range(location: str, start: int, stop: int) -> bytes:
        asked.append((location, stop - start))
        return Path(location).read_bytes()[start:stop]

    monkeypatch.setattr(row_group, "read_range", read_range)
    footer = pq.read_metadata(table)
    found = read_column(table, footer, 1, "text", CURE)
    assert found.to_pylist() == [f"row {number % 7}" for number in range(10, 20)]
    assert asked == [(table, footer.row_group(1).column(1).total_compressed_size)]


def test_other_bytes_than_were_written_are_refused(table: str) -> None:
    footer = pq.read_metadata(table)
    column = footer.row_group(2).column(0)
    content = bytearray(Path(table).read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start + column.total_compressed_size - 2] ^= 1
    Path(table).write_bytes(content)
    with pytest.raises(SourceError, match=r"table.parquet is damaged; make it anew"):
        read_column(table, footer, 2, "number", CURE)
    Path(table).write_bytes(content[:40])
    with pytest.raises(SourceError, match=r"table.parquet is damaged; make it anew"):
        read_column(table, footer, 2, "number", CURE)


def test_a_file_that_is_gone_is_named(table: str) -> None:
    footer = pq.read_metadata(table)
    Path(table).unlink()
    with pytest.raises(
        SourceError, match=r"table.parquet is gone, or this node does not see it: mount it there, or make it anew"
    ):
        read_column(table, footer, 0, "text", CURE)


def test_a_window_reads_like_the_file_it_was_cut_from() -> None:
    window = _Window(b"cdef", 2)
    assert (bytes(window.read(3)), window.tell()) == (b"cde", 5)
    assert (window.seek(-1, io.SEEK_END), bytes(window.read())) == (5, b"f")
    assert (window.seek(3), window.seek(1, io.SEEK_CUR), bytes(window.read(9))) == (3, 4, b"ef")
    assert (window.readable(), window.seekable(), bytes(window.read())) == (True, True, b"")
    assert (window.seek(0), bytes(window.read(4))) == (0, b"")
