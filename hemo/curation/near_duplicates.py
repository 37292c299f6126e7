"""Audit images of different patients that are nearly the same: by the cosine of their embeddings, not by pixels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hemo.config.curate import SPLITS
from hemo.curation.labelled_index import Rows, has_flag, text_column
from hemo.curation.leak_audit import UNLINKABLE
from hemo.errors import ConfigError
from hemo.shards.embeddings import read_card, read_embeddings
from hemo.stats.similarity import most_similar, similar_blocks, unit_vectors

LISTED = 100_000
"""Pairs in the table at most: of more, nobody looks at those that are less alike."""

UNUSED = len(SPLITS)
"""In the place of a split: of an image that is in none."""

_EXAMPLES = 5


def vectors_of(embeddings: str, shards: str, conversion: str, index: pa.Table) -> NDArray[np.float32]:
    """Return the vector of each image of a conversion.

    Args:
        embeddings: Output folder of `embed`.
        shards: Output folder of `convert`, for the error.
        conversion: Digest of its card.
        index: Its index, shape (rows,).

    Returns:
        Shape (rows, dimension), in the order of the index.

    Raises:
        SourceError: If the folder holds no finished embeddings, or is damaged.
        ConfigError: If they are of other images.
    """
    if read_card(embeddings).inputs.get("images") != conversion:
        raise ConfigError(
            f"embeddings: {embeddings} holds vectors of other images than {shards}; run `hemo embed --source {shards}`"
        )
    ids, vectors = read_embeddings(embeddings)
    rows = pc.index_in(text_column(index, "image_id"), value_set=text_column(ids, "image_id"))
    aligned: NDArray[np.float32] = vectors[rows.to_numpy()]
    return aligned


@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """Pairs of images of different patients with a high cosine."""

    table: pa.Table  # of `LISTED` at most, see `find_near_duplicates`
    pairs: int
    images: int
    pairs_in_two_splits: int


def find_near_duplicates(
    rows: Rows,
    placed: tuple[NDArray[np.int64], NDArray[np.int8]],
    pixels: NDArray[np.int64],
    vectors: NDArray[np.float32],
    at_least: float,
    *,
    listed: int = LISTED,
) -> NearDuplicates:
    """Count the pairs of images of different patients with a high cosine, and list those with the highest.

    Images of equal pixels are left out: `equal_pixel_table` lists them. So are images flagged `UNLINKABLE`: black
    slices are alike, and say nothing about a patient.

    Args:
        rows: All images.
        placed: Rows that are used, shape (chosen,), and the split of each.
        pixels: `equal_pixels`, shape (rows,).
        vectors: Of each image, shape (rows, dimension).
        at_least: Cosine, after the mean of all vectors is subtracted.
        listed: Pairs at most; all are counted.

    Returns:
        With a table, the highest first: `cosine`, and for both images `image_id`, `patient` and `split` (null: not
        used), with `_1` and `_2`.
    """
    chosen, splits = placed
    split = np.full(len(pixels), UNUSED, np.int8)
    split[chosen] = splits
    linkable = np.flatnonzero(~has_flag(rows.index, UNLINKABLE))
    best, highest = np.empty((0, 2), np.intp), np.empty(0, np.float32)
    count, in_two_splits, seen = 0, 0, np.zeros(len(pixels), bool)
    for found, values in similar_blocks(unit_vectors(vectors, linkable), rows.patient[linkable], at_least):
        left, right = linkable[found].T
        differ = (pixels[left] != pixels[right]) | (pixels[left] < 0)
        pairs, cosines = np.stack([left, right], axis=1)[differ], values[differ]
        count, seen[pairs] = count + len(pairs), True
        used = (split[pairs] != UNUSED).all(axis=1)
        in_two_splits += int((used & (split[pairs[:, 0]] != split[pairs[:, 1]])).sum())
        best, highest = most_similar(np.concatenate([best, pairs]), np.concatenate([highest, cosines]), listed)
    return NearDuplicates(_table(rows, split, best, highest), count, int(seen.sum()), in_two_splits)


def _table(rows: Rows, split: NDArray[np.int8], pairs: NDArray[np.intp], cosines: NDArray[np.float32]) -> pa.Table:
    """Return pairs of rows as `find_near_duplicates` lists them; `split` is that of each row."""
    names = pa.array([*SPLITS, None], pa.string()).take(pa.array(split))
    columns: dict[str, Any] = {"cosine": pa.array(cosines, pa.float32())}
    for side in (0, 1):
        members = pa.array(pairs[:, side])
        for name, values in (
            ("image_id", text_column(rows.index, "image_id")),
            ("patient", text_column(rows.index, "patient")),
            ("split", names),
        ):
            columns[f"{name}_{side + 1}"] = values.take(members)
    return pa.table(columns)


def near_duplicate_findings(found: NearDuplicates, at_least: float) -> dict[str, Any]:
    """Return the counts and some examples, for the card.

    Args:
        found: Of `find_near_duplicates`.
        at_least: Cosine.
    """
    shown = found.table.slice(0, _EXAMPLES).to_pylist()
    return {
        "near_duplicates": {
            "cosine": at_least,
            "pairs": found.pairs,
            "images": found.images,
            "pairs_in_two_splits": found.pairs_in_two_splits,
            "listed": len(found.table),
        },
        "near_duplicates_examples": [
            f"{pair['image_id_1']} of {pair['patient_1']} ~ {pair['image_id_2']} of {pair['patient_2']}"
            for pair in shown
        ],
    }
