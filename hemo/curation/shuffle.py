"""Which part, and which place in it, each row gets: integers in, integers out."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hemo.curation.rows import hash_texts


def shuffled_parts(image_ids: pa.StringArray, part_rows: int, seed: int) -> list[NDArray[np.int64]]:
    """Deal rows into parts of equal size, give or take one, each a fair sample of all.

    The rows' hashes decide: ranges of them are the parts, and their order is the order within a part. So a copy needs
    two passes and no random reads: rows to the buckets of their parts, then each bucket sorted in memory.

    Args:
        image_ids: Shape (rows,), at least one.
        part_rows: Rows in a part at most.
        seed: Of the order.

    Returns:
        For each part the places of its rows in `image_ids`, in the order in which they stand in the part.
    """
    order = np.argsort(hash_texts(image_ids, "shuffle", seed), kind="stable")
    return np.array_split(order, -(-len(order) // part_rows))
