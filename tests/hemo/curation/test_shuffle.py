"""Every row in one place, every part a fair sample."""

import numpy as np
import pyarrow as pa

from hemo.curation.shuffle import shuffled_parts

IDS = pa.array([f"ID_{number:05d}" for number in range(4000)])


def test_every_row_stands_in_one_part_and_parts_are_of_equal_size():
    parts = shuffled_parts(IDS, 1500, seed=0)
    assert [len(part) for part in parts] == [1334, 1333, 1333]
    assert sorted(np.concatenate(parts).tolist()) == list(range(4000))


def test_any_part_is_a_fair_sample_and_so_is_any_stretch_of_it():
    """Of ids in order, a quarter of each part comes from each quarter; four standard deviations of 1,000 draws."""
    for part in shuffled_parts(IDS, 1000, seed=0):
        np.testing.assert_allclose(np.bincount(part // 1000), 250, atol=4 * np.sqrt(1000 * 0.25 * 0.75))
        assert abs(part[:100].mean() - 2000) < 4 * 4000 / np.sqrt(12 * 100)


def test_order_is_a_function_of_ids_and_seed():
    names = [IDS.take(part).to_pylist() for part in shuffled_parts(IDS, 1000, seed=0)]
    backwards = IDS.take(np.arange(3999, -1, -1))
    assert [backwards.take(part).to_pylist() for part in shuffled_parts(backwards, 1000, seed=0)] == names
    assert [IDS.take(part).to_pylist() for part in shuffled_parts(IDS, 1000, seed=1)] != names


def test_a_part_larger_than_all_rows_is_one_part():
    assert [len(part) for part in shuffled_parts(IDS.slice(0, 3), 4096, seed=0)] == [3]
