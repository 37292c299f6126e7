"""Another split of the images of a training set: a card and a list of rows; no image is copied.

`card.json` is as of a training set, and its `base` is the training set that has the images. `rows.parquet` has the
columns `split`, `row` (of the base's images: train, then val, then test) and `label_NAME`.
"""

import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hemo.curation.card import BaseSet, TrainingSetCard, read_card
from hemo.errors import ConfigError, SourceError
from hemo.shards.reader import checked_parquet
from hemo.storage import join, write_bytes, write_json

ROWS = "rows.parquet"

REMEDY = "remove the folder and run the job that made it again"


def write_resplit(folder: str, card: TrainingSetCard, rows: pa.Table) -> None:
    """Write rows, then the card.

    Args:
        folder: A path or URI.
        card: With `base`, and in `splits` the counts of each split of `rows`.
        rows: `split`, `row` and `label_NAME` of each class, in any order.
    """
    sink = io.BytesIO()
    ordered = rows.sort_by([("split", "ascending"), ("row", "ascending")])
    pq.write_table(ordered, sink, compression="zstd", write_page_checksum=True)
    write_bytes(join(folder, ROWS), sink.getvalue())
    write_json(join(folder, "card.json"), card.model_dump(mode="json"))


def read_resplit(folder: str, split: str, card: TrainingSetCard) -> pa.Table:
    """Return `row` and `label_NAME` of the images of one split, by ascending row.

    Raises:
        SourceError: If the list is missing or damaged, or its rows are not as many as the card says.
    """
    try:
        with checked_parquet(join(folder, ROWS), REMEDY) as file:
            rows = file.read()
    except FileNotFoundError as error:
        raise SourceError(f"{folder} has no {ROWS}; {REMEDY}") from error
    chosen = rows.filter(pc.equal(rows["split"], pa.scalar(split))).drop_columns(["split"])
    if len(chosen) != card.splits[split].rows or (np.diff(chosen["row"].to_numpy()) <= 0).any():
        raise SourceError(f"{join(folder, ROWS)} is not the list that its card describes; {REMEDY}")
    return chosen


def require_own_images(folder: str, base: BaseSet | None, field: str) -> None:
    """Refuse another split where the images themselves are needed, in a folder of their own.

    Args:
        folder: The training set.
        base: Of its card.
        field: Of the job's config, for the error.

    Raises:
        ConfigError: With the folder that has the images.
    """
    if base is not None:
        raise ConfigError(
            f"{field}: {folder} is another split of the images of {base.location} and has none itself; give that one"
        )


def read_base_card(folder: str, card: TrainingSetCard) -> TrainingSetCard:
    """Return the card of the training set that has the images.

    Raises:
        SourceError: If it is gone, or is another one by now.
    """
    assert card.base is not None
    base = read_card(card.base.location)
    if base.digest != card.base.digest:
        raise SourceError(
            f"{folder} splits training set {card.base.digest}, and {card.base.location} holds {base.digest} now; "
            f"{REMEDY}"
        )
    return base
