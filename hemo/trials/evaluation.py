"""The record of an evaluation on other images: a folder with `evaluation.json` and `predictions.parquet`."""

import io
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from hemo.config.types import Config
from hemo.errors import SourceError
from hemo.parquet import read_parquet
from hemo.stats.calibration import Calibration, LabelledLogits, calibrated_logits, refit_calibration, to_probabilities
from hemo.stats.choices import OperatingPoint
from hemo.stats.operating_points import choose_threshold
from hemo.storage import exists, join, list_folders, read_bytes, read_json, write_bytes, write_json

EVALUATION_SCHEMA_VERSION = 2

EVALUATIONS = "evaluations"
"""Folder below the records with a folder for each evaluation, named by its digest."""

EVALUATED, RECALIBRATED_ON = "evaluated", "recalibrated on"
"""Values of the column `part`."""

SUBGROUP = "subgroup_"
"""Prefix of the columns with the groups of each image."""

IMAGE_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("patient", pa.string(), nullable=False),  # what the bootstrap draws, see PREDICTION_SCHEMA
        pa.field("study", pa.string()),
        pa.field("pixel_format", pa.string(), nullable=False),
        pa.field("flags", pa.list_(pa.string()), nullable=False),  # see hemo.imaging.image.FLAGS: what is no slice
        pa.field("part", pa.string(), nullable=False),  # EVALUATED or RECALIBRATED_ON
        pa.field("labels", pa.list_(pa.uint8()), nullable=False),  # one a class of the checkpoint
        pa.field("logits", pa.list_(pa.float32()), nullable=False),  # as trained, one a class
    ]
)
"""First columns of `predictions.parquet`; others are `subgroup_NAME`, strings."""

CURE = "remove its folder and run `hemo evaluate` again"


class EvaluatedCheckpoint(Config):
    """What was evaluated."""

    digest: str = Field(description="covers card and weights")
    record: str = Field("", description="digest of its trial; empty where the checkpoint lies in no record")
    name: str = Field(description="of the trial, or its backbone")
    task: str
    classes: tuple[str, ...]
    training_set: str = Field(description="digest of the set it was trained on")
    operating_point: str = Field(description="rule by which its validation split chose the thresholds")
    thresholds: tuple[float, ...] = Field(description="one a class; multi_class: none")
    calibration: Calibration = Field(description="of its logits, fitted on its validation split")


class EvaluatedImages(Config):
    """What it was evaluated on."""

    name: str
    source: str = Field(description="training_set, shards, or the kind of raw corpus")
    digest: str = Field(description="of training set, shards or listing, and labels")
    splits: tuple[str, ...] = Field((), description="of a training set")
    images: int
    patients: int
    positives: tuple[int, ...] = Field(description="one count a class")
    left_out: dict[str, int] = Field(description="why -> images: without label, flagged")
    rejects: dict[str, int] = Field({}, description="reason -> files or frames that gave no image")


class Recalibration(Config):
    """What a part of the patients gave for the others."""

    fraction: float = Field(description="of the patients, as configured")
    seed: int
    images: int
    patients: int
    calibration: Calibration = Field(description="of the logits as trained; `reason` where the checkpoint's was kept")
    thresholds: tuple[float, ...] = Field(description="chosen on these images by the checkpoint's rule, one a class")


class EvaluationRecord(Config):
    """`evaluation.json`."""

    schema_version: int = EVALUATION_SCHEMA_VERSION
    digest: str = Field(description="covers checkpoint, images, labels and all settings that change the result")
    checkpoint: EvaluatedCheckpoint
    data: EvaluatedImages
    recalibration: Recalibration | None = Field(None, description="null: evaluated as is only")
    subgroups: tuple[str, ...] = Field((), description="names of the columns `subgroup_NAME`")
    prevalence: float | None = Field(None, description="at which predictive values are; null: as observed")
    bootstrap_samples: int = 1000
    seed: int = 0
    versions: dict[str, str] = Field({}, description="library -> version")
    commit: str = ""
    finished: str = Field("", description="UTC, ISO 8601")


def evaluation_folder(records: str, digest: str) -> str:
    """Return the folder of an evaluation."""
    return join(records, EVALUATIONS, digest)


def write_evaluation(folder: str, record: EvaluationRecord, predictions: pa.Table) -> None:
    """Write predictions and, last, `evaluation.json`, which makes the evaluation valid."""
    buffer = io.BytesIO()
    pq.write_table(predictions, buffer, compression="zstd")
    write_bytes(join(folder, "predictions.parquet"), buffer.getvalue())
    write_json(join(folder, "evaluation.json"), record.model_dump(mode="json"))


def read_evaluation(folder: str) -> EvaluationRecord:
    """Return the record of an evaluation.

    Raises:
        SourceError: If there is none, it is damaged, or of another version.
    """
    path = join(folder, "evaluation.json")
    content: Any = read_json(path)
    if not isinstance(content, dict) or content.get("schema_version") != EVALUATION_SCHEMA_VERSION:
        raise SourceError(f"{path} is no evaluation of schema version {EVALUATION_SCHEMA_VERSION}; {CURE}")
    try:
        return EvaluationRecord.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        raise SourceError(f"{path} is damaged ({'.'.join(map(str, fault['loc']))}: {fault['msg']}); {CURE}") from error


def read_evaluations(records: str, on_error: Callable[[SourceError], object] | None = None) -> list[EvaluationRecord]:
    """Return every evaluation below a folder of records, by digest.

    Args:
        records: The folder.
        on_error: Called with the error of each that cannot be read, which is then left out.

    Raises:
        SourceError: Without `on_error`, if one cannot be read.
    """
    found = []
    for name in list_folders(join(records, EVALUATIONS)):
        folder = evaluation_folder(records, name)
        if not exists(join(folder, "evaluation.json")):
            continue
        try:
            found.append(read_evaluation(folder))
        except SourceError as error:
            if on_error is None:
                raise
            on_error(error)
    return found


def read_evaluated_images(records: str, record: EvaluationRecord) -> pa.Table:
    """Return the predictions of an evaluation: columns of `IMAGE_SCHEMA`, and `subgroup_NAME`, sorted by image.

    Raises:
        SourceError: If they are missing or damaged.
    """
    path = join(evaluation_folder(records, record.digest), "predictions.parquet")
    try:
        table = read_parquet(read_bytes(path), path)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise SourceError(f"{path} is missing or damaged; {CURE}") from error
    expected = [*IMAGE_SCHEMA.names, *(f"{SUBGROUP}{name}" for name in record.subgroups)]
    if table.column_names != expected:
        raise SourceError(f"{path} has columns {table.column_names}, not {expected}; {CURE}")
    return table.sort_by("image_id")


def recalibrate(
    choice: Literal["platt", "temperature"],
    images: LabelledLogits,
    classes: Sequence[str],
    operating_point: str,
    own: Calibration,
) -> tuple[Calibration, tuple[float, ...]]:
    """Fit calibration and thresholds anew, on images of the place where the model is to be used.

    Args:
        choice: `platt` or `temperature`; of exclusive classes always the latter.
        images: Logits as trained, and labels.
        classes: Name of each column.
        operating_point: Rule of the thresholds.
        own: Of the checkpoint: what it has is kept where nothing can be fitted, see `refit_calibration`.

    Returns:
        The calibration, and a threshold a class: 0.5 where the images lack one of its labels; none of exclusive ones.
    """
    calibration = refit_calibration("temperature" if images.exclusive else choice, images, own, classes)
    if images.exclusive:
        return calibration, ()
    final = calibrated_logits(images.logits, calibration, exclusive=False)
    probabilities, point = to_probabilities(final, exclusive=False), OperatingPoint.parse(operating_point)
    chosen = [choose_threshold(probabilities[:, k], images.labels[:, k], point) for k in range(len(classes))]
    return calibration, tuple(0.5 if threshold is None else threshold for threshold in chosen)
