"""Shards or a raw corpus to the probabilities of a checkpoint: decoding on CPUs, then a pool of models, on Ray Data."""

import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import ray
from ray.data import ActorPoolStrategy

from hemo.cluster.capacity import gpus_each, require_capacity
from hemo.cluster.ray_data import data_context, set_up_decoding
from hemo.config.inference import PredictConfig
from hemo.console import print_line, progress_bar, stderr_without
from hemo.corpus.labels import RSNA_CLASSES
from hemo.corpus.sources import list_corpus, media_of
from hemo.digest import digest_of
from hemo.errors import ConfigError, OutputError
from hemo.imaging.dicom.read import quiet_pydicom
from hemo.imaging.settings import IMAGE_PATH_VERSIONS, ImageSettings
from hemo.inference.predict import (
    DeployedModel,
    checkpoint_digest,
    image_differences,
    predicted_classes,
    study_probabilities,
)
from hemo.models.checkpoint import CheckpointCard, at_operating_point, load_checkpoint, read_checkpoint_card
from hemo.models.weight_files import find_checkpoint
from hemo.output_lock import output_lock
from hemo.pseudonym import read_pseudonyms
from hemo.shards.card import read_card
from hemo.shards.convert_unit import UnitTask, unit_rows
from hemo.shards.manifest import Manifest, Unit, read_manifest, update_manifest
from hemo.shards.reader import CONVERT_AGAIN, checked_parquet, images_of
from hemo.shards.schema import IMAGE, OWN_ROWS, REJECT_SCHEMA, ROWS_PER_GROUP, ShardReject
from hemo.shards.writer import write_table
from hemo.storage import exists, join, read_json, write_bytes, write_json

COPIED = ("image_id", "patient", "study", "series", "position_mm", "source_path")
"""Columns of an image that stand beside its probabilities."""

COPIED_SCHEMA = pa.schema([(name, pa.float32() if name == "position_mm" else pa.string()) for name in COPIED])

UNIT_FILES = 256
READ_THREADS = 4

BLOCK_BYTES = 1 << 24
"""Decoded images that travel together: a model starts on the first of a unit while the others are still decoded."""

ACTOR_ARGUMENTS = re.compile(rb"\[[^\]\n]*\] core_worker\.cc:\d+: Actor with class name: 'MapWorker[^\n]*\n")
"""What Ray reports as an error for each model: that Ray Data's own arguments of it are in the object store.

They stay there while the pipeline runs, so a model that is lost is started again (Ray's issue 57733).
"""

Row = dict[str, Any] | ShardReject


@dataclass(frozen=True)
class Source:
    """The images to predict."""

    location: str  # for information: a folder that was moved holds the same images
    units: list[Unit]
    read: Callable[[Unit], Iterator[Row]]  # runs on a worker
    inputs: dict[str, Any]  # what decides their pixels and names


def predict_corpus(config: PredictConfig) -> str:
    """Write the calibrated probability of every class for every image.

    Call it within `connected`.

    Returns:
        The output folder: `predictions.parquet` (`image_id`, ..., and, a class, `probability_NAME` and
        `predicted_NAME`: whether it is above the threshold), `studies.parquet` (`max_NAME` and
        `noisy_or_NAME` over each study's images), `rejects.parquet`, `card.json`, and `submission.csv` in RSNA's long
        form where the checkpoint has all six of its classes.

    Raises:
        SourceError: If source or checkpoint is missing, empty or damaged.
        ConfigError: If the checkpoint was trained on images that this source cannot give, or there is no GPU for it.
        OutputError: If `out` cannot be written, holds other predictions, or another run is writing there.
    """
    config = config.model_copy(update={"checkpoint": find_checkpoint(config.checkpoint)})
    card = at_operating_point(read_checkpoint_card(config.checkpoint), config.operating_point)
    _require_single_slices(config, card)
    source = _shard_source(config, card) if config.corpus == "shards" else _raw_source(config, card)
    load_checkpoint(config.checkpoint)  # damaged weights are refused here, not by Ray once a worker has met them
    inputs = {
        "checkpoint": checkpoint_digest(config.checkpoint),
        "operating_point": card.operating_point,
        "test_time_augmentation": config.test_time_augmentation,
        **source.inputs,
    }
    with output_lock(config.out):
        if _is_complete(config.out, inputs):
            print_line(f"predict: {config.out} is complete")
            return config.out
        predictions, rejects = _predict(source, config)
        studies = study_probabilities(predictions, card.classes)
        write_table(join(config.out, "predictions.parquet"), predictions)
        write_table(join(config.out, "studies.parquet"), studies)
        write_table(join(config.out, "rejects.parquet"), rejects)
        if set(RSNA_CLASSES) <= set(card.classes):
            write_bytes(join(config.out, "submission.csv"), submission_csv(predictions))
        counts = {"rows": len(predictions), "rejects": len(rejects), "studies": len(studies)}
        counts["rows_without_study"] = predictions["study"].null_count
        write_json(
            join(config.out, "card.json"),
            {
                "source": source.location,
                "inputs": inputs,
                "classes": card.classes,
                "thresholds": card.thresholds,
                "calibration": card.model_dump(mode="json")["calibration"],
                **counts,
            },
        )
    print_line(f"predict: {len(predictions)} images of {len(studies)} studies, {len(rejects)} rejects")
    return config.out


def submission_csv(predictions: pa.Table) -> bytes:
    """Return predictions in the long form of the RSNA competition: `ID_xxx_epidural,0.01`, six lines an image."""
    ids = predictions["image_id"].to_pylist()
    columns = [predictions[f"probability_{name}"].to_pylist() for name in RSNA_CLASSES]
    lines = [
        f"{image_id}_{name},{probability:.6f}\n"
        for image_id, *row in zip(ids, *columns, strict=True)
        for name, probability in zip(RSNA_CLASSES, row, strict=True)
    ]
    return ("ID,Label\n" + "".join(lines)).encode()


def _shard_source(config: PredictConfig, card: CheckpointCard) -> Source:
    """Return the images of a conversion."""
    conversion = read_card(config.source)
    differing = image_differences(conversion.model_dump(mode="json"), card)
    if differing:
        raise ConfigError(
            f"source: {config.source} holds other images than {config.checkpoint} was trained on ({differing}); "
            "convert with its settings, or give the raw corpus"
        )
    units = read_manifest(config.source).by_unit()
    return Source(config.source, units, partial(shard_rows, config.source), {"images": conversion.digest})


def _raw_source(config: PredictConfig, card: CheckpointCard) -> Source:
    """Return the images of a raw corpus, to be made as those the checkpoint was trained on."""
    if card.image["corpus"] == OWN_ROWS:
        raise ConfigError(
            f"corpus: {config.corpus}, but {config.checkpoint} was trained on rows of a ShardWriter, which predict does"
            " not make of files; write them as shards and give those as source"
        )
    trained_on = ImageSettings.model_validate({k: v for k, v in card.image.items() if k != "neighbours"})
    assert config.corpus != "shards"
    if media_of(config.source, config.corpus) != trained_on.media:
        raise ConfigError(f"corpus: {config.corpus}, but {config.checkpoint} was trained on {trained_on.corpus} images")
    version = IMAGE_PATH_VERSIONS[trained_on.pixels]
    if trained_on.version != version:
        raise ConfigError(
            f"checkpoint: {config.checkpoint} was trained on images of version {trained_on.version}, this hemo makes "
            f"version {version} of a raw file; convert and train again, or predict from shards of its own"
        )
    pseudonyms = read_pseudonyms(config.pseudonym_key)
    settings = trained_on.model_copy(update={"corpus": config.corpus, "key_fingerprint": pseudonyms.fingerprint})
    files = list_corpus(config.source, config.corpus).files
    update = update_manifest(Manifest((), ()), files, unit_files=UNIT_FILES, pseudonyms=pseudonyms)
    inputs = {
        "images": digest_of([[file.path, file.size_bytes, file.mark] for file in update.manifest.files]),
        "key": pseudonyms.fingerprint,
    }
    task = UnitTask(config.source, settings, pseudonyms, READ_THREADS)
    location = pseudonyms("path", config.source)  # a folder may be named after a patient
    return Source(location, update.units, partial(raw_rows, task), inputs)


def _require_single_slices(config: PredictConfig, card: CheckpointCard) -> None:
    """Refuse a checkpoint of slices with neighbours."""
    if card.image.get("neighbours"):
        raise ConfigError(
            f"checkpoint: {config.checkpoint} was trained with neighbouring slices as channels, which predict does not "
            "make; give a checkpoint of single slices"
        )


def _is_complete(out: str, inputs: dict[str, Any]) -> bool:
    if not exists(join(out, "card.json")):
        return False
    card = read_json(join(out, "card.json"))
    if not isinstance(card, dict) or card.get("inputs") != inputs:
        raise OutputError(f"out: {out} holds other predictions; give another folder or remove this one")
    return True


def _predict(source: Source, config: PredictConfig) -> tuple[pa.Table, pa.Table]:
    """Return the predictions of all images, and all rejects, in the order of the units.

    A batch has images of one unit, in order: its probabilities depend neither on the cluster nor on who was first.
    """
    gpus = gpus_each(config.gpus, "gpus")
    needed = {"CPU": 1.0, **({"GPU": gpus} if gpus else {})}
    available = require_capacity(config.cluster, needed, "gpus: a model", "give --gpus 0")
    present = int(available["GPU"] / gpus if gpus else available["CPU"])
    batches: dict[tuple[int, int], dict[str, Any]] = {}
    with (
        data_context("predict") as context,
        progress_bar("predict", total=sum(len(unit.files) for unit in source.units), unit="file") as bar,
        stderr_without(ACTOR_ARGUMENTS),
    ):
        context.target_max_block_size = BLOCK_BYTES
        rows = [{"unit": pickle.dumps(unit)} for unit in source.units]
        decoded = ray.data.from_items(rows, override_num_blocks=len(rows)).flat_map(
            partial(decode_unit, read=source.read, batch_size=config.batch_size), num_cpus=1
        )
        # without a GPU Ray runs both stages in one process, as they take the same resources: no image is copied, and
        # one CPU is enough; with one, decoding has all the CPUs
        predictor: Any = BatchPredictor  # Ray's annotations leave out callable classes
        predicted = decoded.map(
            predictor,
            fn_constructor_kwargs={
                "checkpoint": config.checkpoint,
                "operating_point": config.operating_point,
                "device": "cuda" if gpus else "cpu",
                "batch_size": config.batch_size,
                "flip": config.test_time_augmentation == "flip",
            },
            # as many models as there is room for now; Ray adds some as the cluster grows, and while batches wait
            compute=ActorPoolStrategy(
                min_size=1, max_size=len(source.units), initial_size=max(1, min(present, len(source.units)))
            ),
            num_cpus=0 if gpus else 1,
            num_gpus=gpus,
        )
        for batch in predicted.iter_rows():
            batches[batch["unit"], batch["number"]] = batch
            bar.update(int(batch["files"]))
    ordered = [batches[key] for key in sorted(batches)]
    rejects = [reject for batch in ordered for reject in pickle.loads(batch["rejects"])]
    predictions = pa.concat_tables(pickle.loads(batch["predictions"]) for batch in ordered)
    return predictions.combine_chunks(), pa.Table.from_pylist(rejects, schema=REJECT_SCHEMA)


def decode_unit(
    row: dict[str, Any], *, read: Callable[[Unit], Iterator[Row]], batch_size: int
) -> Iterator[dict[str, Any]]:
    """Yield a unit's images, `batch_size` at once; its rejects come with the last batch, which may have no image."""
    set_up_decoding()
    unit: Unit = pickle.loads(row["unit"])
    number = 0
    images: list[dict[str, Any]] = []
    rejects: list[dict[str, Any]] = []

    def batch(files: int, rejects: list[dict[str, Any]]) -> dict[str, Any]:
        pixels = np.stack([image[IMAGE] for image in images]) if images else np.empty((0,), np.uint8)
        table = pa.Table.from_pylist([{name: image[name] for name in COPIED} for image in images], COPIED_SCHEMA)
        return {
            "unit": unit.number,
            "number": number,
            "files": files,
            "images": pickle.dumps(pixels),
            "copied": pickle.dumps(table),
            "rejects": pickle.dumps(rejects),
        }

    for item in read(unit):
        if isinstance(item, ShardReject):
            rejects.append(item.model_dump())
            continue
        images.append(item)
        if len(images) == batch_size:
            yield batch(0, [])
            number, images = number + 1, []
    yield batch(len(unit.files), rejects)


class BatchPredictor:
    """A worker's model: turns one decoded batch after the other into a table of predictions."""

    def __init__(self, *, checkpoint: str, operating_point: str, device: str, batch_size: int, flip: bool) -> None:
        """Load the model once."""
        model, card = load_checkpoint(checkpoint)
        card = at_operating_point(card, operating_point)
        self._model = DeployedModel(model, card, device=device, batch_size=batch_size, flip=flip)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a batch of `decode_unit` with `predictions` in the place of the images."""
        images, predictions = pickle.loads(row.pop("images")), pickle.loads(row.pop("copied"))
        card = self._model.card
        _, probabilities = self._model.predict(images)
        predicted = predicted_classes(probabilities, card)
        for index, name in enumerate(card.classes):
            column = pa.array(probabilities[:, index], pa.float32())
            predictions = predictions.append_column(f"probability_{name}", column)
            predictions = predictions.append_column(f"predicted_{name}", pa.array(predicted[:, index]))
        return {**row, "predictions": pickle.dumps(predictions)}


def raw_rows(task: UnitTask, unit: Unit) -> Iterator[Row]:
    """Yield the images and rejects of a unit of raw files, made as `convert` makes them."""
    with quiet_pydicom():
        yield from unit_rows(task, unit)


def shard_rows(conversion: str, unit: Unit) -> Iterator[Row]:
    """Yield the images of a unit's shard, a row group at a time."""
    card = read_card(conversion)
    with checked_parquet(join(conversion, unit.shard), CONVERT_AGAIN) as file:
        for batch in file.iter_batches(batch_size=ROWS_PER_GROUP, columns=[*COPIED, IMAGE]):
            images = images_of(batch[IMAGE], (len(card.channels), card.height_px, card.width_px), card.dtype)
            for row, image in zip(batch.select(COPIED).to_pylist(), images, strict=True):
                yield {**row, IMAGE: image}
