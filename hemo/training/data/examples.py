"""What the loop steps over: the rows of a split with their labels, and the images or features that belong to them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

UNKNOWN = 255
"""Label of a row whose class nobody annotated (null in the Parquet file)."""


class Images(Protocol):
    """The images of one split, wherever they are, or their features. They lie in blocks, each read at once."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all: (rows, channels, height_px, width_px), of features (rows, positions, features)."""
        ...

    @property
    def block_ends(self) -> NDArray[np.intp]:
        """Row after the last of each block, ascending, shape (blocks,)."""
        ...

    @property
    def is_study(self) -> NDArray[np.bool_] | None:
        """Which rows stand for a whole study, behind those of its slices, shape (rows,); None: all rows are images."""
        ...

    def batches(self, wanted: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[Any]]:
        """Yield the images of these rows, batch by batch; each batch is a new array that may be written to.

        Pixels are uint8, features float32.

        Args:
            wanted: Rows of each batch, shape (images,).

        Raises:
            SourceError: If images that are read only now are gone or damaged.
        """
        ...


@dataclass(frozen=True)
class ImageSet:
    """All rows of one split. Every array can be shared between processes without a copy."""

    images: Images
    labels: NDArray[np.uint8]  # (rows, classes of the set): 0, 1 or UNKNOWN
    image_id: NDArray[np.str_]  # (rows,)
    patient: NDArray[np.str_]  # (rows,); where none is known `study S`, `series S` or `image I`
    pixel_format: NDArray[np.str_]  # (rows,)


def strings(column: Any) -> NDArray[np.str_]:
    """Return text as a fixed-width array: unlike an object array it is shared between processes without a copy."""
    return np.asarray(column.fill_null("").to_pylist(), dtype=np.str_)


@dataclass(frozen=True)
class Examples:
    """The rows of a split with every label the task needs; images are shared with the set they come from."""

    source: ImageSet
    rows: NDArray[np.intp]  # (examples,) into the source's arrays
    labels: NDArray[np.uint8]  # (examples, classes of the task): 0 or 1; multi_class: exactly one 1 a row
    unlabelled: int  # rows without a label of the task

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.rows)

    def take(self, indices: NDArray[np.intp]) -> "Examples":
        """Return the examples at `indices`, ascending; some may be repeated."""
        return replace(self, rows=self.rows[indices], labels=self.labels[indices])

    def of_studies(self, wanted: bool) -> "Examples":
        """Return the examples that are studies, or those that are slices; of images all are slices."""
        is_study = self.source.images.is_study
        if is_study is None:
            return self if not wanted else self.take(np.empty(0, np.intp))
        kept = self.take(np.flatnonzero(is_study[self.rows] == wanted))
        return replace(kept, unlabelled=int(np.count_nonzero(is_study == wanted)) - len(kept))

    @property
    def block_of(self) -> NDArray[np.intp]:
        """Block each example is read with, ascending, shape (examples,)."""
        return np.searchsorted(self.source.images.block_ends, self.rows, side="right")


@dataclass(frozen=True)
class Splits:
    """Training, validation and test examples of one trial."""

    classes: tuple[str, ...]  # of the task, in order
    train: Examples
    val: Examples
    test: Examples | None  # None: held back
    population: NDArray[np.float64]  # (classes,), prevalence before anything was sampled, of train and validation
    curated_by: str  # class by whose label `curate` sampled train; empty: by none
    epoch: Examples  # what is trained on in each epoch: train, or with `training.balance` fewer or repeated ones
    studies: dict[str, Examples] = field(default_factory=dict)  # train, val, test, of a sequence model of slices

    @property
    def trained_on(self) -> Examples:
        """Examples of an epoch: the class weights of a loss are theirs. Of a sequence model of slices also studies."""
        return with_studies(self.epoch, self.studies.get("train"))

    @property
    def by_name(self) -> dict[str, Examples]:
        """Split -> examples, without what is held back."""
        splits = {"train": self.train, "val": self.val}
        return splits if self.test is None else {**splits, "test": self.test}


def with_studies(slices: Examples, studies: Examples | None) -> Examples:
    """Return slices and studies of one split together, in the order of their rows."""
    if studies is None:
        return slices
    rows = np.concatenate([slices.rows, studies.rows])
    order = np.argsort(rows)
    labels = np.concatenate([slices.labels, studies.labels])[order]
    return Examples(slices.source, rows[order], labels, slices.unlabelled)
