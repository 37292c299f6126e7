"""A sequence model's predictions: embeddings of whole studies to probabilities of slices and studies."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hemo.curation.labelled_index import has_flag
from hemo.digest import differences
from hemo.errors import ConfigError, SourceError
from hemo.inference.predict import predicted_classes
from hemo.inference.studies import BY_STUDY, STUDY_KEYS, study_probabilities
from hemo.models.checkpoint import CheckpointCard, to_probabilities
from hemo.models.sequence import STUDY, SequenceClassifier, logit_of_any
from hemo.models.weight_files import EmbeddedBy
from hemo.shards.embeddings import EmbeddingsCard
from hemo.shards.schema import NOT_IN_THE_STACK, REJECT_SCHEMA
from hemo.training.data.examples import UNKNOWN, ImageSet
from hemo.training.data.read_studies import lacking_places
from hemo.training.data.sampling import every_block
from hemo.training.data.studies import studies_in_order, with_places

ENCODER_INPUTS = ("backbone", "weights", "side_px", "pooling", "probabilities")
"""Of the inputs of embeddings those that say what made vectors and probabilities."""


def require_same_encoder(where: str, card: EmbeddingsCard, embedded_by: EmbeddedBy) -> None:
    """Refuse embeddings that another encoder made than those the sequence model was trained on.

    Args:
        where: Key and folder of the embeddings, for the error.
        card: Theirs.
        embedded_by: Of the checkpoint.

    Raises:
        ConfigError: With what differs.
    """
    trained, given = (
        {name: inputs.get(name) for name in ENCODER_INPUTS} for inputs in (embedded_by.inputs, card.inputs)
    )
    if trained != given:
        raise ConfigError(
            f"{where} was embedded by another encoder than the checkpoint was trained on "
            f"({differences(trained, given)}); run `hemo embed` with that one"
        )


def predict_studies(
    model: SequenceClassifier, card: CheckpointCard, ids: pa.Table, vectors: NDArray[np.float32], batch_size: int
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Return the predictions of a sequence model.

    Args:
        model: In evaluation mode.
        card: Of its checkpoint.
        ids: `ID_COLUMNS`, a row an image.
        vectors: Their `read_sequence_inputs`, (slices, dimension + probabilities).
        batch_size: Studies at once.

    Returns:
        Slices, in order of study, series and position: the ids and, a class, `probability_NAME`, `support_NAME` (see
        `support`), and `predicted_NAME` where the model learned from labels of slices. Studies: those of
        `study_probabilities`, and `probability_NAME`, the model's own; `predicted_NAME` where it learned from labels of
        studies alone. Rejects: localizers and captures, and slices without a place in a series.

    Raises:
        SourceError: If no slice has one.
    """
    no_slice = has_flag(ids, NOT_IN_THE_STACK)
    nowhere = pc.or_(*lacking_places(ids).values()).to_numpy(zero_copy_only=False)
    kept = ~(no_slice | nowhere)
    if not kept.any():
        counts = [f"{pc.sum(column).as_py() or 0:,} no {name}" for name, column in lacking_places(ids).items()]
        raise SourceError(
            f"none of {len(ids):,} images has a place in a series ({', '.join(counts)}, {no_slice.sum():,} localizers "
            "and captures); a sequence model takes slices of DICOM series, whose header gives their order"
        )
    rejects = list(_rejects(ids, no_slice, "no_slice", "a localizer or a capture"))
    rejects += _rejects(ids, nowhere & ~no_slice, "no_position", "no study and series, or no position")
    ids, vectors = ids.filter(pa.array(kept)), vectors[kept]
    placed = with_places(ids)
    classes = len(card.classes)
    studies = studies_in_order(
        placed.append_column("pixel_format", pa.array([""] * len(placed))),
        np.full((len(placed), classes), UNKNOWN, np.uint8),
        vectors,
        probabilities=len(card.embedded_by.classes) if card.embedded_by else 0,
    )
    of_slice, of_study, supports = _logits(model, studies, batch_size, classes)
    is_study = np.asarray(studies.images.is_study)
    order = pc.index_in(pa.array(studies.image_id[~is_study]), value_set=placed["image_id"])
    learned = card.model.series.labels
    slices = _with_probabilities(ids.take(order), of_slice, card, learned == "slice")
    for column, name in enumerate(card.classes):
        slices = slices.append_column(f"support_{name}", pa.array(supports[:, column]))
    keys = pa.table({"study": studies.image_id[is_study], "patient": studies.patient[is_study]})
    own = _with_probabilities(keys, of_study, card, learned == "study")
    return slices, _with_pooled(own, slices, card.classes), pa.Table.from_pylist(rejects, REJECT_SCHEMA)


def _rejects(ids: pa.Table, rows: NDArray[np.bool_], reason: str, detail: str) -> Iterator[dict[str, Any]]:
    """Yield these rows as rejects."""
    for path in ids.filter(pa.array(rows))["source_path"].to_pylist():
        yield {"source_path": path, "frame": 0, "reason": reason, "detail": detail}


def _with_pooled(own: pa.Table, slices: pa.Table, classes: Sequence[str]) -> pa.Table:
    """Return the studies of `study_probabilities` and the model's own of them; an unknown patient is "" in `own`."""
    keys = {"study": with_places(slices)["study_name"], "patient": pc.fill_null(slices["patient"], "")}
    for name, values in keys.items():
        slices = slices.set_column(slices.schema.get_field_index(name), name, values)
    studies = study_probabilities(slices, classes).join(own, list(STUDY_KEYS))  # a join finds no nulls
    patient = pc.if_else(pc.equal(studies["patient"], ""), pa.scalar(None, pa.string()), studies["patient"])
    return studies.set_column(studies.schema.get_field_index("patient"), "patient", patient).sort_by(BY_STUDY)


def _logits(
    model: SequenceClassifier, studies: ImageSet, batch_size: int, classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return logits of slices and of studies, and the support of each slice; in their order."""
    found = [[np.empty((0, classes), np.float32)] for _ in range(3)]
    for packed in _batches(studies, batch_size):
        with torch.inference_mode():
            slices, of_studies, weights = model.logits(packed)
            supports = support(model, slices, of_studies, weights, packed[:, STUDY].long())
        for values, tensor in zip(found, (slices, of_studies, supports), strict=True):
            values.append(tensor.numpy())
    logits, study_logits, study_supports = (np.concatenate(values) for values in found)
    return logits, study_logits, study_supports


def _batches(studies: ImageSet, batch_size: int) -> Iterator[Tensor]:
    ends = studies.images.block_ends
    block_of = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
    wanted = every_block(block_of, rank=0, workers=1, batch_size=batch_size)
    return (torch.from_numpy(packed) for packed in studies.images.batches(wanted))


def support(model: SequenceClassifier, slices: Tensor, studies: Tensor, weights: Tensor, study: Tensor) -> Tensor:
    """Return by how much the logit of its study would be lower without a slice, (slices, classes).

    The slice is left out where slices become a study; its neighbours still saw it. Of the only slice of a study it is
    its own logit, as the study had logit 0 without it.

    Args:
        model: Which decides how slices become a study.
        slices: Logits, (slices, classes).
        studies: Logits, (studies, classes).
        weights: Of each slice in its study, (slices, classes).
        study: Number of the study of each slice, (slices,).
    """
    whole = studies[study]
    if model.attention is None:
        absent = functional.logsigmoid(-whole) - functional.logsigmoid(-slices)
        without = logit_of_any(absent)
    else:
        others = whole - model.shift - model.scale * weights * slices
        without = others / (1 - weights).clamp(min=1e-6) + model.shift
    alone = torch.bincount(study)[study][:, None] == 1
    return whole - torch.where(alone, torch.zeros_like(without), without)


def _with_probabilities(rows: pa.Table, logits: NDArray[np.float32], card: CheckpointCard, learned: bool) -> pa.Table:
    """Append probabilities; calibrated, and predicted at the thresholds, if the model learned from labels of these."""
    values = torch.from_numpy(logits)
    probabilities = (to_probabilities(values, card) if learned else values.sigmoid()).numpy()
    predicted = predicted_classes(probabilities, card)
    for column, name in enumerate(card.classes):
        rows = rows.append_column(f"probability_{name}", pa.array(probabilities[:, column]))
        if learned:
            rows = rows.append_column(f"predicted_{name}", pa.array(predicted[:, column]))
    return rows
