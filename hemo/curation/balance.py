"""Fewer rows on purpose: negatives of train, or a subset of everything."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hemo.curation.rows import hash_texts


def undersample(labels: NDArray[np.uint8], image_ids: pa.StringArray, ratio: float, seed: int) -> NDArray[np.bool_]:
    """Choose rows so that negatives are at most `ratio` times the positives.

    Which negatives stay depends on their ids and the seed only. Rows of unknown label stay.

    Args:
        labels: Of the target class, shape (rows,), 0, 1 or `NULL_LABEL`.
        image_ids: Shape (rows,).
        ratio: Negatives a positive.
        seed: Of the choice.

    Returns:
        Shape (rows,), bool: which rows stay.
    """
    negative = np.flatnonzero(labels == 0)
    wanted = round(ratio * int((labels == 1).sum()))
    stay: NDArray[np.bool_] = labels != 0
    stay[negative[smallest(image_ids.take(negative), wanted, "balance", seed)]] = True
    return stay


def smallest(image_ids: pa.StringArray, limit: int, purpose: str, seed: int) -> NDArray[np.int64]:
    """Return the places of the `limit` ids with the smallest hashes, ascending; all of them if there are fewer.

    The choice nests: a larger limit keeps what a smaller one chose.
    """
    order = np.argsort(hash_texts(image_ids, purpose, seed), kind="stable")
    return np.sort(order[:limit])
