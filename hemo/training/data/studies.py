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

from hemo.models.sequence import PACKED_COLUMNS, POSITION_MM, SERIES, SLICE_SLOT, STUDY, STUDY_SLOT
from hemo.training.data.examples import UNKNOWN, Examples, ImageSet, strings
from hemo.training.data.loader import Batch, DataWaitTime, device_batches
from hemo.training.data.sampling import Step, epoch_blocks, rows_of_blocks
from hemo.training.distributed import Worker

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
            (slices, PACKED_COLUMNS + dimension + probabilities), see `hemo.models.sequence`; slots are in the order of
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


def with_places(rows: pa.Table) -> pa.Table:
    """Append `study_name` and `series_name`: of slices that have one of both alone, that one stands for both."""
    study, series = pc.coalesce(rows["study"], rows["series"]), pc.coalesce(rows["series"], rows["study"])
    return rows.append_column("study_name", study).append_column("series_name", series)


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
