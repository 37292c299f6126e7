import numpy as np
import pyarrow as pa
import pytest

from hemo.errors import SourceError
from hemo.shards.read import CONVERT_AGAIN, checked_parquet, damage_told, images_of
from hemo.shards.schema import ROW_SCHEMA
from hemo.shards.write import ShardBuilder


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


def test_bytes_that_changed_on_disk_are_told_not_trusted(tmp_path):
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
    with pytest.raises(SourceError, match=complaint), checked_parquet(str(shard), CONVERT_AGAIN):
        pass


def test_too_little_memory_is_no_damage():
    with pytest.raises(MemoryError, match="malloc of size 64 failed"), damage_told("part.parquet", CONVERT_AGAIN):
        raise pa.ArrowMemoryError("malloc of size 64 failed")
