"""Cosines after the mean is subtracted, nearest rows and similar pairs, worked out by hand."""

import tracemalloc

import numpy as np
import pytest

from hemo.stats import similarity
from hemo.stats.similarity import most_similar, nearest_rows, similar_blocks, unit_vectors

CROSS = np.array([[11, 10], [9, 10], [10, 12], [10, 8], [12, 12], [8, 8]], np.float32)
"""Around their mean, (10, 10): right, left, up, down, and two diagonals."""


def test_lengths_are_one_around_the_mean() -> None:
    half = np.sqrt(0.5)
    expected = [[1, 0], [-1, 0], [0, 1], [0, -1], [half, half], [-half, -half]]
    np.testing.assert_allclose(unit_vectors(CROSS), expected, atol=1e-6)


def test_only_wanted_rows_around_the_mean_of_all() -> None:
    half = np.sqrt(0.5)
    np.testing.assert_allclose(unit_vectors(CROSS, np.array([5, 2])), [[-half, -half], [0, 1]], atol=1e-6)


def test_memory_is_that_of_the_result_and_a_block() -> None:
    vectors = np.random.default_rng(0).random((40_000, 128), np.float32)
    for rows in (None, np.arange(1, 40_000)):
        tracemalloc.start()
        unit_vectors(vectors, rows)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1.5 * vectors.nbytes


def test_the_mean_itself_is_similar_to_nothing() -> None:
    units = unit_vectors(np.array([[1, 1], [3, 3], [2, 2]], np.float32))
    np.testing.assert_array_equal(units[2], [0, 0])
    assert not np.isnan(units).any()


def test_the_nearest_come_first_and_equal_ones_by_number() -> None:
    """Of `right` (1, 0): the upper diagonal at 45 degrees, then up and down at 90, which are equal."""
    rows, cosines = nearest_rows(unit_vectors(CROSS), 0, 3)
    assert rows.tolist() == [4, 2, 3]
    np.testing.assert_allclose(cosines, [np.sqrt(0.5), 0, 0], atol=1e-6)
    assert len(nearest_rows(unit_vectors(CROSS), 0, 99)[0]) == 5


@pytest.mark.parametrize("block_rows", [1, 2, 4, 2048])
def test_pairs_are_of_different_groups_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch, block_rows: int) -> None:
    """Of 0.7 and above: the diagonals with the arms beside them; (0, 4) are of one group."""
    monkeypatch.setattr(similarity, "BLOCK_ROWS", block_rows)
    blocks = list(similar_blocks(unit_vectors(CROSS), np.array(["a", "b", "c", "d", "a", "e"]), 0.7))
    pairs, cosines = (np.concatenate(values) for values in zip(*blocks, strict=True))
    order = np.lexsort(pairs.T[::-1])
    pairs, cosines = pairs[order], cosines[order]
    assert pairs.tolist() == [[1, 5], [2, 4], [3, 5]]
    np.testing.assert_allclose(cosines, [np.sqrt(0.5)] * 3, atol=1e-6)


def test_no_pairs_are_no_blocks() -> None:
    assert list(similar_blocks(unit_vectors(CROSS), np.arange(6), 1.1)) == []


def test_the_most_similar_come_first_and_equal_ones_by_number() -> None:
    pairs, cosines = most_similar(np.array([[3, 4], [0, 5], [0, 2], [1, 2]]), np.array([0.5, 0.25, 0.5, 1.0]), 3)
    assert pairs.tolist() == [[1, 2], [0, 2], [3, 4]]
    assert cosines.tolist() == [1.0, 0.5, 0.5]
