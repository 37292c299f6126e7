"""Embeddings as an object: ids, vectors, and the nearest images of one."""

from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hemo.errors import SourceError
from hemo.library.notebook import card_html
from hemo.shards.embeddings import EmbeddingsCard, read_card, read_sequence_inputs
from hemo.stats.similarity import nearest_rows, unit_vectors
from hemo.storage import absolute

if TYPE_CHECKING:
    import pandas as pd


class Embeddings:
    """The output of `embed`. Opening reads the card only; ids and vectors are read when they are first used.

    Attributes:
        path: The folder, a path or URI.
        card: Its `card.json`.
    """

    path: str
    card: EmbeddingsCard

    def __init__(self, path: str | PathLike[str]) -> None:
        """Open a folder of embeddings.

        Raises:
            SourceError: If it holds no finished embeddings, or of another version.
        """
        self.path = absolute(path)
        self.card = read_card(self.path)

    def __len__(self) -> int:
        """Return the number of images."""
        return self.card.rows

    @cached_property
    def _stored(self) -> tuple[pa.Table, NDArray[np.float32]]:
        return read_sequence_inputs(self.path)

    @cached_property
    def _units(self) -> NDArray[np.float32]:
        return unit_vectors(self.vectors)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """A vector an image, float32, shape (images, dimension), in the order of `ids`. Read-only."""
        vectors = self._stored[1][:, : self.card.dimension]
        vectors.flags.writeable = False
        return vectors

    @cached_property
    def ids(self) -> "pd.DataFrame":
        """`image_id`, `patient`, `study`, `series`, `position_mm`, `source_path`; of training sets `split`."""
        frame: pd.DataFrame = self._stored[0].to_pandas()
        return frame

    @cached_property
    def probabilities(self) -> "pd.DataFrame":
        """Calibrated probabilities of the model whose backbone is the encoder: a column a class, in the order of `ids`.

        Raises:
            SourceError: If the encoder was a backbone without head.
        """
        import pandas as pd

        if not self.card.classes:
            raise SourceError(
                f"{self.path} has no probabilities: {self.card.backbone} was a backbone without head; run `hemo embed` "
                "with --checkpoint"
            )
        return pd.DataFrame(self._stored[1][:, self.card.dimension :], columns=list(self.card.classes))

    def nearest(self, image_id: str, count: int = 10) -> "pd.DataFrame":
        """Return the most similar other images, the most similar first.

        Args:
            image_id: Of the image.
            count: At most so many.

        Returns:
            Their ids, and `cosine`: of the vectors after the mean of all is subtracted, -1 to 1. All are compared.

        Raises:
            SourceError: If there is no such image.
        """
        rows = np.flatnonzero(self.ids["image_id"].to_numpy() == image_id)
        if not len(rows):
            raise SourceError(f"{self.path} has no image {image_id!r}; `ids` lists its images")
        others, cosines = nearest_rows(self._units, int(rows[0]), count)
        return self.ids.iloc[others].assign(cosine=cosines).reset_index(drop=True)

    def __fspath__(self) -> str:
        """Return the folder: a job takes this object where it takes its path."""
        return self.path

    def __repr__(self) -> str:
        """Return folder, counts and encoder."""
        return (
            f"Embeddings({self.path!r}: {len(self):,} images, {self.card.dimension:,} numbers of {self.card.backbone})"
        )

    def _repr_html_(self) -> str:
        """Return the card for notebooks."""
        facts = {name: str(value) for name, value in self.card.model_dump(exclude={"inputs"}).items()}
        return card_html(f"Embeddings: {self.path}", facts)
