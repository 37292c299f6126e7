"""A checkpoint on labelled images of another place: predictions, labels, groups and a recalibration, as a record."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hemo.cluster.predict_images import (
    Source,
    part_source,
    predict_images,
    raw_source,
    require_single_slices,
    shard_source,
)
from hemo.config.curate import SPLITS
from hemo.config.inference import EvaluateConfig
from hemo.console import print_line
from hemo.corpus.labels import NULL_LABEL, LabelTable, parse_labels, read_table_file
from hemo.curation.card import read_card as read_training_set_card
from hemo.curation.evaluated_rows import (
    IMAGE_GROUPS,
    columns_of_classes,
    grouped,
    image_group,
    read_groups,
    recalibrated_on,
    table_groups,
    usable,
)
from hemo.curation.labelled_index import join_labels, labels_for, text_column
from hemo.digest import digest_of
from hemo.errors import ConfigError, SourceError
from hemo.inference.predict import checkpoint_digest
from hemo.models.checkpoint import CheckpointCard, at_operating_point, load_checkpoint, read_checkpoint_card
from hemo.models.weight_files import find_checkpoint
from hemo.output_lock import output_lock
from hemo.pseudonym import Pseudonymiser, matching_pseudonyms, read_pseudonyms
from hemo.shards.card import read_card
from hemo.shards.schema import INDEX_SCHEMA
from hemo.stats.calibration import LabelledLogits
from hemo.storage import exists, join
from hemo.trials.evaluation import (
    EVALUATED,
    EVALUATION_SCHEMA_VERSION,
    IMAGE_SCHEMA,
    RECALIBRATED_ON,
    SUBGROUP,
    EvaluatedCheckpoint,
    EvaluatedImages,
    EvaluationRecord,
    Recalibration,
    evaluation_folder,
    recalibrate,
    write_evaluation,
)
from hemo.trials.record import commit, now, read_record, title_of, versions


@dataclass(frozen=True)
class LabelledImages:
    """The images to evaluate on."""

    source: Source
    columns: pa.Schema  # of the images, that are wanted beside the predictions
    name: str
    label_file: bytes  # empty where the images have their labels
    table: LabelTable | None  # what it holds
    group_file: bytes  # empty without a table of subgroups
    pseudonyms: Pseudonymiser
    training_set: str = ""  # its digest


def evaluate_checkpoint(config: EvaluateConfig) -> str:
    """Evaluate a checkpoint on other images, and write the record of that; one that is there is left alone.

    Call it within `connected`.

    Returns:
        The evaluation's folder below `config.out`: `predictions.parquet` and `evaluation.json`.

    Raises:
        SourceError: If images or checkpoint are missing, empty or damaged.
        ConfigError: If the checkpoint was trained on images that these cannot be.
        LabelError: If labels do not fit the images or the checkpoint's classes.
        OutputError: If nothing can be written, or another run evaluates the same.
    """
    config = config.model_copy(update={"checkpoint": find_checkpoint(config.checkpoint)})
    card = at_operating_point(read_checkpoint_card(config.checkpoint), config.operating_point)
    load_checkpoint(config.checkpoint)  # damaged weights are refused here, not by Ray once a worker has met them
    images = _labelled_images(config, card)
    _require_tables(config, card, images)
    checkpoint = checkpoint_digest(config.checkpoint)
    digest = _digest(config, images, checkpoint)
    folder = evaluation_folder(config.out, digest)
    with output_lock(folder) as require_held:
        if exists(join(folder, "evaluation.json")):
            print_line(f"evaluate: {folder} is complete")
            return folder
        predicted, rejects = predict_images(images.source, config, "evaluate", images.columns)
        if not len(predicted):
            raise SourceError(f"{images.source.location} gave no image: {len(rejects)} files are rejects")
        table, left_out = _rows(config, card, images, predicted.combine_chunks())
        recalibration = _recalibration(config, card, table)
        record = EvaluationRecord(
            digest=digest,
            checkpoint=_checkpoint(config.checkpoint, card, checkpoint),
            data=_data(config, images, (table, rejects, left_out)),
            recalibration=recalibration,
            subgroups=tuple(name.removeprefix(SUBGROUP) for name in table.column_names if name.startswith(SUBGROUP)),
            prevalence=None if config.prevalence == "observed" else config.prevalence,
            bootstrap_samples=config.bootstrap_samples,
            seed=config.seed,
            versions=versions(),
            commit=commit(),
            finished=now(),
        )
        require_held()
        write_evaluation(folder, record, table)
    print_line(f"evaluate: {record.data.images:,} images of {record.data.patients:,} patients, {len(rejects)} rejects")
    return folder


def _labelled_images(config: EvaluateConfig, card: CheckpointCard) -> LabelledImages:
    """Find the images and read the tables.

    Raises:
        UserError: If something is missing, or they are not images as the checkpoint takes them.
    """
    group_file = read_table_file(config.subgroup_table, "subgroup_table") if config.subgroup_table else b""
    if not config.training_set:
        label_file, table = b"", None
        if config.labels != "source_class":
            label_file = read_table_file(config.labels, "labels")
            table = parse_labels(label_file, config.labels, key=config.label_key, columns=config.label_columns)
        source, made_with = _unlabelled_source(config, card)
        pseudonyms = _pseudonyms(config, made_with)
        return LabelledImages(source, INDEX_SCHEMA_OF_IMAGES, config.name, label_file, table, group_file, pseudonyms)
    own = read_training_set_card(config.training_set)
    labels = [pa.field(f"label_{name}", pa.uint8()) for name in own.classes]
    columns = pa.schema([*INDEX_SCHEMA_OF_IMAGES, *labels])
    splits = SPLITS if config.from_split == "all" else (config.from_split,)
    source = part_source(config.training_set, splits, (config.checkpoint, card), columns.names)
    pseudonyms = _pseudonyms(config, own.image.get("key_fingerprint", ""))
    name = config.name or own.dataset.name or f"training set {own.digest}"
    return LabelledImages(source, columns, name, b"", None, group_file, pseudonyms, own.digest)


INDEX_SCHEMA_OF_IMAGES = pa.schema([pa.field(field.name, field.type) for field in INDEX_SCHEMA])
"""Columns of a shard but the pixels; nullable, as pylists give them."""


def _unlabelled_source(config: EvaluateConfig, card: CheckpointCard) -> tuple[Source, str]:
    """Return the images of shards or raw files, and the fingerprint of the key that hides their ids."""
    if config.corpus == "shards":
        require_single_slices(config.checkpoint, card)
        source = shard_source(config.source, (config.checkpoint, card), INDEX_SCHEMA.names)
        return source, str(read_card(config.source).image.get("key_fingerprint", ""))
    source = raw_source(config.source, config.corpus, config.pseudonym_key, config.checkpoint, card)
    return source, read_pseudonyms(config.pseudonym_key).fingerprint


def _pseudonyms(config: EvaluateConfig, made_with: str) -> Pseudonymiser:
    """Return what turns the keys of tables into those of the images."""
    joins = config.labels not in ("", "source_class") or bool(config.subgroup_table)
    return matching_pseudonyms(config.pseudonym_key, config.source or config.training_set, made_with, joins=joins)


def _require_tables(config: EvaluateConfig, card: CheckpointCard, images: LabelledImages) -> None:
    """Refuse tables without the classes or subgroups that are wanted, before any image is predicted.

    Raises:
        UserError: If one is missing; what depends on the images is found later.
    """
    if own := [name.removeprefix("label_") for name in images.columns.names if name.startswith("label_")]:
        columns_of_classes(own, card.classes, config.class_names)
    elif images.table is not None:
        columns_of_classes(images.table.classes, card.classes, config.class_names)
    others = [name for name in config.subgroups if name not in IMAGE_GROUPS]
    if others and not config.subgroup_table:
        raise ConfigError(
            f"subgroups: {others[0]!r} is none of {', '.join(IMAGE_GROUPS)}; give a table that has it by "
            "--subgroup_table"
        )
    if others:
        read_groups(images.group_file, config.subgroup_table, config.subgroup_key, others)


DECIDING = (
    *("operating_point", "labels", "label_key", "label_columns", "class_names", "drop_flags", "name", "subgroups"),
    *("recalibration_fraction", "recalibration", "seed", "subgroup_key", "bootstrap_samples", "prevalence"),
)
"""Fields that change the result; of `labels` only whether it is `source_class`."""


def _digest(config: EvaluateConfig, images: LabelledImages, checkpoint: str) -> str:
    """Return the digest of an evaluation; under a key a pseudonym itself: tables have true names."""
    settings = config.model_dump(mode="json", include=set(DECIDING))
    settings["labels"] = "source_class" if config.labels == "source_class" else ""
    content = {
        "schema": EVALUATION_SCHEMA_VERSION,
        "checkpoint": checkpoint,
        "images": images.source.inputs,
        "settings": settings,
        "files": [hashlib.sha256(file).hexdigest() for file in (images.label_file, images.group_file)],
    }
    return images.pseudonyms("inputs", digest_of(content))[:16]


def _rows(
    config: EvaluateConfig, card: CheckpointCard, images: LabelledImages, predicted: pa.Table
) -> tuple[pa.Table, dict[str, int]]:
    """Return the images that have labels as rows of `IMAGE_SCHEMA` with their groups, and how many are left out."""
    labels, patients = _labels(config, card, images, predicted)
    kept, left_out = usable(predicted, labels, config.drop_flags, exclusive=card.task == "multi_class")
    rows, wanted = predicted.filter(pa.array(kept)).combine_chunks(), np.flatnonzero(kept)
    patients = patients.take(pa.array(wanted))
    logits = np.column_stack([rows[f"logit_{name}"].to_numpy() for name in card.classes])
    part = np.where(recalibrated_on(patients, config.recalibration_fraction, config.seed), RECALIBRATED_ON, EVALUATED)
    columns: dict[str, Any] = {
        "image_id": rows["image_id"],
        "patient": patients,
        "study": rows["study"],
        "pixel_format": rows["pixel_format"],
        "flags": rows["flags"],
        "part": pa.array(part.tolist()),
        "labels": pa.array(list(labels[wanted]), pa.list_(pa.uint8())),
        "logits": pa.array(list(logits), pa.list_(pa.float32())),
    }
    table = pa.table(columns).cast(IMAGE_SCHEMA)
    for name, values in _groups(config, images, rows).items():
        if len(set(values)) > 1 or name not in IMAGE_GROUPS:
            table = table.append_column(f"{SUBGROUP}{name}", pa.array(values, pa.string()))
    return table, left_out


def _labels(
    config: EvaluateConfig, card: CheckpointCard, images: LabelledImages, predicted: pa.Table
) -> tuple[NDArray[np.uint8], pa.StringArray]:
    """Return the labels of the checkpoint's classes, shape (images, classes), and the patient of each image."""
    if images.training_set:
        known = [name.removeprefix("label_") for name in predicted.column_names if name.startswith("label_")]
        columns = columns_of_classes(known, card.classes, config.class_names)
        values = [predicted[f"label_{known[column]}"].fill_null(NULL_LABEL).to_numpy() for column in columns]
        return np.column_stack(values).astype(np.uint8), text_column(predicted, "patient")
    table = labels_for(predicted, images.table, images.pseudonyms)
    columns = columns_of_classes(table.classes, card.classes, config.class_names)
    joined = join_labels(predicted, table)
    return joined.labels[:, columns], joined.patient_ids


def _groups(config: EvaluateConfig, images: LabelledImages, index: pa.Table) -> dict[str, list[str]]:
    """Return name -> group of each image."""
    others = [name for name in config.subgroups if name not in IMAGE_GROUPS]
    values = {name: image_group(index, name) for name in config.subgroups if name in IMAGE_GROUPS}
    if others:
        where = (images.group_file, config.subgroup_table)
        values |= table_groups(*where, index, config.subgroup_key, others, images.pseudonyms)
    return {name: grouped(values[name]) for name in config.subgroups}


def _recalibration(config: EvaluateConfig, card: CheckpointCard, table: pa.Table) -> Recalibration | None:
    if not config.recalibration_fraction:
        return None
    part = table.filter(pc.equal(table["part"], pa.scalar(RECALIBRATED_ON))).combine_chunks()
    if not len(part) or len(part) == len(table):
        raise ConfigError(
            f"recalibration_fraction: {config.recalibration_fraction:g} of so few patients leaves nobody to "
            "recalibrate on, or nobody to evaluate"
        )
    logits, labels = (np.asarray(part[name].combine_chunks().flatten()) for name in ("logits", "labels"))
    shape, names = (len(part), -1), part["patient"].to_pylist()
    found = LabelledLogits(logits.reshape(shape), labels.reshape(shape), np.array(names), card.task == "multi_class")
    calibration, thresholds = recalibrate(
        config.recalibration, found, card.classes, card.operating_point, card.calibration
    )
    return Recalibration(
        fraction=config.recalibration_fraction,
        seed=config.seed,
        images=len(part),
        patients=len(set(names)),
        calibration=calibration,
        thresholds=thresholds,
    )


def _checkpoint(location: str, card: CheckpointCard, digest: str) -> EvaluatedCheckpoint:
    record, name = _trial_of(location)
    return EvaluatedCheckpoint(
        digest=digest,
        record=record,
        name=name or card.model.backbone,
        task=card.task,
        classes=card.classes,
        training_set=card.training_set,
        operating_point=card.operating_point,
        thresholds=card.thresholds,
        calibration=card.calibration,
    )


def _trial_of(location: str) -> tuple[str, str]:
    """Return digest and name of the trial in whose record a checkpoint lies; both empty where it lies in none."""
    folder = location.rstrip("/").rpartition("/")[0]
    if not exists(join(folder, "record.json")):
        return "", ""
    records, _, digest = folder.rpartition("/")
    try:
        record = read_record(records, digest)
    except SourceError:  # of an earlier version: the checkpoint is all that is needed
        return "", ""
    return record.digest, title_of(record)


def _data(
    config: EvaluateConfig, images: LabelledImages, found: tuple[pa.Table, pa.Table, dict[str, int]]
) -> EvaluatedImages:
    table, rejects, left_out = found
    positives = np.asarray(table["labels"].combine_chunks().flatten()).reshape(len(table), -1).sum(axis=0)
    digest = images.training_set or digest_of(images.source.inputs)
    splits: Sequence[str] = images.source.inputs.get("splits", ())
    kind = "training_set" if images.training_set else config.corpus
    return EvaluatedImages(
        name=images.name or f"{kind} {digest}",
        source=kind,
        digest=digest,
        splits=tuple(splits),
        images=len(table),
        patients=len(table["patient"].unique()),
        positives=tuple(int(count) for count in positives),
        left_out=left_out,
        rejects=dict(Counter(rejects["reason"].to_pylist())),
    )
