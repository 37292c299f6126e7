"""Embeddings in a folder: parts of vectors and ids, and the card that is written when all parts are there."""

from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from hemo.config.types import Config, load_card
from hemo.errors import SourceError
from hemo.shards.reader import existing_parquet
from hemo.storage import join, list_files

EMBEDDINGS_SCHEMA_VERSION = 2
"""2: classes, and a column of their probabilities."""

PARTS = "embeddings"
"""Folder of the parts within that of the card."""

VECTOR = "embedding"
"""Column of the vectors: a list of `dimension` numbers."""

PROBABILITIES = "probabilities"
"""Column of the calibrated probabilities of the card's classes, a list of float32; there if it has any."""

EMBED_AGAIN = "remove it and run `hemo embed` again: it makes that one again"


class EmbeddingsCard(Config):
    """`card.json`: what the vectors are of, and what made them."""

    schema_version: int = EMBEDDINGS_SCHEMA_VERSION
    source: str = Field(description="where the images were, for information")
    inputs: dict[str, Any] = Field(
        description="what decides the vectors: images, weights, pooling, dtype, kind of device"
    )
    backbone: str
    pooling: Literal["gap", "flatten"] = Field(
        description="`gap`: mean over positions; `flatten`: all positions, one after the other"
    )
    channels: tuple[str, ...] = Field(description="of the images")
    height_px: int = Field(description="of the stored images")
    width_px: int
    side_px: int = Field(description="to which the encoder reduces them; 0: to nothing less")
    mean: tuple[float, ...] = Field(description="by channel: input = (value / 255 - mean) / std")
    std: tuple[float, ...]
    classes: tuple[str, ...] = Field((), description="of `probabilities`, in order; none: the encoder has no head")
    trained_on: str = Field(
        "",
        description="digest of the training set of the checkpoint; empty: there is none, or it is not known",
    )
    dimension: int = Field(description="numbers in a vector")
    dtype: Literal["float32", "float16"] = Field(description="of the stored vectors")
    rows: int
    parts: int


def part_name(number: int) -> str:
    """Return the name of a unit's part within the folder of the card."""
    return f"{PARTS}/part-{number:06d}.parquet"


def rows_of_part(folder: str, number: int) -> int:
    """Return how many images a unit's part has.

    Raises:
        SourceError: If it is missing or damaged.
    """
    with existing_parquet(join(folder, part_name(number)), EMBED_AGAIN) as file:
        return int(file.metadata.num_rows)


def read_card(folder: str) -> EmbeddingsCard:
    """Return the card of embeddings.

    Raises:
        SourceError: If the folder holds no finished embeddings, or of another version.
    """
    return load_card(folder, EmbeddingsCard, stage="set of embeddings", job="embed")


def read_embeddings(folder: str) -> tuple[pa.Table, NDArray[np.float32]]:
    """Read all embeddings into memory.

    Args:
        folder: Output folder of `embed`, a path or URI.

    Returns:
        Ids, a row an image in the order of the parts, and the vectors, shape (images, dimension).

    Raises:
        SourceError: If the folder holds no finished embeddings, or a part is missing or damaged.
    """
    ids, vectors = _read_parts(folder, read_card(folder))
    return ids.drop_columns([PROBABILITIES] if PROBABILITIES in ids.column_names else []), vectors


def read_sequence_inputs(folder: str) -> tuple[pa.Table, NDArray[np.float32]]:
    """Read what a sequence model takes of each slice.

    Args:
        folder: Output folder of `embed`, a path or URI.

    Returns:
        Ids as of `read_embeddings`, and each vector with the probabilities of the card's classes behind it, shape
        (images, dimension + classes).

    Raises:
        SourceError: As `read_embeddings`.
    """
    card = read_card(folder)
    ids, vectors = _read_parts(folder, card)
    if not card.classes:
        return ids, vectors
    values = chunk_vectors(ids[PROBABILITIES].combine_chunks(), len(card.classes))
    return ids.drop_columns([PROBABILITIES]), np.concatenate([vectors, values], axis=1)


def _read_parts(folder: str, card: EmbeddingsCard) -> tuple[pa.Table, NDArray[np.float32]]:
    """Return all columns but the vectors, and the vectors."""
    parts = [name for name in list_files(join(folder, PARTS)) if name.endswith(".parquet")]
    ids: list[pa.Table] = []
    vectors = [np.empty((0, card.dimension), np.float32)]
    for name in parts:
        with existing_parquet(join(folder, PARTS, name), EMBED_AGAIN) as file:
            table = file.read()
        ids.append(table.drop_columns([VECTOR]))
        vectors += [chunk_vectors(chunk, card.dimension) for chunk in table[VECTOR].chunks]
    rows = sum(len(table) for table in ids)
    if rows != card.rows:
        raise SourceError(
            f"{folder}: the parts have {rows:,} rows, the card says {card.rows:,}; remove the folder and run `hemo "
            "embed` again"
        )
    return pa.concat_tables(ids).combine_chunks(), np.concatenate(vectors)


def chunk_vectors(chunk: pa.FixedSizeListArray, dimension: int) -> NDArray[np.float32]:
    """Return a chunk of a column of vectors as an array, shape (rows, dimension)."""
    values = chunk.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values, np.float32).reshape(len(chunk), dimension)
