"""Embeddings of a training set's slices, study by study and in order of position: what a sequence model learns from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from hemo.config.trial import SeriesConfig, TrialConfig
from hemo.curation.card import TrainingSetCard, read_card
from hemo.errors import ConfigError, SourceError, first_names
from hemo.models.series import PACKED_COLUMNS, POSITION_MM, SERIES, SLICE_SLOT, STUDY, STUDY_SLOT
from hemo.shards.embeddings import read_card as read_embeddings_card
from hemo.shards.embeddings import read_sequence_inputs
from hemo.shards.schema import NOT_IN_THE_STACK
from hemo.training.data.dataset import UNKNOWN, Examples, ImageSet, TrialData, known_labels, stored_rows, strings
from hemo.training.data.loader import Batch, DataWaitTime, device_batches
from hemo.training.data.sampling import Step, epoch_blocks, rows_of_blocks
from hemo.training.distributed import Worker

PLACE_COLUMNS = ("study", "series", "position_mm")

OF_STUDY = "study"
"""Pixel format of a row that stands for a study: metrics by format are of slices."""


@dataclass(frozen=True)
class EmbeddedStudies:
    """Embeddings of one split in memory, in the place of its images. A block is a study.

    Rows of a study are its slices, series by series and by position, then one that stands for the study. All of RSNA's
    752,803 slices with 1,280 numbers of float32 each are 3.9 GB.
    """

    vectors: NDArray[np.float32]  # (slices, dimension + probabilities)
    series: NDArray[np.intp]  # (slices,), number of the series in the split, ascending
    position_mm: NDArray[np.float32]  # (slices,), ascending within a series
    is_study: NDArray[np.bool_]  # (rows,)
    probabilities: int  # of a slice, behind its embedding; 0: the embeddings have none

    @property
    def dimension(self) -> int:
        """Numbers of an embedding."""
        return int(self.vectors.shape[1]) - self.probabilities

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all: (rows, dimension + probabilities)."""
        return len(self.is_study), self.vectors.shape[1]

    @property
    def block_ends(self) -> NDArray[np.intp]:
        """Row after that of each study, ascending, shape (studies,)."""
        return np.flatnonzero(self.is_study).astype(np.intp) + 1

    def batches(self, wanted: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[np.float32]]:
        """Yield, batch by batch, all slices of the studies that these rows belong to, packed for a sequence model.

        Args:
            wanted: Rows of each batch, ascending, shape (rows,): slices and studies whose logits are wanted.

        Yields:
            (slices, PACKED_COLUMNS + dimension + probabilities), see `hemo.models.series`; slots are in the order of
            `wanted`.
        """
        for rows in wanted:
            yield self._packed(rows)

    def _packed(self, wanted: NDArray[np.intp]) -> NDArray[np.float32]:
        ends = self.block_ends
        studies = np.unique(np.searchsorted(ends, wanted, side="right")).astype(np.intp)
        rows = rows_of_blocks(ends, studies)
        of_slice = ~self.is_study[rows]
        study = np.searchsorted(studies, np.searchsorted(ends, rows[of_slice], side="right"))
        slot = np.full(len(rows), -1)
        slot[np.searchsorted(rows, wanted)] = np.arange(len(wanted))
        slices = rows[of_slice] - np.searchsorted(ends, rows[of_slice], side="right")
        packed = np.empty((len(slices), PACKED_COLUMNS + self.vectors.shape[1]), np.float32)
        packed[:, STUDY] = study
        packed[:, SERIES] = np.unique(self.series[slices], return_inverse=True)[1]
        packed[:, POSITION_MM] = self.position_mm[slices]
        packed[:, SLICE_SLOT] = slot[of_slice]
        packed[:, STUDY_SLOT] = slot[~of_slice][study]
        packed[:, PACKED_COLUMNS:] = self.vectors[slices]
        return packed


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


def with_places(rows: pa.Table) -> pa.Table:
    """Append `study_name` and `series_name`: of slices that have one of both alone, that one stands for both."""
    study, series = pc.coalesce(rows["study"], rows["series"]), pc.coalesce(rows["series"], rows["study"])
    return rows.append_column("study_name", study).append_column("series_name", series)


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


def studies_in_order(
    rows: pa.Table, labels: NDArray[np.uint8], vectors: NDArray[np.float32], probabilities: int
) -> ImageSet:
    """Return slices as the studies they belong to.

    A study has a class if a slice has it, none if all slices are known not to; else its label is unknown. Slices of
    different patients are of different studies, even if these have the same name.

    Args:
        rows: `image_id`, `patient`, `pixel_format`, `study_name`, `series_name`, `position_mm`: a row a slice.
        labels: (slices, classes): 0, 1 or `UNKNOWN`.
        vectors: (slices, dimension + probabilities).
        probabilities: How many end a vector.
    """
    image_id, position_mm = strings(rows["image_id"]), rows["position_mm"].to_numpy().astype(np.float32)
    names, patient = strings(rows["study_name"]), strings(rows["patient"])
    by_name, by_patient, series = (
        np.unique(values, return_inverse=True)[1] for values in (names, patient, strings(rows["series_name"]))
    )
    order = np.lexsort((image_id, position_mm, series, by_patient, by_name))
    new_study = (np.diff(by_name[order]) != 0) | (np.diff(by_patient[order]) != 0)
    starts = np.append(0, np.flatnonzero(new_study) + 1)
    ends = np.append(starts[1:], len(order))
    new_series = np.append(False, (np.diff(series[order]) != 0) | new_study)[: len(order)]
    row_is_study = np.zeros(len(order) + len(ends), bool)
    row_is_study[ends + np.arange(len(ends))] = True

    def with_studies(of_slices: NDArray[Any], of_studies: NDArray[Any]) -> NDArray[Any]:
        return np.insert(of_slices[order], ends, of_studies, axis=0)

    ordered = labels[order]
    positive = np.maximum.reduceat(ordered == 1, starts, axis=0)
    negative = np.minimum.reduceat(ordered == 0, starts, axis=0)
    study_labels = np.where(positive, 1, np.where(negative, 0, UNKNOWN)).astype(np.uint8)
    formats = strings(rows["pixel_format"])
    study_names = names[order][starts]
    widest = np.result_type(image_id, study_names)
    return ImageSet(
        images=EmbeddedStudies(vectors[order], np.cumsum(new_series), position_mm[order], row_is_study, probabilities),
        labels=with_studies(labels, study_labels),
        image_id=with_studies(image_id.astype(widest), study_names.astype(widest)),
        patient=with_studies(patient, patient[order][starts]),
        pixel_format=with_studies(
            formats.astype(np.result_type(formats, np.str_(OF_STUDY))), np.full(len(ends), OF_STUDY)
        ),
    )


@dataclass(frozen=True)
class StudyBatches:
    """Batches of whole studies of one split, in place of `TrainingBatches`: determined by seed, epoch and step."""

    examples: Examples  # slices, studies, or both
    targets: Tensor  # (examples, classes), float32; its device is that of the batches
    seed: int  # of the trial
    study_weight: float  # loss of all studies over that of all slices

    normalisation: ClassVar[None] = None

    def order(self, epoch: int, worker: Worker, batch_size: int) -> list[Step]:
        """Return which slices and studies this worker trains on in an epoch (1-based), step by step."""
        return epoch_blocks(
            self.examples.block_of,
            seed=self.seed,
            epoch=epoch,
            rank=worker.rank,
            workers=worker.count,
            batch_size=batch_size,
        )

    def epoch_batches(self, order: Sequence[Step], epoch: int, data_wait: DataWaitTime) -> Iterator[Batch]:
        """Yield the worker's studies of each step, packed, and the labels of their examples."""
        loaded = data_wait.timed(device_batches(self.examples, [step.rows for step in order], self.targets.device))
        for step, packed in zip(order, loaded, strict=True):
            yield packed, self.targets[torch.from_numpy(step.rows).to(self.targets.device)]

    def scaled(self, packed: Tensor) -> Tensor:
        """Return packed studies as the model takes them: unchanged."""
        return packed

    def weights(self) -> Tensor | None:
        """Return how much each example counts in the loss, (examples,), 1 on average; None: all alike.

        All studies together count `study_weight` times as much as all slices together.
        """
        is_study = self.examples.source.images.is_study
        of_study = torch.from_numpy(np.asarray(is_study)[self.examples.rows]).to(self.targets.device)
        studies, examples = int(of_study.sum()), len(of_study)
        if studies in (0, examples):
            return None
        slice_weight = examples / ((examples - studies) * (1 + self.study_weight))
        study_weight = examples * self.study_weight / (studies * (1 + self.study_weight))
        return torch.where(of_study, study_weight, slice_weight)

    def measured(self) -> Tensor:
        """Return the examples whose metrics are the trial's: the slices; the studies where only they are examples."""
        is_study = np.asarray(self.examples.source.images.is_study)[self.examples.rows]
        return torch.from_numpy(np.flatnonzero(~is_study if not is_study.all() else is_study)).to(self.targets.device)


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
