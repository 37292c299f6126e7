"""Stored images that a checkpoint can be asked about, read a few at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hemo.digest import differences
from hemo.errors import ConfigError, SourceError
from hemo.learning.checkpoint import CheckpointCard
from hemo.shards.reader import checked_parquet, images_of
from hemo.shards.schema import IMAGE, ROWS_PER_GROUP
from hemo.storage import exists, join, list_files, read_json

ELSEWHERE = ("corpus", "key_fingerprint", "patient_pattern", "neighbours")
"""What may differ between images that are made alike; neighbours show in the channels."""


@dataclass(frozen=True)
class StoredImages:
    """Where images of one kind lie."""

    folder: str  # of Parquet files
    classes: tuple[str, ...]  # that have a column `label_NAME`; none in a conversion


def find_images(folder: str, card: CheckpointCard, split: str) -> StoredImages:
    """Return where a checkpoint's images lie in a conversion, or in a split of a training set.

    Args:
        folder: Output folder of `convert` or `curate`.
        card: Of the checkpoint: which images it takes.
        split: `train`, `val` or `test`, of a training set.

    Raises:
        SourceError: If the folder is neither.
        ConfigError: If its images are made otherwise than the checkpoint's.
    """
    place = join(folder, "card.json")
    content = read_json(place) if exists(place) else {}
    if not isinstance(content, dict) or not {"channels", "image"} <= set(content):
        raise SourceError(f"{folder} holds no images; give an output folder of `hemo convert` or `hemo curate`")
    require_same_images(folder, content, card)
    if "splits" in content:
        return StoredImages(join(folder, split), tuple(content["classes"]))
    return StoredImages(join(folder, "shards"), ())


def first_images(folder: str, card: CheckpointCard, count: int) -> NDArray[np.uint8]:
    """Return the first images of a conversion, or of a training set's test split.

    Args:
        folder: Output folder of `convert` or `curate`.
        card: Of the checkpoint: which images it takes.
        count: How many at most.

    Returns:
        Array (images, channels, height_px, width_px).

    Raises:
        SourceError: If the folder is neither, or is empty.
        ConfigError: If its images are made otherwise than the checkpoint's.
    """
    stored = find_images(folder, card, "test")
    batches = (images for _, images in stored_batches(stored.folder, card, [], count))
    found = list(islice((image for images in batches for image in images), count))
    if not found:
        raise SourceError(f"{stored.folder} has no images; give a folder that has some")
    return np.stack(found)


def stored_batches(
    folder: str, card: CheckpointCard, columns: Sequence[str], rows: int = ROWS_PER_GROUP
) -> Iterator[tuple[pa.RecordBatch, NDArray[np.uint8]]]:
    """Yield rows of the Parquet files in a folder, in order.

    Args:
        folder: Of shards, or of a split.
        card: Of the checkpoint: the shape of an image.
        columns: Wanted beside the images.
        rows: At once, at most.

    Yields:
        These columns, and the images: (rows, channels, height_px, width_px).
    """
    shape = (len(card.channels), card.height_px, card.width_px)
    for name in list_files(folder):
        if name.endswith(".parquet"):
            with checked_parquet(join(folder, name), "make the folder anew") as file:
                for batch in file.iter_batches(min(rows, ROWS_PER_GROUP), columns=[*columns, IMAGE]):
                    yield batch.drop_columns([IMAGE]), images_of(batch[IMAGE], shape)


def require_same_images(folder: str, stored: dict[str, Any], card: CheckpointCard) -> None:
    """Refuse images made otherwise than those the checkpoint was trained on.

    Args:
        folder: Where they lie.
        stored: Content of its card: `channels`, `height_px`, `width_px` and `image`.
        card: Of the checkpoint.

    Raises:
        ConfigError: With what differs.
    """
    outer = ("channels", "height_px", "width_px")
    there = {**_settings(stored["image"]), **{name: stored.get(name) for name in outer}}
    here = {**_settings(card.image), **card.model_dump(mode="json", include=set(outer))}
    differing = differences(there, here)
    if differing:
        raise ConfigError(f"images: {folder} holds other images than the checkpoint was trained on ({differing})")


def _settings(image: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in image.items() if name not in ELSEWHERE}
