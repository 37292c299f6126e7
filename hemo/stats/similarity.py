"""Cosine similarity of vectors: the nearest of one, and all pairs above a threshold; exact, block by block."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 2048
"""Rows whose similarities are computed at once: 2,048 x 2,048 float32 are 17 MB."""


def unit_vectors(vectors: NDArray[np.floating], rows: NDArray[np.integer] | None = None) -> NDArray[np.float32]:
    """Return vectors minus their mean, each of length 1: their products are cosines.

    Images of one kind share most of their features: without that half of all pairs of chest X-rays have a cosine above
    0.7, see benchmarks/results/2026-11-27-embeddings.md. A vector that is the mean stays 0, and is similar to nothing.
    Takes no more memory than the result and a block in float64.

    Args:
        vectors: (rows, dimension), finite.
        rows: Numbers of those that are wanted, (wanted,); None: all. The mean is of all.

    Returns:
        (wanted, dimension).
    """
    wanted = np.arange(len(vectors)) if rows is None else rows
    mean = vectors.mean(axis=0, dtype=np.float64)
    units = np.empty((len(wanted), vectors.shape[1]), np.float32)
    for first in range(0, len(wanted), BLOCK_ROWS):
        centred = vectors[wanted[first : first + BLOCK_ROWS]] - mean
        lengths = np.linalg.norm(centred, axis=1, keepdims=True)
        units[first : first + BLOCK_ROWS] = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 0)
    return units


def nearest_rows(units: NDArray[np.float32], row: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the other rows with the highest cosine to one, highest first, equal ones by number; and the cosines.

    Args:
        units: (rows, dimension), of `unit_vectors`.
        row: The one.
        count: At most so many.
    """
    cosines = units @ units[row]
    others = np.delete(np.arange(len(units)), row)
    order = others[np.argsort(-cosines[others], kind="stable")][:count]
    return order, cosines[order]


def similar_blocks(
    units: NDArray[np.float32], groups: NDArray[np.generic], at_least: float
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Yield all pairs of rows of different groups whose cosine reaches a threshold, block by block.

    Args:
        units: (rows, dimension), of `unit_vectors`.
        groups: (rows,), such as patients.
        at_least: Cosine.

    Yields:
        Pairs of row numbers, the lower first, shape (pairs, 2), at least one; and their cosines.
    """
    starts = range(0, len(units), BLOCK_ROWS)
    for first in starts:
        rows = slice(first, first + BLOCK_ROWS)
        for second in starts[first // BLOCK_ROWS :]:
            columns = slice(second, second + BLOCK_ROWS)
            cosines = units[rows] @ units[columns].T
            wanted = (cosines >= at_least) & (groups[rows, None] != groups[None, columns])
            if first == second:
                wanted = np.triu(wanted, k=1)
            if wanted.any():
                yield np.argwhere(wanted) + np.array([first, second]), cosines[wanted]


def most_similar(
    pairs: NDArray[np.intp], cosines: NDArray[np.float32], count: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the pairs with the highest cosine, so many at most, highest first, equal ones by number; and the cosines.

    Args:
        pairs: Of row numbers, (pairs, 2).
        cosines: (pairs,).
        count: At most so many.
    """
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -cosines))[:count]
    return pairs[order], cosines[order]
