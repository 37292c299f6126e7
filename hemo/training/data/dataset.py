"""A training set as the loop sees it: labels and identities in memory, pixels in memory or read while training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hemo.curation.card import TrainingSetCard, read_card
from hemo.training.data.parts import read_parts
from hemo.training.data.streaming import StreamedImages

UNKNOWN = 255
"""Label of a row whose class nobody annotated (null in the Parquet file)."""


class Images(Protocol):
    """The images of one split, wherever they are. They lie in blocks, each read at once."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all: (rows, channels, height_px, width_px)."""
        ...

    @property
    def block_ends(self) -> NDArray[np.intp]:
        """Row after the last of each block, ascending, shape (blocks,)."""
        ...

    def batches(self, wanted: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[np.uint8]]:
        """Yield the images of these rows, batch by batch; each batch is a new array that may be written to.

        Args:
            wanted: Rows of each batch, shape (images,).

        Raises:
            SourceError: If images that are read only now are gone or damaged.
        """
        ...


@dataclass(frozen=True)
class ResidentImages:
    """Images in one array, which processes can share without a copy."""

    pixels: NDArray[np.uint8]  # (rows, channels, height_px, width_px), contiguous
    block_ends: NDArray[np.intp]  # (blocks,), see `Images`: the order of training must not depend on the kind of feed

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all: (rows, channels, height_px, width_px)."""
        return self.pixels.shape

    def batches(self, wanted: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[np.uint8]]:
        """Yield the images of these rows, batch by batch."""
        for rows in wanted:
            yield self.pixels[rows]


@dataclass(frozen=True)
class ImageSet:
    """All rows of one split. Every array can be shared between processes without a copy."""

    images: Images
    labels: NDArray[np.uint8]  # (rows, classes of the set): 0, 1 or UNKNOWN
    image_id: NDArray[np.str_]  # (rows,)
    patient: NDArray[np.str_]  # (rows,); the image_id itself where the patient is not known
    pixel_format: NDArray[np.str_]  # (rows,)


@dataclass(frozen=True)
class TrialData:
    """A whole training set: what every trial on it can share."""

    card: TrainingSetCard
    train: ImageSet
    val: ImageSet
    test: ImageSet | None  # None: held back, as a search does until it has chosen


def read_training_set(training_set: str, *, streaming: bool = False) -> TrialData:
    """Read all three splits.

    Args:
        training_set: Output folder of `curate`, a path or URI.
        streaming: Leave the pixels where they are, to be read batch by batch; else they are read into memory.

    Raises:
        SourceError: If the folder is no finished training set or a part does not fit its card.
    """
    card = read_card(training_set)
    splits = (read_split(training_set, split, card, streaming=streaming) for split in ("train", "val", "test"))
    return TrialData(card, *splits)


def read_split(training_set: str, split: str, card: TrainingSetCard, *, streaming: bool = False) -> ImageSet:
    """Read one split.

    Args:
        training_set: Output folder of `curate`, a path or URI.
        split: `train`, `val` or `test`.
        card: The set's card.
        streaming: Leave the pixels where they are.

    Raises:
        SourceError: If pixels are not uint8, parts are missing or damaged, or an image has another size than the card
            says; with `streaming`, an image's bytes are looked at only when they are read.
    """
    parts, rows = read_parts(training_set, split, card)
    streamed = StreamedImages(tuple(parts), (len(card.channels), card.height_px, card.width_px))
    images: Images = streamed if streaming else ResidentImages(streamed.read_all(), streamed.block_ends)
    labels = [rows.column(f"label_{name}").fill_null(pa.scalar(UNKNOWN, pa.uint8())) for name in card.classes]
    image_id = _strings(rows.column("image_id"))
    known = rows.column("patient").is_valid().to_numpy()
    return ImageSet(
        images=images,
        labels=np.stack([column.to_numpy() for column in labels], axis=1).astype(np.uint8),
        image_id=image_id,
        patient=np.where(known, _strings(rows.column("patient")), image_id),
        pixel_format=_strings(rows.column("pixel_format")),
    )


def _strings(column: Any) -> NDArray[np.str_]:
    """Return text as a fixed-width array: unlike an object array it is shared between processes without a copy."""
    return np.asarray(column.fill_null("").to_pylist(), dtype=np.str_)
