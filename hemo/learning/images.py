"""A training set's images in memory: one array a split, read straight from the Parquet buffers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hemo.curation.card import TrainingSetCard, read_card
from hemo.errors import SourceError
from hemo.shards.read import CURATE_AGAIN, checked_parquet
from hemo.shards.schema import IMAGE, ROWS_PER_GROUP
from hemo.storage import join, list_files

UNKNOWN = 255
"""Label of a row whose class nobody annotated (null in the Parquet file)."""

IDENTITY_COLUMNS = ("image_id", "patient", "pixel_format")


@dataclass(frozen=True)
class ImageSet:
    """All rows of one split. Nothing but arrays, so that it can be shared between processes without a copy."""

    images: NDArray[np.uint8]  # (rows, channels, height_px, width_px), contiguous
    labels: NDArray[np.uint8]  # (rows, classes of the set): 0, 1 or UNKNOWN
    image_id: NDArray[np.str_]  # (rows,)
    patient: NDArray[np.str_]  # (rows,); the image_id itself where the patient is not known
    pixel_format: NDArray[np.str_]  # (rows,)


@dataclass(frozen=True)
class TrialData:
    """A whole training set in memory: what every trial on it can share."""

    card: TrainingSetCard
    train: ImageSet
    val: ImageSet
    test: ImageSet | None  # None: held back, as a search does until it has chosen


def read_training_set(training_set: str) -> TrialData:
    """Read all three splits into memory.

    Args:
        training_set: Output folder of `curate`, a path or URI.

    Raises:
        SourceError: If the folder is no finished training set or a part does not fit its card.
    """
    card = read_card(training_set)
    return TrialData(card, *(read_split(training_set, split, card) for split in ("train", "val", "test")))


def read_split(training_set: str, split: str, card: TrainingSetCard) -> ImageSet:
    """Read one split into memory, one copy from Parquet buffer to array.

    Args:
        training_set: Output folder of `curate`, a path or URI.
        split: `train`, `val` or `test`.
        card: The set's card.

    Raises:
        SourceError: If pixels are not uint8, parts are missing, or an image has another size than the card says.
    """
    if card.dtype != "uint8":
        raise SourceError(f"{training_set}: images are {card.dtype}, training takes uint8; convert with `windows`")
    folder = join(training_set, split)
    parts = [join(folder, name) for name in list_files(folder) if name.endswith(".parquet")]
    rows = sum(_rows_of(part) for part in parts)
    if rows != card.splits[split].rows:
        raise SourceError(
            f"{folder} holds {rows} rows, its card says {card.splits[split].rows}; run `hemo curate` again"
        )
    images = np.empty((rows, len(card.channels), card.height_px, card.width_px), np.uint8)
    tables, start = [], 0
    for part, batch in _batches(parts, card):
        images[start : start + batch.num_rows] = _pixels(batch.column(IMAGE), images.shape[1:], part)
        tables.append(batch.drop_columns([IMAGE]))
        start += batch.num_rows
    return _image_set(images, tables, card)


def _rows_of(part: str) -> int:
    with checked_parquet(part, CURATE_AGAIN) as file:
        return int(file.metadata.num_rows)


def _batches(parts: list[str], card: TrainingSetCard) -> Iterator[tuple[str, pa.RecordBatch]]:
    columns = [IMAGE, *IDENTITY_COLUMNS, *(f"label_{name}" for name in card.classes)]
    for part in parts:
        with checked_parquet(part, CURATE_AGAIN) as file:
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                raise SourceError(f"{part} has no column {', '.join(missing)}; run `hemo curate` again")
            for batch in file.iter_batches(ROWS_PER_GROUP, columns=columns):
                yield part, batch


def _pixels(column: Any, shape: tuple[int, ...], part: str) -> NDArray[np.uint8]:
    """View a `binary` column as images of `shape` (channels, height_px, width_px), without a copy.

    An Arrow binary array is one buffer of bytes and one of int32 offsets into it.
    """
    _, offsets_buffer, bytes_buffer = column.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[column.offset : column.offset + len(column) + 1]
    size = int(np.prod(shape))
    if column.null_count or np.any(np.diff(offsets) != size):
        raise SourceError(f"{part}: an image is not {size} bytes, {shape} as its card says; run `hemo curate` again")
    return np.frombuffer(bytes_buffer, np.uint8)[offsets[0] : offsets[-1]].reshape(len(column), *shape)


def _image_set(images: NDArray[np.uint8], batches: list[pa.RecordBatch], card: TrainingSetCard) -> ImageSet:
    if not batches:
        nothing = np.empty(0, np.str_)
        return ImageSet(images, np.empty((0, len(card.classes)), np.uint8), nothing, nothing, nothing)
    table = pa.Table.from_batches(batches)
    labels = [
        table.column(f"label_{name}").fill_null(pa.scalar(UNKNOWN, pa.uint8())).to_numpy() for name in card.classes
    ]
    ids = _strings(table.column("image_id"))
    known = table.column("patient").is_valid().to_numpy()
    patient = np.where(known, _strings(table.column("patient")), ids)
    return ImageSet(
        images, np.stack(labels, axis=1).astype(np.uint8), ids, patient, _strings(table.column("pixel_format"))
    )


def _strings(column: Any) -> NDArray[np.str_]:
    """Return text as a fixed-width array: unlike an object array it is shared between processes without a copy."""
    return np.asarray(column.fill_null("").to_pylist(), dtype=np.str_)
