"""What remains of a trial: a folder named by its digest, with `record.json` and `predictions.parquet`."""

import hashlib
import io
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from hemo.config.trial import TrialConfig
from hemo.config.types import Config
from hemo.digest import digest_of
from hemo.errors import ConfigError, SourceError
from hemo.models.weight_files import find_weights
from hemo.storage import exists, filesystem, join, list_folders, read_bytes, read_json, write_bytes, write_json

RECORD_SCHEMA_VERSION = 2

PREDICTION_SCHEMA = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),  # val or test
        pa.field("image_id", pa.string(), nullable=False),
        # group for the bootstrap: the patient, or the image itself where none is known
        pa.field("patient", pa.string(), nullable=False),
        pa.field("pixel_format", pa.string(), nullable=False),
        pa.field("labels", pa.list_(pa.uint8()), nullable=False),  # one a class of the task
        pa.field("logits", pa.list_(pa.float32()), nullable=False),  # one a class of the task; binary: one
    ]
)


class EpochMetrics(Config):
    """One epoch's figures.

    Losses are means over images; `train` is measured while learning (dropout and augmentation on).
    """

    epoch: int = Field(description="1-based")
    train: dict[str, float]
    val: dict[str, float]
    learning_rate: float
    seconds: float
    images_per_second: float
    first_batch_seconds: float = Field(0.0, description="from the beginning of the epoch until its first batch")
    data_wait_seconds: float = Field(0.0, description="of the time spent training, without images")
    timestamp: float = Field(0.0, description="when it ended, seconds since 1970 (UTC)")
    runtime_seconds: float = Field(0.0, description="of this epoch and those before, whatever interrupted them")


Matrix = tuple[tuple[int, ...], ...]


class SubgroupMetrics(Config):
    """Figures of the images of one pixel format."""

    images: int
    metrics: dict[str, float | None] = Field(description="null where a figure is not defined: one class only")
    confusion: tuple[Matrix, ...]


class TrialRecord(Config):
    """`record.json`."""

    schema_version: int = RECORD_SCHEMA_VERSION
    digest: str
    status: Literal["complete", "failed", "pruned"]
    reason: str = Field("", description="why it failed or was pruned")
    config: TrialConfig
    classes: tuple[str, ...] = Field(description="classes of the logits, in order")
    training_set: str = Field(description="digest of the training set's card")
    split: str = Field(description="how the set was split: by_patient, by_image, ...")
    baseline: dict[str, dict[str, float]] = Field({}, description="split -> metric, before the first epoch")
    epochs: tuple[EpochMetrics, ...] = ()
    best_epoch: int = 0
    thresholds: tuple[float, ...] = Field(
        (),
        description="one a class, chosen on validation: probability above which an image has it; none for multi_class, "
        "where the most probable class counts, and where nothing was judged",
    )
    metrics: dict[str, dict[str, float]] = Field(
        {}, description="train, val, test -> metric, with the best epoch's weights; of a pruned trial val only"
    )
    confusion: dict[str, tuple[Matrix, ...]] = Field(
        {},
        description="train, val, test -> counts at the thresholds, rows by truth, columns by call: a matrix a "
        "class, [[true negatives, false positives], [false negatives, true positives]]; multi_class: one, by class",
    )
    by_pixel_format: dict[str, dict[str, SubgroupMetrics]] = Field({}, description="train, val, test -> pixel format")
    rows: dict[str, int] = Field({}, description="images in each split")
    image: str = Field("", description="channels x height x width of an image, such as 3 x 64 x 64")
    seconds: float = Field(0.0, description="learning time, without loading")
    parameters: int = 0
    megabytes: float | None = Field(None, description="weights and buffers of the model, 1,000,000 bytes each")
    latency_ms: float | None = Field(
        None,
        description="from an image of stored pixels to its probabilities with torch on `hardware`, median of up to 11 "
        "calls at the end of a complete trial, beside what else ran then",
    )
    inference_images_per_second: float | None = Field(
        None, description="measured likewise with `inference_batch_size` images at once"
    )
    inference_batch_size: int | None = Field(None, description="as many as take 0.1 s one by one, 32 at most")
    workers: int = Field(1, description="data-parallel workers")
    hardware: str = ""
    versions: dict[str, str] = Field({}, description="library -> version")
    commit: str = ""
    reductions: tuple[str, ...] = Field(
        (), description="what was made smaller than the full study: subsets, side, epochs"
    )
    finished: str = Field("", description="UTC, ISO 8601")
    selected_by: str = Field("", description="metric on which a search chose this trial; its test was read for that")
    selected_among: int = Field(0, description="trials the search had when it chose this one")

    @property
    def best_epoch_val(self) -> dict[str, float]:
        """Validation figures of the best epoch as they were reported then: at threshold 0.5; empty without epochs."""
        return self.epochs[self.best_epoch - 1].val if self.best_epoch else {}


def title_of(record: TrialRecord) -> str:
    """Return what a trial is called: its name, or its digest if it has none."""
    return record.config.name or record.digest


def record_digest(config: TrialConfig, training_set_digest: str) -> str:
    """Return the name of a trial's folder: all that decides its result, and nothing else.

    Of starting weights in a file or checkpoint, the content decides, not the place.

    Raises:
        ConfigError: If the starting weights cannot be read.
    """
    trial = config.digested()
    if config.model.weights not in ("none", "imagenet"):
        trial["model"]["weights"] = weights_fingerprint(config.model.weights)
    return digest_of({"schema": RECORD_SCHEMA_VERSION, "trial": trial, "training_set": training_set_digest})


def weights_fingerprint(location: str) -> str:
    """Return the SHA-256 of a file of weights, `sha256:` and 64 hexadecimal digits; of a checkpoint, also of its card.

    Raises:
        ConfigError: If it cannot be read.
    """
    try:
        return "+".join(_sha256(file) for file in find_weights(location).deciding)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"model.weights: {location}: {reason}; give `none`, `imagenet`, or such a file") from error


def _sha256(location: str) -> str:
    fs, path = filesystem(location)
    with fs.open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def write_record(folder: str, record: TrialRecord, predictions: pa.Table | None) -> None:
    """Write a trial's record below `folder`; `record.json` comes last and makes it valid.

    Args:
        folder: The folder of records.
        record: What happened.
        predictions: Columns of `PREDICTION_SCHEMA`; None for a failed trial.
    """
    place = join(folder, record.digest)
    if predictions is not None:
        buffer = io.BytesIO()
        pq.write_table(predictions.cast(PREDICTION_SCHEMA), buffer, compression="zstd")
        write_bytes(join(place, "predictions.parquet"), buffer.getvalue())
    write_json(join(place, "record.json"), record.model_dump(mode="json"))


def has_record(folder: str, digest: str) -> bool:
    """Tell whether a trial ended, well or not."""
    return exists(join(folder, digest, "record.json"))


def is_finished(folder: str, digest: str, *, pruned_counts: bool = False) -> bool:
    """Tell whether a record says that this trial need not run again.

    Args:
        folder: The folder of records.
        digest: Of the trial.
        pruned_counts: Whether a stopped trial is as good as a complete one: to a search that stops trials itself.
    """
    if not has_record(folder, digest):
        return False
    status = read_record(folder, digest).status
    return status == "complete" or (pruned_counts and status == "pruned")


def read_record(folder: str, digest: str) -> TrialRecord:
    """Return one record.

    Raises:
        SourceError: If there is none, or it is not of this version.
    """
    place = join(folder, digest, "record.json")
    content: Any = read_json(place)
    if not isinstance(content, dict) or content.get("schema_version") != RECORD_SCHEMA_VERSION:
        raise SourceError(
            f"{place} is no record of schema version {RECORD_SCHEMA_VERSION}; move it away or run the trial again"
        )
    try:
        return TrialRecord.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        what = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        raise SourceError(f"{place} is damaged ({what}); move it away or run the trial again") from error


def read_records(folder: str) -> list[TrialRecord]:
    """Return every record below `folder`, by digest.

    Raises:
        SourceError: If there is none.
    """
    digests = [name for name in list_folders(folder) if has_record(folder, name)]
    if not digests:
        raise SourceError(f"{folder} holds no trial records; `hemo train` and `hemo tune` write them")
    return [read_record(folder, digest) for digest in digests]


def read_predictions(folder: str, digest: str) -> pa.Table:
    """Return a complete trial's predictions, columns of `PREDICTION_SCHEMA`.

    Raises:
        SourceError: If they are missing or no Parquet of that schema.
    """
    place = join(folder, digest, "predictions.parquet")
    try:
        table = pq.read_table(io.BytesIO(read_bytes(place)))
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise SourceError(f"{place} is missing or damaged; run the trial again") from error
    if not table.schema.equals(PREDICTION_SCHEMA):
        raise SourceError(f"{place} has columns {table.schema.names}, not those of a prediction; run the trial again")
    return table
