"""Random choices that depend on a text and a seed only: the same for any order of rows and any number of workers."""

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray


def hash_texts(texts: pa.StringArray, purpose: str, seed: int) -> NDArray[np.uint64]:
    """Return a number of each text that depends on the text, the purpose and the seed only.

    xxh3-64 of the text's UTF-8 bytes, seeded with xxh3-64 of `purpose:seed`: uniform in 0 .. 2^64 - 1, and different
    purposes draw independently.
    """
    purpose_seed = xxhash.xxh3_64_intdigest(f"{purpose}:{seed}".encode())
    digest = xxhash.xxh3_64_intdigest
    encoded = texts.cast(pa.binary()).to_numpy(zero_copy_only=False)
    return np.fromiter((digest(text, purpose_seed) for text in encoded), np.uint64, len(encoded))


def smallest(image_ids: pa.StringArray, limit: int, purpose: str, seed: int) -> NDArray[np.int64]:
    """Return the indices of the `limit` ids with the smallest hashes, ascending; all of them if there are fewer.

    The choice nests: a larger limit keeps what a smaller one chose.
    """
    order = np.argsort(hash_texts(image_ids, purpose, seed), kind="stable")
    return np.sort(order[:limit])


def uniform(hashes: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Turn 64-bit hashes into numbers in [0, 1), by their upper 53 bits."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53
