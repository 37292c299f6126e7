"""Which image goes where: pure functions of seed, epoch and rank."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Step:
    """One worker's share of one optimiser step."""

    images: int  # of all workers together
    place: slice  # of this worker's images among them
    rows: NDArray[np.intp]  # this worker's, shape (images of this worker,)
    batch: NDArray[np.intp]  # rows of all workers together, shape (images,)


def epoch_rows(rows: int, *, seed: int, epoch: int, rank: int, workers: int, batch_size: int) -> list[Step]:
    """Return what one worker trains on in one epoch, step by step.

    Every row is seen exactly once by all workers together. The order is a function of `seed` and `epoch`; what the
    workers see together in a step does not depend on how many they are. Steps differ by one image at most, so that the
    last is not a remainder; see `smallest_share` for what batch normalisation needs.

    Args:
        rows: Images in the split.
        seed: Of the trial.
        epoch: 1-based.
        rank: This worker, 0-based.
        workers: Workers in all.
        batch_size: Images a step at most, over all workers together.

    Returns:
        The worker's share of each step.
    """
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    steps = []
    for batch in np.array_split(order, steps_an_epoch(rows, batch_size)):
        place = slice(*share(len(batch), rank, workers))
        steps.append(Step(len(batch), place, batch[place], batch))
    return steps


def steps_an_epoch(rows: int, batch_size: int) -> int:
    """Return the number of optimiser steps in which `rows` images are seen once."""
    return -(-rows // batch_size)


def smallest_share(rows: int, *, workers: int, batch_size: int) -> int:
    """Return the fewest images any worker has in any step. Batch normalisation cannot take a single one."""
    return rows // steps_an_epoch(rows, batch_size) // workers


def every_row(rows: int, *, rank: int, workers: int, batch_size: int) -> list[NDArray[np.intp]]:
    """Return the rows one worker evaluates, in batches: all workers together see every row exactly once, in order."""
    own = np.arange(*share(rows, rank, workers), dtype=np.intp)
    return [own[start : start + batch_size] for start in range(0, len(own), batch_size)]


def share(images: int, rank: int, workers: int) -> tuple[int, int]:
    """Return first and end of one worker's share; shares differ by one image at most."""
    return images * rank // workers, images * (rank + 1) // workers


def mixed_seed(*parts: int) -> int:
    """Return one seed of 63 bits that depends on each part: `(trial's seed, epoch, step)` and the like."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
