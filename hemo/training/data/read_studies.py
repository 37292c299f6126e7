"""Read the embeddings of a training set for a sequence model, and check them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hemo.config.trial import SeriesConfig, TrialConfig
from hemo.curation.card import TrainingSetCard, read_card
from hemo.errors import ConfigError, SourceError, first_names
from hemo.shards.embeddings import read_card as read_embeddings_card
from hemo.shards.embeddings import read_sequence_inputs
from hemo.shards.schema import NOT_IN_THE_STACK
from hemo.training.data.dataset import TrialData, known_labels, stored_rows
from hemo.training.data.examples import ImageSet
from hemo.training.data.studies import studies_in_order, with_places

PLACE_COLUMNS = ("study", "series", "position_mm")


def read_studies(
    training_set: str, config: SeriesConfig, splits: Sequence[str] = ("train", "val", "test")
) -> TrialData:
    """Read the slices of a training set with their embeddings, ordered for a sequence model.

    Args:
        training_set: Output folder of `curate`.
        config: Where the embeddings are.
        splits: Without `test` it is held back.

    Raises:
        SourceError: If set or embeddings are no finished output, an image has no embedding, or a slice has neither
            study nor series, or no position.
    """
    card = read_card(training_set)
    ids, vectors = read_sequence_inputs(config.embeddings)
    known = ids["image_id"]
    if len(pc.unique(known)) < len(known):
        raise SourceError(f"series.embeddings: {config.embeddings} has several vectors of one image_id")
    probabilities = len(read_embeddings_card(config.embeddings).classes)
    embeddings = (config.embeddings, known, vectors, probabilities)
    read = {name: _read_split(training_set, name, card, embeddings) for name in splits}
    return TrialData(card, read["train"], read["val"], read.get("test"))


def _read_split(
    training_set: str, split: str, card: TrainingSetCard, embeddings: tuple[str, Any, NDArray[np.float32], int]
) -> ImageSet:
    """Return one split; `embeddings` are their folder, the image of each, vectors, and the probabilities in each."""
    rows = stored_rows(training_set, split, card, PLACE_COLUMNS)[1]
    _require_places(rows, f"{training_set}, {split}")
    folder, known, vectors, probabilities = embeddings
    found = pc.index_in(rows["image_id"], value_set=known)
    if found.null_count:
        lacking = rows["image_id"].filter(pc.is_null(found)).to_pylist()
        raise SourceError(
            f"series.embeddings: {folder} has no vector of {len(lacking):,} of {len(rows):,} images of {split} "
            f"({first_names(lacking)}); embed the training set itself, or the shards it was curated from"
        )
    return studies_in_order(with_places(rows), known_labels(rows, card), vectors[found.to_numpy()], probabilities)


def lacking_places(rows: pa.Table) -> dict[str, Any]:
    """Return what slices lack to be put in order: name -> a boolean column, true where it is lacking."""
    nowhere = pc.and_(pc.is_null(rows["study"]), pc.is_null(rows["series"]))
    return {"study and series": nowhere, "position_mm": pc.is_null(rows["position_mm"])}


def _require_places(rows: pa.Table, where: str) -> None:
    """Refuse slices that no one can put in order."""
    for name, missing in lacking_places(rows).items():
        ids = rows["image_id"].filter(missing).to_pylist()
        if ids:
            raise SourceError(
                f"{where}: {len(ids):,} of {len(rows):,} images have no {name} ({first_names(ids)}); a sequence model "
                "takes slices of DICOM series, whose header gives their order; localizers and captures are left out by "
                f"`hemo curate` with --drop_flags '[{', '.join(NOT_IN_THE_STACK)}]'"
            )


def require_embeddings(config: SeriesConfig, card: TrainingSetCard) -> int:
    """Return the dimension of a sequence model's embeddings.

    Raises:
        SourceError: If the folder holds no finished embeddings.
        ConfigError: If they are not one vector an image, or the training set was sampled slice by slice.
    """
    embeddings = read_embeddings_card(config.embeddings)
    if embeddings.pooling != "gap":
        raise ConfigError(
            f"series.embeddings: {config.embeddings} has whole feature maps, a sequence model takes their means; run "
            "`hemo embed` with --pooling gap"
        )
    if card.balanced_by:
        raise ConfigError(
            f"series.embeddings: train of training set {card.digest} was balanced by {card.balanced_by}, its series "
            "have lost slices; curate without balance"
        )
    return embeddings.dimension


def encoder_notes(config: TrialConfig, card: TrainingSetCard) -> list[str]:
    """Return a sentence where the encoder of a sequence model was trained on another set than the model itself.

    Patients of validation and test may then be among those that it was trained on: nobody knows.

    Raises:
        SourceError: If the folder holds no finished embeddings.
    """
    if not config.model.is_sequence:
        return []
    trained_on = read_embeddings_card(config.model.series.embeddings).trained_on
    if trained_on in ("", card.digest):
        return []
    return [
        f"embeddings are by a model trained on another training set, {trained_on}: it may have seen patients of "
        "val and test"
    ]
