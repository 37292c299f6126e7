"""Shards or a raw corpus and a checkpoint to probabilities: one model a worker, one Ray Data task a unit."""

import io
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import ray
from numpy.typing import NDArray
from ray.data import ActorPoolStrategy

from hemo.cluster.convert.job import read_pseudonyms
from hemo.cluster.ray_data import data_context
from hemo.cluster.session import progress_bar, say
from hemo.config.inference import PredictConfig
from hemo.corpus.labels import RSNA_CLASSES
from hemo.corpus.sources import list_corpus, media_of
from hemo.digest import differences, digest_of
from hemo.errors import ConfigError, OutputError
from hemo.imaging.dicom.read import quiet_pydicom
from hemo.imaging.settings import IMAGE_PATH_VERSION, ImageSettings
from hemo.inference.predict import Predictor, called_classes, checkpoint_digest, study_probabilities
from hemo.models.checkpoint import CheckpointCard, read_checkpoint_card
from hemo.models.weight_files import find_checkpoint
from hemo.shards.card import read_card
from hemo.shards.convert_unit import UnitTask, unit_rows
from hemo.shards.manifest import Manifest, Unit, read_manifest, update_manifest
from hemo.shards.reader import CONVERT_AGAIN, checked_parquet, images_of
from hemo.shards.schema import REJECT_SCHEMA, ShardReject
from hemo.shards.writer import write_table
from hemo.storage import exists, join, read_json, require_writable, write_bytes, write_json

CARRIED = ("image_id", "patient", "study", "series", "position_mm", "source_path")
"""Columns of a row that stand beside its probabilities."""

UNIT_FILES = 256
READ_THREADS = 4


@dataclass(frozen=True)
class PredictTask:
    """All that a worker needs to predict any unit."""

    checkpoint: str
    batch_size: int
    flip: bool  # test-time augmentation
    shards: str  # conversion to read; empty for a raw corpus
    raw: UnitTask | None  # how to read a raw corpus; None for shards


def predict_corpus(config: PredictConfig) -> str:
    """Write the probability of every class for every image.

    Call it within `connected`.

    Returns:
        The output folder: `predictions.parquet` (`image_id`, ..., and, a class, `probability_NAME` and `called_NAME`:
        whether it is above the checkpoint's threshold), `studies.parquet` (`max_NAME` and `noisy_or_NAME` over each
        study's images), `rejects.parquet`, `card.json`, and `submission.csv` in RSNA's long form where the checkpoint
        has all six of its classes.

    Raises:
        SourceError: If source or checkpoint is missing or empty.
        ConfigError: If the checkpoint was trained on images that this source cannot give.
        OutputError: If `out` cannot be written or holds other predictions.
    """
    config = config.model_copy(update={"checkpoint": find_checkpoint(config.checkpoint)})
    card = read_checkpoint_card(config.checkpoint)
    units, task, inputs = _plan(config, card)
    require_writable(config.out)
    if _is_complete(config.out, inputs):
        say(f"predict: {config.out} is complete")
        return config.out
    tables, rejects = _predict_units(units, task)
    predictions = pa.concat_tables(tables)
    studies = study_probabilities(predictions, card.classes)
    write_table(join(config.out, "predictions.parquet"), predictions)
    write_table(join(config.out, "studies.parquet"), studies)
    write_table(join(config.out, "rejects.parquet"), pa.Table.from_pylist(rejects, schema=REJECT_SCHEMA))
    if set(RSNA_CLASSES) <= set(card.classes):
        write_bytes(join(config.out, "submission.csv"), submission_csv(predictions))
    counts = {"rows": len(predictions), "rejects": len(rejects), "studies": len(studies)}
    counts["rows_without_study"] = predictions["study"].null_count
    write_json(
        join(config.out, "card.json"),
        {"inputs": inputs, "classes": card.classes, "thresholds": card.thresholds, **counts},
    )
    say(f"predict: {len(predictions)} images of {len(studies)} studies, {len(rejects)} rejects")
    return config.out


def submission_csv(predictions: pa.Table) -> bytes:
    """Return predictions in the long form of the RSNA competition: `ID_xxx_epidural,0.01`, six lines an image."""
    ids = predictions["image_id"].to_pylist()
    columns = [predictions[f"probability_{name}"].to_pylist() for name in RSNA_CLASSES]
    lines = [
        (f"{image_id}_{name}", f"{probability:.6f}")
        for image_id, *row in zip(ids, *columns, strict=True)
        for name, probability in zip(RSNA_CLASSES, row, strict=True)
    ]
    return ("ID,Label\n" + "".join(f"{key},{value}\n" for key, value in lines)).encode()


def _plan(config: PredictConfig, card: CheckpointCard) -> tuple[list[Unit], PredictTask, dict[str, Any]]:
    """Return the units to predict, how, and what decides the result."""
    wanted = ImageSettings.model_validate({key: value for key, value in card.image.items() if key != "neighbours"})
    if wanted.channels != card.channels:
        raise ConfigError(
            f"checkpoint: {config.checkpoint} was trained with neighbouring slices as channels, which predict does not "
            "make; give a checkpoint of single slices"
        )
    flip = config.test_time_augmentation == "flip"
    inputs = {"source": config.source, "corpus": config.corpus, "checkpoint": checkpoint_digest(config.checkpoint)}
    inputs["test_time_augmentation"] = config.test_time_augmentation
    if config.corpus == "shards":
        conversion = read_card(config.source)
        _require_same_images(config, wanted, ImageSettings.model_validate(conversion.image))
        units = read_manifest(config.source).by_unit()
        task = PredictTask(config.checkpoint, config.batch_size, flip, config.source, None)
        return units, task, {**inputs, "images": conversion.digest}
    if media_of(config.source, config.corpus) != wanted.media:
        raise ConfigError(f"corpus: {config.corpus}, but {config.checkpoint} was trained on {wanted.corpus} images")
    if wanted.version != IMAGE_PATH_VERSION:
        raise ConfigError(
            f"checkpoint: {config.checkpoint} was trained on images of version {wanted.version}, this hemo makes "
            f"version {IMAGE_PATH_VERSION} of a raw file; convert and train again, or predict from shards of its own"
        )
    pseudonyms = read_pseudonyms(config.pseudonym_key)
    settings = wanted.model_copy(update={"corpus": config.corpus, "key_fingerprint": pseudonyms.fingerprint})
    listing = list_corpus(config.source, config.corpus)
    update = update_manifest(Manifest((), ()), listing.files, unit_files=UNIT_FILES, pseudonyms=pseudonyms)
    raw = UnitTask(config.source, settings, pseudonyms, READ_THREADS)
    marks = digest_of([[file.path, file.size_bytes, file.mark] for file in update.manifest.files])
    inputs["source"] = pseudonyms("path", config.source)  # a folder may be called after a patient
    task = PredictTask(config.checkpoint, config.batch_size, flip, "", raw)
    return update.units, task, {**inputs, "images": marks, "key": pseudonyms.fingerprint}


def _require_same_images(config: PredictConfig, wanted: ImageSettings, stored: ImageSettings) -> None:
    names = {"corpus", "key_fingerprint", "patient_pattern"}  # the same images may come in another kind of corpus
    there, here = (settings.model_dump(mode="json", exclude=names) for settings in (stored, wanted))
    differing = differences(there, here)
    if differing:
        raise ConfigError(
            f"source: {config.source} holds other images than {config.checkpoint} was trained on ({differing}); "
            "convert with its settings, or give the raw corpus"
        )


def _is_complete(out: str, inputs: dict[str, Any]) -> bool:
    if not exists(join(out, "card.json")):
        return False
    card = read_json(join(out, "card.json"))
    if not isinstance(card, dict) or card.get("inputs") != inputs:
        raise OutputError(f"out: {out} holds other predictions; give another folder or remove this one")
    return True


def _predict_units(units: Sequence[Unit], task: PredictTask) -> tuple[list[pa.Table], list[dict[str, Any]]]:
    """Return the predictions of every unit in order, and all rejects."""
    gpus = int(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
    cpus = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
    workers = max(1, min(gpus or cpus, len(units)))
    rows = [{"unit": pickle.dumps(unit)} for unit in units]
    answers: dict[int, dict[str, Any]] = {}
    device = "cuda" if gpus else "cpu"

    class Bound(
        UnitPredictor
    ):  # constructor arguments given through Ray would lie in its object store, and be warned of
        def __init__(self) -> None:
            super().__init__(task, device)

    predictor: Any = Bound  # Ray's annotations leave out callable classes
    with (
        data_context("predict"),
        progress_bar("predict", total=sum(len(unit.files) for unit in units), unit="file") as bar,
    ):
        dataset = ray.data.from_items(rows, override_num_blocks=len(units)).map(
            predictor,
            compute=ActorPoolStrategy(size=workers),
            num_cpus=1,
            num_gpus=1 if gpus else 0,
        )
        for answer in dataset.iter_rows():
            answers[int(answer["number"])] = answer
            bar.update(int(answer["files"]))
    ordered = [answers[number] for number in sorted(answers)]
    rejects = [reject for answer in ordered for reject in pa.ipc.open_stream(answer["rejects"]).read_all().to_pylist()]
    return [pa.ipc.open_stream(answer["predictions"]).read_all() for answer in ordered], rejects


class UnitPredictor:
    """A worker's model; called with one unit after the other."""

    def __init__(self, task: PredictTask, device: str) -> None:
        """Load the model once."""
        self._task = task
        self._predictor = Predictor(task.checkpoint, device=device, batch_size=task.batch_size, flip=task.flip)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the predictions and rejects of one unit, each as an Arrow stream."""
        unit: Unit = pickle.loads(row["unit"])
        kept: list[dict[str, Any]] = []
        rejects: list[dict[str, Any]] = []
        probabilities = self._predictor.probabilities(self._images(unit, kept, rejects))
        return {
            "number": unit.number,
            "files": len(unit.files),
            "predictions": _stream(self._table(kept, probabilities)),
            "rejects": _stream(pa.Table.from_pylist(rejects, schema=REJECT_SCHEMA)),
        }

    def _images(
        self, unit: Unit, kept: list[dict[str, Any]], rejects: list[dict[str, Any]]
    ) -> Iterator[NDArray[np.uint8]]:
        """Yield a unit's images, noting what stands beside each and what was rejected."""
        rows = raw_rows(self._task.raw, unit) if self._task.raw else shard_rows(self._task.shards, unit)
        for row in rows:
            if isinstance(row, ShardReject):
                rejects.append(row.model_dump())
            else:
                kept.append({name: row[name] for name in CARRIED})
                yield row["image"]

    def _table(self, kept: list[dict[str, Any]], probabilities: NDArray[np.float32]) -> pa.Table:
        card, called = self._predictor.card, called_classes(probabilities, self._predictor.card)
        fields = [(name, pa.float32() if name == "position_mm" else pa.string()) for name in CARRIED]
        table = pa.Table.from_pylist(kept, schema=pa.schema(fields))
        for place, name in enumerate(card.classes):
            table = table.append_column(f"probability_{name}", pa.array(probabilities[:, place], pa.float32()))
            table = table.append_column(f"called_{name}", pa.array(called[:, place]))
        return table


def raw_rows(task: UnitTask, unit: Unit) -> Iterator[dict[str, Any] | ShardReject]:
    """Yield the rows and rejects of a unit of raw files: the same image path as `convert`."""
    with quiet_pydicom():
        yield from unit_rows(task, unit)


def shard_rows(conversion: str, unit: Unit) -> Iterator[dict[str, Any]]:
    """Yield the rows of a unit's shard, a row group at a time."""
    card = read_card(conversion)
    with checked_parquet(join(conversion, unit.shard), CONVERT_AGAIN) as file:
        for batch in file.iter_batches(batch_size=128, columns=[*CARRIED, "image"]):
            images = images_of(batch["image"], (len(card.channels), card.height_px, card.width_px), card.dtype)
            for row, image in zip(batch.select(CARRIED).to_pylist(), images, strict=True):
                yield {**row, "image": image}


def _stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()
