"""The Parquet parts of a split: their footers, their columns without the pixels, and their pixels block by block."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hemo.curation.card import TrainingSetCard
from hemo.errors import SourceError
from hemo.shards.reader import CURATE_AGAIN, checked_parquet, images_of, read_column
from hemo.shards.schema import IMAGE
from hemo.storage import join, list_files

IDENTITY_COLUMNS = ("image_id", "patient", "pixel_format")


@dataclass(frozen=True)
class Part:
    """One file of a split, its footer read once."""

    location: str
    footer: pq.FileMetaData

    @property
    def block_rows(self) -> list[int]:
        """Rows of each block. A block is a row group: what is read and decoded at once."""
        return [self.footer.row_group(group).num_rows for group in range(self.footer.num_row_groups)]


def read_parts(training_set: str, split: str, card: TrainingSetCard) -> tuple[list[Part], pa.Table]:
    """Return the parts of a split in order, and all their rows without the pixels.

    Args:
        training_set: Output folder of `curate`, a path or URI.
        split: `train`, `val` or `test`.
        card: The set's card.

    Returns:
        Parts, and a table of `IDENTITY_COLUMNS` and a column `label_NAME` for each class of the card.

    Raises:
        SourceError: If pixels are not uint8, a part is damaged or lacks a column, or rows are missing.
    """
    if card.dtype != "uint8":
        raise SourceError(f"{training_set}: images are {card.dtype}, training takes uint8; convert with `windows`")
    folder = join(training_set, split)
    labels = [f"label_{name}" for name in card.classes]
    read = [
        _read_part(join(folder, name), [*IDENTITY_COLUMNS, *labels])
        for name in list_files(folder)
        if name.endswith(".parquet")
    ]
    rows = sum(part.footer.num_rows for part, _ in read)
    if rows != card.splits[split].rows:
        raise SourceError(
            f"{folder} holds {rows} rows, its card says {card.splits[split].rows}; run `hemo curate` again"
        )
    nothing = pa.schema([*((name, pa.string()) for name in IDENTITY_COLUMNS), *((name, pa.uint8()) for name in labels)])
    tables = [columns for _, columns in read] or [nothing.empty_table()]
    return [part for part, _ in read], pa.concat_tables(tables)


def _read_part(location: str, wanted: list[str]) -> tuple[Part, pa.Table]:
    with checked_parquet(location, CURATE_AGAIN) as file:
        missing = [name for name in (IMAGE, *wanted) if name not in file.schema_arrow.names]
        if missing:
            raise SourceError(f"{location} has no column {', '.join(missing)}; run `hemo curate` again")
        return Part(location, file.metadata), file.read(columns=wanted)


def read_pixels(part: Part, group: int, shape: Sequence[int]) -> NDArray[np.uint8]:
    """Read the images of one block; only their bytes are read, and decoded into a buffer that the array views.

    Args:
        part: Of a split.
        group: Row group of the part, 0-based.
        shape: (channels, height_px, width_px), as the card says.

    Returns:
        Read-only, shape (rows of the block, *shape).

    Raises:
        SourceError: If the part is gone or damaged, or an image is of another size.
        OSError: As the storage raises it.
    """
    column = read_column(part.location, part.footer, group, IMAGE, CURATE_AGAIN)
    channels, height_px, width_px = shape
    try:
        return images_of(column, (channels, height_px, width_px))
    except ValueError as error:
        raise SourceError(
            f"{part.location}: an image is not {np.prod(shape)} bytes, {channels} x {height_px} x {width_px} as its "
            "card says; run `hemo curate` again"
        ) from error
