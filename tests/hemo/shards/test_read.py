import numpy as np
import pyarrow as pa

from hemo.shards.read import images_of


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
