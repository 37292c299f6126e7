""""""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hemo.errors import SourceError
from hemo.shards import reader as row_group
from hemo.shards.reader import (
    CONVERT_AGAIN,
    _Window,
    batches_by_group,
    checked_parquet,
    damage_as_source_error,
    images_of,
    read_column,
)
from hemo.shards.schema import INDEX_SCHEMA, ROW_SCHEMA
from hemo.shards.writer import ShardBuilder
from hemo.storage import write_bytes
from tests.counted_storage import Fetches, fetches  # noqa: F401 (a fixture)
from tests.made_shards import stored_rows

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


@pytest.fixture
def far_shard(fetches: Fetches) -> str:  # noqa: F811
    """Return the URI of a shard with 4 row groups of 128 images of 10,000 bytes."""
    random = np.random.default_rng(0)
    builder = ShardBuilder()
    for row in stored_rows([{"height_px": 100, "width_px": 100} for _ in range(512)]):
        builder.add(row | {"image": random.integers(0, 256, (1, 100, 100), np.uint8)})
    write_bytes("counted://bucket/unit-000000.parquet", builder.finish({}))
    return "counted://bucket/unit-000000.parquet"


def fetched(shard: str, counted: Fetches, read: Callable[[pq.ParquetFile], object]) -> tuple[int, int]:
    """Return how many ranges are fetched to read from a shard, and of how many bytes together."""
    with checked_parquet(shard, CONVERT_AGAIN) as file:
        read(file)
    return len(counted), sum(counted)


PIXELS = 128 * 10_000
"""Bytes of a row group's images; they are random, so they are stored as they are."""

FOOTER = 65_536
"""What pyarrow reads of the end of a file first."""


def test_columns_beside_the_images_are_read_without_the_images(fetches, far_shard):  # noqa: F811
    """At most two ranges a row group, before and behind its images."""
    requests, size = fetched(far_shard, fetches, lambda file: file.read(columns=INDEX_SCHEMA.names))
    assert requests <= 1 + 2 * 4
    assert size < FOOTER + PIXELS / 10


@pytest.mark.parametrize("columns", [["image"], ["image_id", "image"]])
def test_the_images_of_a_row_group_are_one_request(fetches, far_shard, columns):  # noqa: F811
    requests, size = fetched(far_shard, fetches, lambda file: file.read_row_group(2, columns=columns))
    assert requests == 2
    assert PIXELS < size < FOOTER + PIXELS * 1.1


def test_a_whole_shard_is_one_request_a_row_group(fetches, far_shard):  # noqa: F811
    requests, size = fetched(far_shard, fetches, lambda file: list(batches_by_group(file)))
    assert requests == 1 + 4
    assert 4 * PIXELS < size < FOOTER + 4 * PIXELS * 1.1


@pytest.mark.parametrize(("rows", "sizes"), [(128, [128] * 4), (100, [100, 28] * 4)])
def test_batches_by_group_hold_all_rows_in_order(far_shard, rows, sizes):
    with checked_parquet(far_shard, CONVERT_AGAIN) as file:
        batches = list(batches_by_group(file, ["image_id", "image"], rows))
    assert [len(batch) for batch in batches] == sizes
    names = [name for batch in batches for name in batch["image_id"].to_pylist()]
    assert names == [f"ID_{number:03d}" for number in range(512)]
