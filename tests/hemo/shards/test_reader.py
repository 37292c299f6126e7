""""""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hemo.errors import SourceError
from hemo.shards import reader as row_group
from hemo.shards.reader import CONVERT_AGAIN, _Window, checked_parquet, damage_as_source_error, images_of, read_column
from hemo.shards.schema import ROW_SCHEMA
from hemo.shards.writer import ShardBuilder

CURE = "make it anew"


def test_a_slice_of_a_column_gives_its_own_rows():
    column = pa.array([bytes([number] * 2) for number in range(5)], pa.binary()).slice(2, 2)
    np.testing.assert_array_equal(images_of(column, (1, 1, 2)), [[[[2, 2]]], [[[3, 3]]]])


def test_chunks_are_joined_in_order():
    column = pa.chunked_array([[b"\1"], [], [b"\2", b"\3"]], pa.binary())
    np.testing.assert_array_equal(images_of(column, (1, 1, 1)).ravel(), [1, 2, 3])


def test_large_binary_is_read_too():
    assert images_of(pa.array([b"\5"], pa.large_binary()), (1, 1, 1)).item() == 5


def test_pixels_may_be_16_bits_wide():
    column = pa.array([np.array([-1000, 40], np.int16).tobytes()], pa.binary())
    np.testing.assert_array_equal(images_of(column, (1, 1, 2), "int16"), [[[[-1000, 40]]]])


def test_no_rows_give_an_empty_array_of_the_right_shape():
    assert images_of(pa.chunked_array([], pa.binary()), (3, 4, 4)).shape == (0, 3, 4, 4)


def test_bytes_that_changed_on_disk_are_an_error(tmp_path):
    """A bit of the pixels flips: without checksums the page would be read as another image."""
    shard = tmp_path / "unit-000000.parquet"
    builder = ShardBuilder()
    row = dict.fromkeys(ROW_SCHEMA.names) | {"image": np.arange(192, dtype=np.uint8).reshape(3, 8, 8)}
    texts = dict.fromkeys(("image_id", "source_path", "pixel_format"), "x")
    numbers = dict.fromkeys(("height_px", "width_px", "frame", "source_rows", "source_cols"), 8)
    builder.add(row | texts | numbers | {"flags": [], "pixel_digest": bytes(16)})
    whole = builder.finish({}).to_pybytes()
    shard.write_bytes(whole)
    with checked_parquet(str(shard), CONVERT_AGAIN) as file:
        assert file.read(columns=["image"]).num_rows == 1
    place = whole.index(bytes(range(64, 128)))
    shard.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    complaint = r"unit-000000\.parquet is damaged; remove it and run `hemo convert` again"
    with pytest.raises(SourceError, match=complaint), checked_parquet(str(shard), CONVERT_AGAIN) as file:
        file.read(columns=["image"])
    shard.write_bytes(whole[:-20])
    complaint = r"unit-000000\.parquet is damaged; run `hemo convert` again: it makes that one again"
    with pytest.raises(SourceError, match=complaint), checked_parquet(str(shard), CONVERT_AGAIN):
        pass


def test_too_little_memory_is_no_damage():
    with (
        pytest.raises(MemoryError, match="malloc of size 64 failed"),
        damage_as_source_error("part.parquet", CONVERT_AGAIN),
    ):
        raise pa.ArrowMemoryError("malloc of size 64 failed")


@pytest.fixture(params=[True, False], ids=["dictionary", "plain"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    content = pa.table({"number": range(30), "text": [f"row {number % 7}" for number in range(30)]})
    place = tmp_path / "table.parquet"
    pq.write_table(content, place, row_group_size=10, use_dictionary=request.param, write_page_checksum=True)
    return str(place)


def test_it_is_read_by_one_request_for_its_own_bytes(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    requested = []

    def read_range(location: str, start: int, stop: int) -> bytes:
        requested.append((location, stop - start))
        return Path(location).read_bytes()[start:stop]

    monkeypatch.setattr(row_group, "read_range", read_range)
    footer = pq.read_metadata(table)
    found = read_column(table, footer, 1, "text", CURE)
    assert found.to_pylist() == [f"row {number % 7}" for number in range(10, 20)]
    assert requested == [(table, footer.row_group(1).column(1).total_compressed_size)]


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
        SourceError, match=r"table.parquet is gone, or not mounted on this node: mount it there, or make it anew"
    ):
        read_column(table, footer, 0, "text", CURE)


def test_a_window_reads_like_the_file_it_was_cut_from() -> None:
    window = _Window(b"cdef", 2)
    assert (bytes(window.read(3)), window.tell()) == (b"cde", 5)
    assert (window.seek(-1, io.SEEK_END), bytes(window.read())) == (5, b"f")
    assert (window.seek(3), window.seek(1, io.SEEK_CUR), bytes(window.read(9))) == (3, 4, b"ef")
    assert (window.readable(), window.seekable(), bytes(window.read())) == (True, True, b"")
    assert (window.seek(0), bytes(window.read(4))) == (0, b"")
