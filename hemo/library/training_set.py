"""A training set as an object: card and counts, and its splits as torch datasets."""

from dataclasses import replace
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from hemo.config.curate import SPLITS
from hemo.curation.card import TrainingSetCard, read_card
from hemo.errors import ConfigError
from hemo.library.notebook import card_html, contact_sheet, picture_html
from hemo.storage import absolute
from hemo.training.data.dataset import read_split
from hemo.training.data.examples import UNKNOWN, ImageSet

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image as Picture

SHOWN_IN_NOTEBOOKS = 8


class SplitDataset(Dataset[tuple[Tensor, Tensor]]):
    """One split as a map-style torch dataset of (image, labels), for `DataLoader`, Lightning or a Trainer.

    An image is uint8, (channels, height_px, width_px); labels are uint8, (classes,), 0 or 1, or 255 where nobody
    annotated that class. All images are read into memory, uncompressed, when the first of them or their number is
    needed: processes that a `DataLoader` forks share them; one that gets the dataset pickled reads them for itself.

    Attributes:
        classes: Names of the labels, in order.
    """

    def __init__(self, training_set: str, split: str, card: TrainingSetCard) -> None:
        """Name a split; `TrainingSet` makes these."""
        self._training_set, self._split, self._card = training_set, split, card
        self.classes = card.classes

    @cached_property
    def _stored(self) -> ImageSet:
        """The rows; images are read from the files, a batch at a time."""
        return read_split(self._training_set, self._split, self._card, streaming=True)

    @cached_property
    def _resident(self) -> ImageSet:
        """The same rows, with all images in memory."""
        return replace(self._stored, images=read_split(self._training_set, self._split, self._card).images)

    @property
    def labels(self) -> NDArray[np.uint8]:
        """Labels of all images, (images, classes): 0, 1, or 255 where nobody annotated the class. Read-only."""
        labels = self._stored.labels.view()
        labels.flags.writeable = False
        return labels

    @property
    def frame(self) -> "pd.DataFrame":
        """`image_id`, `patient`, `pixel_format` and a nullable column a class, a row an image, in order."""
        import pandas as pd

        rows = self._stored
        labels = {
            name: pd.Series(column, dtype="UInt8").where(column != UNKNOWN)
            for name, column in zip(self.classes, rows.labels.T, strict=True)
        }
        return pd.DataFrame(
            {"image_id": rows.image_id, "patient": rows.patient, "pixel_format": rows.pixel_format, **labels}
        )

    def __len__(self) -> int:
        """Return the number of images, and read them: a `DataLoader` asks for it before it starts its processes."""
        return len(self._resident.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        """Return image and labels of one row."""
        images, labels = self.__getitems__([row])[0]
        return images, labels

    def __getitems__(self, rows: list[int]) -> list[tuple[Tensor, Tensor]]:
        """Return a batch at once; torch's `DataLoader` uses it."""
        wanted = np.asarray(rows, np.intp)
        if len(wanted) and not (-len(self) <= wanted.min() and wanted.max() < len(self)):
            raise IndexError(f"{self._split} has {len(self):,} images")
        return _examples(self._resident, wanted)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle where the images are, not the images."""
        return {name: value for name, value in vars(self).items() if name not in ("_stored", "_resident")}

    def __repr__(self) -> str:
        """Return split and size as the card has them."""
        return f"SplitDataset({self._split!r}: {self._card.splits[self._split].rows:,} images)"


def _examples(rows: ImageSet, wanted: NDArray[np.intp]) -> list[tuple[Tensor, Tensor]]:
    (images,) = rows.images.batches([wanted])
    return list(zip(torch.from_numpy(images), torch.from_numpy(rows.labels[wanted]), strict=True))


class TrainingSet:
    """The output of `curate`. Opening reads the card only.

    Attributes:
        path: The folder, a path or URI.
        card: Its `card.json`.
        train: Split to learn from; see `SplitDataset`.
        val: Split to choose by.
        test: Split that is held back.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        """Open a training set.

        Raises:
            SourceError: If the folder is no finished training set, or of another version.
        """
        self.path = absolute(path)
        self.card = read_card(self.path)
        self.train, self.val, self.test = (SplitDataset(self.path, split, self.card) for split in SPLITS)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return self.card.classes

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return self.card.channels

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of each image: (channels, height_px, width_px)."""
        return self.card.image_shape

    @property
    def counts(self) -> "pd.DataFrame":
        """Images, patients and positives of each class, a row a split."""
        import pandas as pd

        rows = {
            split: {"images": count.rows, "patients": count.patients, **count.positives}
            for split, count in self.card.splits.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index")

    def split(self, name: str) -> SplitDataset:
        """Return `train`, `val` or `test` by its name.

        Raises:
            ConfigError: If it is another name.
        """
        if name not in SPLITS:
            raise ConfigError(f"split: {name!r} must be one of {', '.join(SPLITS)}")
        dataset: SplitDataset = getattr(self, name)
        return dataset

    def show(self, count: int = 16, split: str = "train") -> "Picture":
        """Return a contact sheet of the first images of a split, which is in random order, with their classes."""
        dataset = self.split(split)
        batch = _examples(dataset._stored, np.arange(min(count, self.card.splits[split].rows)))
        captions = [", ".join(np.asarray(self.classes)[labels.numpy() == 1]) or "-" for _, labels in batch]
        return contact_sheet([image.numpy() for image, _ in batch], captions)

    def __fspath__(self) -> str:
        """Return the folder: a job takes this object where it takes its path."""
        return self.path

    def __repr__(self) -> str:
        """Return folder, classes and sizes."""
        sizes = ", ".join(f"{split} {count.rows:,}" for split, count in self.card.splits.items())
        return f"TrainingSet({self.path!r}: {', '.join(self.classes)}; {sizes})"

    def _repr_html_(self) -> str:
        """Return card, counts and contact sheet for notebooks."""
        facts = {
            "classes": ", ".join(self.classes),
            "split": self.card.split,
            "images": f"{' x '.join(map(str, self.shape))}, {', '.join(self.channels)}",
            "digest": self.card.digest,
        }
        parts = (card_html(f"Training set: {self.path}", facts), self.counts.to_html(), picture_html(self.show(8)))
        return "".join(parts)
