import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hemo.shards.reader import images_of
from hemo.shards.schema import ROW_SCHEMA
from hemo.shards.writer import ShardBuilder, parquet_options, rows_per_group

SHAPE = (3, 4, 4)


def row(number: int) -> dict:
    empty = {field.name: None for field in ROW_SCHEMA}
    return {
        **empty,
        "image_id": f"ID_{number}",
        "image": np.full(SHAPE, number, np.uint8),
        "height_px": 4,
        "width_px": 4,
        "frame": 0,
        "source_rows": 8,
        "source_cols": 8,
        "flags": ["blank"] if number == 1 else [],
        "pixel_digest": bytes([number] * 16),
        "source_path": f"{number}.dcm",
        "pixel_format": "i16",
    }


def shard(rows: int) -> pq.ParquetFile:
    builder = ShardBuilder()
    for number in range(rows):
        builder.add(row(number))
    assert builder.rows == rows
    return pq.ParquetFile(io.BytesIO(builder.finish({b"hemo": b"footer"})))


def test_rows_come_back_as_they_went_in():
    table = shard(3).read()
    assert table.schema.remove_metadata() == ROW_SCHEMA
    assert table["image_id"].to_pylist() == ["ID_0", "ID_1", "ID_2"]
    assert table["flags"].to_pylist() == [[], ["blank"], []]
    np.testing.assert_array_equal(images_of(table["image"], SHAPE)[:, 0, 0, 0], [0, 1, 2])


def test_the_footer_holds_what_it_was_given():
    assert shard(1).metadata.metadata[b"hemo"] == b"footer"


def test_row_groups_hold_at_most_128_rows():
    file = shard(200)
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [128, 72]


def test_pixels_have_neither_dictionary_nor_statistics():
    group = shard(1).metadata.row_group(0)
    columns = {group.column(number).path_in_schema: group.column(number) for number in range(group.num_columns)}
    assert not columns["image"].has_dictionary_page
    assert columns["image"].statistics is None
    assert columns["image"].compression == "ZSTD"
    assert columns["image_id"].statistics.max == "ID_0"


def test_pixels_are_compressed_at_level_1():
    """The level is not stored in the file, but decides its bytes."""
    assert parquet_options(ROW_SCHEMA)["compression_level"] == 1


def test_a_unit_of_rejects_is_a_shard_without_rows():
    assert shard(0).read().num_rows == 0


@pytest.mark.parametrize(("image_bytes", "rows"), [(3 * 256 * 256, 128), (3 * 1024 * 1024, 21), (1 << 30, 1)])
def test_a_row_group_of_large_images_is_shorter(image_bytes, rows):
    """64 MiB over 3 MiB an image is 21."""
    assert rows_per_group(image_bytes) == rows


def test_the_same_rows_give_the_same_bytes():
    first, second = (ShardBuilder() for _ in range(2))
    for builder in (first, second):
        builder.add(row(7))
    assert first.finish({}).equals(second.finish({}))


def test_a_row_of_another_size_is_refused_on_reading():
    with pytest.raises(ValueError, match="a row is not"):
        images_of(pa.array([b"ab", b"a"], pa.binary()), (1, 1, 2))
