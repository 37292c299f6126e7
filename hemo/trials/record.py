"""The record of a trial: a folder named by its digest, with `record.json` and `predictions.parquet`; provenance."""

import importlib.metadata
import io
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

import hemo
from hemo.config.trial import TrialConfig
from hemo.config.tune import flattened, title
from hemo.config.types import Config, first_fault
from hemo.curation.card import SplitFinding, TrainingSetCard, read_card, without_examples
from hemo.errors import SourceError
from hemo.parquet import read_parquet
from hemo.stats.calibration import Calibration
from hemo.stats.reliability import ProbabilityMetrics, ReliabilityBin
from hemo.storage import exists, join, list_folders, read_bytes, read_json, write_bytes, write_json
from hemo.training.results import ConfusionMatrix, EpochMetrics, StudyMetrics, SubgroupMetrics

RECORD_SCHEMA_VERSION = 6
"""6: calibration, thresholds of several operating points, metrics of probabilities before and after calibration."""

RECORDED_PACKAGES = ("torch", "timm", "torchmetrics", "numpy", "ray")
"""Their versions stand in each record, with those of Python and hemo."""

TRAINING_SETS = "training_sets"
"""Folder below the records with the card of each training set, so that reports need no training set."""

CURE = "move it away, and the same command runs the trial again"
"""What to do about a record that cannot be read."""

PREDICTIONS = "predictions.parquet"

STUDY_PREDICTIONS = "studies.parquet"
"""Beside the predictions of a sequence model: the same columns, a row a study, its name as `image_id`."""

PREDICTION_SCHEMA = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),  # val or test
        pa.field("image_id", pa.string(), nullable=False),
        # what the bootstrap draws: the patient, or where none is known `study S`, `series S` or `image I`
        pa.field("patient", pa.string(), nullable=False),
        pa.field("pixel_format", pa.string(), nullable=False),
        pa.field("labels", pa.list_(pa.uint8()), nullable=False),  # one a class of the task
        pa.field("logits", pa.list_(pa.float32()), nullable=False),  # one a class of the task; binary: one
    ]
)


class BeforeAfter(Config):
    """Metrics of the probabilities of one class against all others, and their bins of equal count."""

    before: ProbabilityMetrics = Field(description="of the logits as they were trained")
    after: ProbabilityMetrics = Field(description="of the calibrated ones; the same where nothing was calibrated")
    bins_before: tuple[ReliabilityBin, ...] = Field(description="with the 95 % interval of the observed frequency")
    bins_after: tuple[ReliabilityBin, ...] = Field((), description="empty where nothing was calibrated")


class TrialRecord(Config):
    """`record.json`."""

    schema_version: int = RECORD_SCHEMA_VERSION
    digest: str
    status: Literal["complete", "failed", "pruned"]
    reason: str = Field("", description="why it failed or was pruned")
    external: bool = Field(
        False,
        description="the predictions of a model that hemo did not train: of `config`, name, task and target are meant",
    )
    config: TrialConfig
    classes: tuple[str, ...] = Field(description="classes of the logits, in order")
    training_set: str = Field(description="digest of the training set's card")
    split: str = Field(description="how the set was split: by_patient, by_image, ...")
    baseline: dict[str, dict[str, float]] = Field({}, description="split -> metric, before the first epoch")
    epochs: tuple[EpochMetrics, ...] = ()
    best_epoch: int = 0
    calibration: Calibration = Field(
        Calibration(), description="of the logits, before sigmoid or softmax; fitted on validation"
    )
    thresholds: tuple[float | None, ...] = Field(
        (),
        description="one a class, chosen on validation: calibrated probability above which it is predicted; null where "
        "validation lacks one of its labels, and 0.5 is applied; none for multi_class, where the most probable class "
        "is predicted, and for a trial that was not evaluated",
    )
    operating_points: dict[str, tuple[float | None, ...]] = Field(
        {}, description="rule -> thresholds chosen by it; those of the trial's own rule are `thresholds`"
    )
    metrics: dict[str, dict[str, float]] = Field(
        {}, description="train, val, test -> metric, with the best epoch's weights; of a pruned trial val only"
    )
    confusion: dict[str, tuple[ConfusionMatrix, ...]] = Field(
        {},
        description="train, val, test -> counts at the applied thresholds, rows by label, columns by prediction: a "
        "matrix a class, [[TN, FP], [FN, TP]]; multi_class: one, by class",
    )
    probability_metrics: dict[str, dict[str, BeforeAfter]] = Field(
        {}, description="val, test -> class -> metrics of its probabilities before and after calibration"
    )
    by_pixel_format: dict[str, dict[str, SubgroupMetrics]] = Field({}, description="train, val, test -> pixel format")
    study_metrics: dict[str, dict[str, StudyMetrics]] = Field(
        {},
        description="of a sequence model that learned from slices: val, test -> `sequence`, its own probability of a "
        "study, and `max` and `noisy_or` of its slices",
    )
    rows: dict[str, int] = Field({}, description="images in each split")
    patients: dict[str, int] = Field({}, description="patients in each split")
    positives: dict[str, tuple[int, ...]] = Field({}, description="split -> positive images, one count a class")
    epoch_rows: int = Field(
        0, description="images trained on in an epoch: those of train, fewer or more with `training.balance`"
    )
    epoch_positives: tuple[int, ...] = Field(
        (), description="positive images among them, one a class; over `epoch_rows`: the prevalence that was learned"
    )
    image: str = Field("", description="channels x height x width of an image, such as 3 x 64 x 64")
    seconds: float = Field(0.0, description="training time, without loading")
    parameters: int = 0
    megabytes: float | None = Field(None, description="weights and buffers of the model, 1,000,000 bytes each")
    latency_ms: float | None = Field(
        None,
        description="from the stored pixels of one image to its probabilities with torch on `hardware`, median of up "
        "to 11 calls at the end of a complete trial, while other trials may run",
    )
    inference_images_per_second: float | None = Field(
        None, description="measured likewise with `inference_batch_size` images at once"
    )
    inference_batch_size: int | None = Field(None, description="as many as take 0.1 s one by one, 32 at most")
    workers: int = Field(1, description="data-parallel workers when it ended; `epochs` has those of each epoch")
    hardware: str = ""
    versions: dict[str, str] = Field({}, description="library -> version")
    commit: str = ""
    findings: tuple[SplitFinding, ...] = Field(
        (), description="splits with too few patients to choose or compare by, counted among the images of this task"
    )
    grouped_by: dict[str, int] = Field(
        {}, description="patient, study, series, image -> images of the training set whose patient it gave"
    )
    synthetic_images: int = Field(0, description="images of the training set that `hemo phantom` made")
    reductions: tuple[str, ...] = Field(
        (), description="what was made smaller than the full study: subsets, side, epochs"
    )
    finished: str = Field("", description="UTC, ISO 8601")
    selected_by: str = Field(
        "", description="metric by which a search selected this trial; its test split was read after that"
    )
    selected_among: int = Field(0, description="trials the search had then")

    @property
    def settings(self) -> dict[str, Any]:
        """Dotted setting -> value of all that decided the result; of an external model what is known of it."""
        settings = dict(flattened(self.config.deciding()))
        return {name: settings[name] for name in ("task", "target")} if self.external else settings

    @property
    def best_epoch_val(self) -> dict[str, float]:
        """Validation metrics of the best epoch as reported then: not calibrated, at 0.5; empty without epochs."""
        return self.epochs[self.best_epoch - 1].val if self.best_epoch else {}


def changes_of_workers(record: TrialRecord) -> list[tuple[int, int]]:
    """Return epoch and number of workers wherever another number ran than in the epoch before; the first is epoch 1."""
    changes: list[tuple[int, int]] = []
    for epoch in record.epochs:
        if not changes or epoch.workers != changes[-1][1]:
            changes.append((epoch.epoch, epoch.workers))
    return changes


def title_of(record: TrialRecord) -> str:
    """Return a trial's name, or its settings if it has none."""
    return title(record.config)


def metrics_of(record: TrialRecord, split: str) -> dict[str, float]:
    """Return metric -> value of a split: the final ones, or those of the best epoch for a trial stopped early."""
    if split in record.metrics or split == "test" or not record.best_epoch:
        return record.metrics.get(split, {})
    best = record.epochs[record.best_epoch - 1]
    return best.train if split == "train" else best.val


def write_record(folder: str, record: TrialRecord, predictions: pa.Table | None) -> None:
    """Write a trial's record below `folder`; `record.json` comes last and makes it valid.

    Args:
        folder: The folder of records.
        record: Of the trial.
        predictions: Columns of `PREDICTION_SCHEMA`; None for a failed trial.
    """
    trial = join(folder, record.digest)
    if predictions is not None:
        write_predictions(join(trial, PREDICTIONS), predictions)
    write_json(join(trial, "record.json"), record.model_dump(mode="json"))


def write_predictions(location: str, predictions: pa.Table) -> None:
    """Write columns of `PREDICTION_SCHEMA`."""
    buffer = io.BytesIO()
    pq.write_table(predictions.cast(PREDICTION_SCHEMA), buffer, compression="zstd")
    write_bytes(location, buffer.getvalue())


def write_training_set_card(folder: str, card: TrainingSetCard) -> None:
    """Keep the card of a training set, without the ids in it, below a folder of records."""
    write_json(join(folder, TRAINING_SETS, card.digest, "card.json"), without_examples(card).model_dump(mode="json"))


def read_training_set_card(folder: str, digest: str) -> TrainingSetCard | None:
    """Return the kept card of a training set; None if there is none of this version."""
    try:
        return read_card(join(folder, TRAINING_SETS, digest))
    except SourceError:
        return None


def has_record(folder: str, digest: str) -> bool:
    """Return whether a trial has a record: whether it ended, whatever its status."""
    return exists(join(folder, digest, "record.json"))


def read_record(folder: str, digest: str) -> TrialRecord:
    """Return one record.

    Raises:
        SourceError: If there is none, or it is not of this version.
    """
    path = join(folder, digest, "record.json")
    try:
        content: Any = read_json(path)
    except SourceError as error:
        if not exists(path):
            raise SourceError(f"{path} does not exist; `hemo train` and `hemo tune` write records") from error
        raise SourceError(f"{error}; {CURE}") from error
    if not isinstance(content, dict) or content.get("schema_version") != RECORD_SCHEMA_VERSION:
        raise SourceError(f"{path} is no record of schema version {RECORD_SCHEMA_VERSION}; {CURE}")
    try:
        record = TrialRecord.model_validate(content)
    except ValidationError as error:
        raise SourceError(f"{path} is damaged ({first_fault(error)}); {CURE}") from error
    if record.digest != digest:  # which names the folder that it is written to again
        raise SourceError(f"{path} says that it is of trial {record.digest!r}; {CURE}")
    return record


def read_records(
    folder: str,
    on_error: Callable[[SourceError], object] | None = None,
    known: Mapping[str, TrialRecord] | None = None,
) -> list[TrialRecord]:
    """Return every record below `folder`, by digest.

    Args:
        folder: The folder of records.
        on_error: Called with the error of each record that cannot be read, which is then left out.
        known: Digest -> record of trials whose files have not changed since, which are not read again.

    Raises:
        SourceError: If there is none; without `on_error`, if one cannot be read.
    """
    digests = _recorded(folder)
    if not digests:
        raise SourceError(f"{folder} holds no trial records; `hemo train` and `hemo tune` write them")
    records = []
    for digest in digests:
        try:
            records.append((known or {}).get(digest) or read_record(folder, digest))
        except SourceError as error:
            if on_error is None:
                raise
            on_error(error)
    return records


def has_records(folder: str) -> bool:
    """Return whether a folder holds trial records, readable or not."""
    return bool(_recorded(folder))


def _recorded(folder: str) -> list[str]:
    return [name for name in list_folders(folder) if has_record(folder, name)]


def check_records(folder: str) -> None:
    """Refuse a folder with records that cannot be read: what was shown of it leaves them out.

    Raises:
        SourceError: With a line for each.
    """
    errors: list[SourceError] = []
    if _recorded(folder):
        read_records(folder, errors.append)
    if errors:
        raise SourceError("\n".join(str(error) for error in errors))


def read_predictions(folder: str, digest: str, name: str = PREDICTIONS) -> pa.Table:
    """Return a complete trial's predictions, columns of `PREDICTION_SCHEMA`.

    Args:
        folder: The folder of records.
        digest: Of the trial.
        name: Of the file beside its record.

    Raises:
        SourceError: If they are missing or no Parquet of that schema.
    """
    path = join(folder, digest, name)
    try:
        table = read_parquet(read_bytes(path), path)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise SourceError(f"{path} is missing or damaged; run the trial again") from error
    if not table.schema.equals(PREDICTION_SCHEMA):
        raise SourceError(f"{path} has columns {table.schema.names}, not those of a prediction; run the trial again")
    return table


def versions(*more: str) -> dict[str, str]:
    """Return the versions of Python, hemo and the packages that results depend on, and of `more` packages."""
    packages = {name: importlib.metadata.version(name) for name in (*RECORDED_PACKAGES, *more)}
    return {"python": platform.python_version(), "hemo": hemo.__version__, **packages}


def commit() -> str:
    """Return hemo's git commit, 12 digits, with `-dirty` where files differ from it; empty without a checkout."""
    folder = Path(hemo.__file__).parent
    try:
        described = subprocess.run(  # noqa: S603  (git, on the folder of hemo itself)
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parents[1]), "GIT_OPTIONAL_LOCKS": "0"},
        )
    except FileNotFoundError:
        return ""
    return described.stdout.strip() if described.returncode == 0 else ""


def now() -> str:
    """Return the time in UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
