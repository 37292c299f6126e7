"""Which image goes where."""

import numpy as np
import pytest

from hemo.training.data.sampling import (
    LANES,
    derive_seed,
    epoch_blocks,
    epoch_rows,
    every_row,
    rank_range,
    shuffled_order,
    smallest_step,
    steps_an_epoch,
)


def _blocks(rows: int, rows_a_block: int = 4) -> np.ndarray:
    return np.arange(rows) // rows_a_block


def _each(
    rows: int, workers: int, batch_size: int, *, epoch: int = 1, seed: int = 3, rows_a_block: int = 4
) -> list[list[np.ndarray]]:
    """Return what each worker sees in each step."""
    told = {"seed": seed, "epoch": epoch, "workers": workers, "batch_size": batch_size}
    return [
        [step.rows for step in epoch_rows(_blocks(rows, rows_a_block), rank=rank, **told)] for rank in range(workers)
    ]


def _together(rows: int, workers: int, batch_size: int, epoch: int = 1) -> list[list[int]]:
    """Return what all workers see in each step, in rank order."""
    each = _each(rows, workers, batch_size, epoch=epoch)
    return [np.concatenate(steps).tolist() for steps in zip(*each, strict=True)]


def test_neighbours_in_the_order_come_from_every_lane_in_turn() -> None:
    """64 rows in blocks of 4 are 16 lanes of a block each: the order takes a row of every block, then again."""
    order, lane_of = shuffled_order(_blocks(64), np.random.default_rng(0))
    assert lane_of.tolist() == list(range(LANES)) * 4
    rounds = (order // 4).reshape(4, LANES)
    assert sorted(rounds[0].tolist()) == list(range(16)) != rounds[0].tolist()
    assert (rounds == rounds[0]).all()
    places = (order % 4).reshape(4, LANES)
    assert np.sort(places, axis=0).T.tolist() == [[0, 1, 2, 3]] * LANES
    assert len({tuple(column) for column in places.T.tolist()}) > 3  # rows of a block are shuffled, each block anew


def test_a_batch_mixes_many_blocks_and_the_epoch_opens_few_at_a_time() -> None:
    (steps,) = _each(12_800, 1, 64, rows_a_block=128)
    blocks = [set((rows // 128).tolist()) for rows in steps]
    assert min(len(found) for found in blocks) >= 10
    spans = [[number for number, found in enumerate(blocks) if block in found] for block in range(100)]
    open_at_once = [sum(min(span) <= number <= max(span) for span in spans) for number in range(len(blocks))]
    assert np.median(open_at_once) < 2 * LANES + 16  # 15 blocks lie across two lanes, and are needed twice


@pytest.mark.parametrize("workers", [2, 4])
def test_a_worker_reads_little_more_than_its_share_of_the_blocks(workers: int) -> None:
    each = _each(64_000, workers, 64, rows_a_block=128)
    read = [len(np.unique(np.concatenate(steps) // 128)) for steps in each]
    assert sum(read) / 500 < 1.1
    assert max(read) - min(read) < 20


@pytest.mark.parametrize("rows", [1, 5, 17])
def test_sets_smaller_than_the_lanes_are_whole_too(rows: int) -> None:
    assert sorted(row for step in _together(rows, 1, 4) for row in step) == list(range(rows))


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_a_step_is_the_same_whatever_the_number_of_workers(workers: int) -> None:
    assert _together(41, workers, 8) == _together(41, 1, 8)


def test_every_row_is_seen_once_and_no_step_is_tiny() -> None:
    steps = _together(41, 1, 8)
    assert sorted(row for step in steps for row in step) == list(range(41))
    assert [len(step) for step in steps] == [7, 7, 7, 7, 7, 6]


def test_epochs_differ_and_repeat_themselves() -> None:
    assert _together(41, 1, 8, epoch=1) != _together(41, 1, 8, epoch=2)
    assert _together(41, 1, 8, epoch=2) == _together(41, 1, 8, epoch=2)


def test_the_order_depends_on_the_seed() -> None:
    (three,), (four,) = (_each(41, 1, 8, seed=seed) for seed in (3, 4))
    assert np.concatenate(three).tolist() != np.concatenate(four).tolist()
    whole = {"epoch": 1, "rank": 0, "workers": 1, "batch_size": 2}
    orders = [[step.rows.tolist() for step in epoch_blocks(_blocks(41), seed=seed, **whole)] for seed in (3, 4)]
    assert orders[0] != orders[1]


def test_a_worker_knows_its_place_in_the_step() -> None:
    step = epoch_rows(_blocks(10), seed=0, epoch=1, rank=1, workers=3, batch_size=10)[0]
    assert (step.images, step.worker_slice) == (10, slice(3, 6))
    assert step.batch[step.worker_slice].tolist() == step.rows.tolist()
    assert sorted(step.batch) == list(range(10))


def test_evaluation_sees_every_row_once_in_order() -> None:
    shares = [np.concatenate(every_row(11, rank=rank, workers=3, batch_size=2)).tolist() for rank in range(3)]
    assert shares == [[0, 1, 2], [3, 4, 5, 6], [7, 8, 9, 10]]
    assert [len(batch) for batch in every_row(11, rank=0, workers=1, batch_size=4)] == [4, 4, 3]


def test_shares_of_fewer_images_than_workers() -> None:
    assert [rank_range(2, rank, 3) for rank in range(3)] == [(0, 0), (0, 1), (1, 2)]


def test_the_smallest_share_of_any_worker_in_any_step() -> None:
    """3 rows in twos are steps of 2 and 1; 10 rows in fours are 4, 3 and 3, of which four workers get 1, 1, 1, 0."""
    assert smallest_step(3, workers=1, batch_size=2) == 1
    assert smallest_step(10, workers=4, batch_size=4) == 0
    assert smallest_step(41, workers=3, batch_size=8) == 2  # steps of 7 and one of 6
    for rows, workers, batch_size in [(3, 1, 2), (10, 4, 4), (41, 3, 8), (17, 2, 5)]:
        shares = [
            len(step.rows)
            for rank in range(workers)
            for step in epoch_rows(_blocks(rows), seed=0, epoch=1, rank=rank, workers=workers, batch_size=batch_size)
        ]
        assert min(shares) == smallest_step(rows, workers=workers, batch_size=batch_size)


def test_steps_an_epoch() -> None:
    assert [steps_an_epoch(rows, 32) for rows in (1, 32, 33, 5856)] == [1, 1, 2, 183]


def test_mixed_seeds_depend_on_each_part() -> None:
    seeds = [derive_seed(1, 2, 3), derive_seed(1, 2, 4), derive_seed(1, 3, 2), derive_seed(0, 2, 3)]
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
