"""Audit images of different patients that are nearly the same: by the cosine of their embeddings, not by pixels."""

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
from hemo.stats.similarity import similar_pairs, unit_vectors

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


def near_duplicate_table(
    rows: Rows,
    placed: tuple[NDArray[np.int64], NDArray[np.int8]],
    pixels: NDArray[np.int64],
    vectors: NDArray[np.float32],
    at_least: float,
) -> pa.Table:
    """List the pairs of images of different patients with a high cosine, the highest first.

    Images of equal pixels are left out: `equal_pixel_table` lists them. So are images flagged `UNLINKABLE`: black
    slices are alike, and say nothing about a patient.

    Args:
        rows: All images.
        placed: Rows that are used, shape (chosen,), and the split of each.
        pixels: `equal_pixels`, shape (rows,).
        vectors: Of each image, shape (rows, dimension).
        at_least: Cosine, after the mean of all vectors is subtracted.

    Returns:
        Columns `cosine`, and for both images `image_id`, `patient` and `split` (null: not used), with `_1` and `_2`.
    """
    linkable = np.flatnonzero(~has_flag(rows.index, UNLINKABLE))
    pairs, cosines = similar_pairs(unit_vectors(vectors, linkable), rows.patient[linkable], at_least)
    pairs = linkable[pairs]
    equal = (pixels[pairs[:, 0]] == pixels[pairs[:, 1]]) & (pixels[pairs[:, 0]] >= 0)
    pairs, cosines = pairs[~equal], cosines[~equal]
    order = np.argsort(-cosines, kind="stable")
    chosen, splits = placed
    numbers = np.full(len(pixels), len(SPLITS), np.int8)
    numbers[chosen] = splits
    names = pa.array([*SPLITS, None], pa.string()).take(pa.array(numbers))
    columns: dict[str, Any] = {"cosine": pa.array(cosines[order], pa.float32())}
    for side in (0, 1):
        members = pa.array(pairs[order, side])
        for name, values in (
            ("image_id", text_column(rows.index, "image_id")),
            ("patient", text_column(rows.index, "patient")),
            ("split", names),
        ):
            columns[f"{name}_{side + 1}"] = values.take(members)
    return pa.table(columns)


def near_duplicate_findings(table: pa.Table, at_least: float) -> dict[str, Any]:
    """Return the counts of a table of pairs, for the card.

    Args:
        table: As `near_duplicate_table` returns it.
        at_least: Cosine.
    """
    apart = pc.fill_null(pc.not_equal(table["split_1"], table["split_2"]), fill_value=False)
    images = pa.chunked_array([*table["image_id_1"].chunks, *table["image_id_2"].chunks], pa.string())
    shown = table.slice(0, _EXAMPLES).to_pylist()
    return {
        "near_duplicates": {
            "cosine": at_least,
            "pairs": len(table),
            "images": len(images.unique()),
            "pairs_in_two_splits": int(pc.sum(apart).as_py() or 0),
        },
        "near_duplicates_examples": [
            f"{pair['image_id_1']} of {pair['patient_1']} ~ {pair['image_id_2']} of {pair['patient_2']}"
            for pair in shown
        ],
    }
