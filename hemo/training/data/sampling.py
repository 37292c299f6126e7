"""Which images each worker trains on at each step, and evaluates: pure functions of seed, epoch and rank."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LANES = 16
"""Blocks that a batch mixes: more make better samples of batches, and take more memory where images are streamed."""


@dataclass(frozen=True)
class Step:
    """One worker's part of one optimiser step."""

    images: int  # of all workers together
    worker_slice: slice  # of this worker's images among them
    rows: NDArray[np.intp]  # this worker's, shape (images of this worker,)
    batch: NDArray[np.intp]  # rows of all workers together, shape (images,)


def epoch_rows(
    block_of: NDArray[np.intp], *, seed: int, epoch: int, rank: int, workers: int, batch_size: int
) -> list[Step]:
    """Return the rows one worker trains on in one epoch, step by step.

    All workers together train on every row exactly once. The order is a function of `seed`, `epoch` and the blocks; the
    images of a step do not depend on the number of workers. Steps differ by one image at most, so that the last is no
    remainder; see `smallest_step` for what batch normalisation needs. Within a step rows are sorted by lane, see
    `shuffled_order`, and a worker has neighbouring ones: it reads little more than its fraction of the blocks.

    Args:
        block_of: Block each row is read with, ascending, shape (rows,).
        seed: Of the trial.
        epoch: 1-based.
        rank: This worker, 0-based.
        workers: Workers in all.
        batch_size: Images a step at most, over all workers together.

    Returns:
        The worker's part of each step.
    """
    order, lane_of = shuffled_order(block_of, np.random.default_rng([seed, epoch]))
    steps = []
    for part in np.array_split(np.arange(len(order)), steps_an_epoch(len(order), batch_size)):
        batch = order[part[np.argsort(lane_of[part], kind="stable")]]
        worker_slice = slice(*rank_range(len(batch), rank, workers))
        steps.append(Step(len(batch), worker_slice, batch[worker_slice], batch))
    return steps


def epoch_blocks(
    block_of: NDArray[np.intp], *, seed: int, epoch: int, rank: int, workers: int, batch_size: int
) -> list[Step]:
    """Return the rows one worker trains on in one epoch as `epoch_rows` does, in whole blocks.

    Args:
        block_of: Block of each row, ascending, shape (rows,): a study, whose slices must meet the model together.
        seed: Of the trial.
        epoch: 1-based.
        rank: This worker, 0-based.
        workers: Workers in all.
        batch_size: Blocks a step at most, over all workers together.

    Returns:
        The worker's part of each step; its rows are ascending.
    """
    ends = _block_ends(block_of)
    blocks = np.arange(len(ends), dtype=np.intp)
    steps = []
    for step in epoch_rows(blocks, seed=seed, epoch=epoch, rank=rank, workers=workers, batch_size=batch_size):
        before, own = (
            rows_of_blocks(ends, part) for part in (step.batch[: step.worker_slice.start], np.sort(step.rows))
        )
        behind = rows_of_blocks(ends, step.batch[step.worker_slice.stop :])
        batch = np.concatenate([before, own, behind])
        steps.append(Step(len(batch), slice(len(before), len(before) + len(own)), own, batch))
    return steps


def _block_ends(block_of: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the row after the last of each block, ascending; of no rows there is no block."""
    return (np.flatnonzero(np.diff(block_of, append=-1)) + 1).astype(np.intp)


def rows_of_blocks(ends: NDArray[np.intp], blocks: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return all rows of some blocks, block by block.

    Args:
        ends: Row after the last of each block, ascending.
        blocks: Which, in the order wanted.
    """
    starts = np.concatenate([np.zeros(1, np.intp), ends[:-1]])
    rows = [np.arange(starts[block], ends[block], dtype=np.intp) for block in blocks]
    return np.concatenate([np.empty(0, np.intp), *rows])


def shuffled_order(
    block_of: NDArray[np.intp], generator: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return all rows in a random order that mixes blocks while few are open at a time.

    Blocks are shuffled, and rows within their block. The list is cut into `LANES` runs of equal length, and one row is
    taken of each in turn: neighbours in the order are from as many blocks as there are lanes, and few more are open at
    a time. The parts of a training set are random samples of it, so its blocks are too.

    Args:
        block_of: Block each row is read with, ascending, shape (rows,).
        generator: Determines the order.

    Returns:
        Rows in order, and the lane of each; both of shape (rows,).
    """
    rows = len(block_of)
    rank_of_block = generator.permutation(int(block_of[-1]) + 1 if rows else 0)
    by_block = np.lexsort((generator.random(rows), rank_of_block[block_of]))
    lanes = np.array_split(np.arange(rows), LANES)
    lane_of = np.repeat(np.arange(LANES), [len(lane) for lane in lanes])
    turn = np.concatenate([np.arange(len(lane)) for lane in lanes])
    interleaved = np.lexsort((lane_of, turn))
    return by_block[interleaved], lane_of[interleaved]


def steps_an_epoch(rows: int, batch_size: int) -> int:
    """Return the number of optimiser steps in which `rows` images are seen once."""
    return -(-rows // batch_size)


def smallest_step(rows: int, *, workers: int, batch_size: int) -> int:
    """Return the fewest images any worker has in any step; batch normalisation needs two."""
    return rows // steps_an_epoch(rows, batch_size) // workers


def every_row(rows: int, *, rank: int, workers: int, batch_size: int) -> list[NDArray[np.intp]]:
    """Return the rows one worker evaluates, in batches: all workers together see every row exactly once, in order."""
    own = np.arange(*rank_range(rows, rank, workers), dtype=np.intp)
    return [own[start : start + batch_size] for start in range(0, len(own), batch_size)]


def every_block(block_of: NDArray[np.intp], *, rank: int, workers: int, batch_size: int) -> list[NDArray[np.intp]]:
    """Return the rows one worker evaluates as `every_row` does, in whole blocks: `batch_size` of them at once."""
    ends = _block_ends(block_of)
    batches = every_row(len(ends), rank=rank, workers=workers, batch_size=batch_size)
    return [rows_of_blocks(ends, blocks) for blocks in batches]


def rank_range(images: int, rank: int, workers: int) -> tuple[int, int]:
    """Return start and end of one worker's range; ranges differ by one image at most."""
    return images * rank // workers, images * (rank + 1) // workers


def derive_seed(*parts: int) -> int:
    """Return one seed of 63 bits that depends on each part: `(trial's seed, epoch, step)` and the like."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
