"""Images through a network by Ray Data, decoding on CPUs, then a pool of models; predictions of a checkpoint."""

import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from ray.data import ActorPoolStrategy

from hemo.cluster.capacity import gpus_each, require_capacity
from hemo.cluster.ray_data import data_context, set_up_decoding
from hemo.config.convert import Corpus
from hemo.config.inference import DeploymentConfig, ModelRunConfig
from hemo.console import progress_bar, stderr_without
from hemo.corpus.source_file import SourceFile
from hemo.corpus.sources import list_corpus, media_of
from hemo.curation.card import TrainingSetCard
from hemo.curation.card import read_card as read_training_set_card
from hemo.curation.resplit import require_own_images
from hemo.digest import digest_of
from hemo.errors import ConfigError
from hemo.freed_memory import keep_tensors
from hemo.imaging.dicom.read import quiet_pydicom
from hemo.imaging.settings import IMAGE_PATH_VERSIONS, ImageSettings
from hemo.inference.predict import DeployedModel, image_differences, predicted_classes
from hemo.models.checkpoint import CheckpointCard, at_operating_point, load_checkpoint
from hemo.pseudonym import read_pseudonyms
from hemo.shards.card import ConversionCard, read_card
from hemo.shards.convert_unit import UnitTask, unit_rows
from hemo.shards.manifest import Manifest, Unit, read_manifest, update_manifest
from hemo.shards.reader import CONVERT_AGAIN, CURATE_AGAIN, batches_by_group, checked_parquet, images_of
from hemo.shards.schema import ID_COLUMNS, IMAGE, INDEX_SCHEMA, OWN_ROWS, REJECT_SCHEMA, ShardReject
from hemo.storage import join, list_files

COPIED_SCHEMA = pa.schema([(name, INDEX_SCHEMA.field(name).type) for name in ID_COLUMNS])

UNIT_FILES = 256
READ_THREADS = 4

BLOCK_BYTES = 1 << 24
"""Decoded images that travel together: a model starts on the first of a unit while the others are still decoded."""

ACTOR_ARGUMENTS = re.compile(rb"\[[^\]\n]*\] core_worker\.cc:\d+: Actor with class name: 'MapWorker[^\n]*\n")
"""What Ray reports as an error for each model: that Ray Data's own arguments of it are in the object store.

They stay there while the pipeline runs, so a model that is lost is started again (Ray's issue 57733).
"""

Row = dict[str, Any] | ShardReject

Columns = Callable[[NDArray[np.uint8]], dict[str, pa.Array]]
"""A network: from images (images, channels, height_px, width_px) to columns with a value an image."""


@dataclass(frozen=True)
class Source:
    """The images to predict."""

    location: str  # for information: a folder that was moved holds the same images
    units: list[Unit]
    read: Callable[[Unit], Iterator[Row]]  # runs on a worker
    inputs: dict[str, Any]  # what decides their pixels and names


@dataclass(frozen=True)
class UnitOutput:
    """What a network made of a unit."""

    number: int  # of the unit
    table: pa.Table  # an image a row, in the order of the unit
    rejects: list[dict[str, Any]]  # values of `REJECT_SCHEMA`


def shard_source(
    source: str, checkpoint: tuple[str, CheckpointCard] | None, columns: Sequence[str] = ID_COLUMNS
) -> Source:
    """Return the images of a conversion.

    Args:
        source: Output folder of `convert`.
        checkpoint: Where it is, and its card, if the images must be made as those that it was trained on.
        columns: Of the shards, that are wanted beside the images.

    Raises:
        ConfigError: If its images are made otherwise than those the checkpoint was trained on.
    """
    conversion = read_card(source)
    _require_same_images("source", source, conversion, checkpoint)
    units = read_manifest(source).by_unit()
    return Source(source, units, partial(shard_rows, source, columns), {"images": conversion.digest})


def part_source(
    training_set: str,
    splits: Sequence[str],
    checkpoint: tuple[str, CheckpointCard] | None,
    columns: Sequence[str],
    field: str = "training_set",
) -> Source:
    """Return the images of splits of a training set.

    `field` is the name of the folder in the job's config, for errors; the other arguments are those of `shard_source`,
    and so are the errors. A row has its `split` beside the columns.
    """
    own = read_training_set_card(training_set)
    require_own_images(training_set, own.base, field)
    _require_same_images(field, training_set, own, checkpoint)
    names = [f"{split}/{name}" for split in splits for name in list_files(join(training_set, split))]
    parts = [name for name in names if name.endswith(".parquet")]
    units = [Unit(number, (SourceFile(name, 0, ""),)) for number, name in enumerate(parts)]
    inputs = {"training_set": own.digest, "splits": list(splits)}
    return Source(training_set, units, partial(part_rows, training_set, columns), inputs)


def _require_same_images(
    name: str, folder: str, stored: ConversionCard | TrainingSetCard, checkpoint: tuple[str, CheckpointCard] | None
) -> None:
    if checkpoint is None:
        return
    location, card = checkpoint
    if differing := image_differences(stored.model_dump(mode="json"), card):
        raise ConfigError(
            f"{name}: {folder} holds other images than {location} was trained on ({differing}); convert with its "
            "settings, or give the raw corpus"
        )


def raw_source(source: str, corpus: Corpus, pseudonym_key: str, checkpoint: str, card: CheckpointCard) -> Source:
    """Return the images of a raw corpus, to be made as those the checkpoint was trained on.

    Args:
        source: The corpus.
        corpus: Its kind.
        pseudonym_key: Where the key is; empty: ids are kept.
        checkpoint: Where the checkpoint is, for the error.
        card: Of the checkpoint.

    Raises:
        ConfigError: If such images cannot be made of it.
    """
    require_single_slices(checkpoint, card)
    if card.image["corpus"] == OWN_ROWS:
        raise ConfigError(
            f"corpus: {corpus}, but {checkpoint} was trained on rows of a ShardWriter, which hemo does not make of "
            "files; write them as shards and give those as source"
        )
    trained_on = ImageSettings.model_validate({k: v for k, v in card.image.items() if k != "neighbours"})
    if media_of(source, corpus) != trained_on.media:
        raise ConfigError(f"corpus: {corpus}, but {checkpoint} was trained on {trained_on.corpus} images")
    version = IMAGE_PATH_VERSIONS[trained_on.pixels]
    if trained_on.version != version:
        raise ConfigError(
            f"checkpoint: {checkpoint} was trained on images of version {trained_on.version}, this hemo makes "
            f"version {version} of a raw file; convert and train again, or predict from shards of its own"
        )
    pseudonyms = read_pseudonyms(pseudonym_key)
    settings = trained_on.model_copy(update={"corpus": corpus, "key_fingerprint": pseudonyms.fingerprint})
    files = list_corpus(source, corpus).files
    update = update_manifest(Manifest((), ()), files, unit_files=UNIT_FILES, pseudonyms=pseudonyms)
    inputs = {
        "images": digest_of([[file.path, file.size_bytes, file.mark] for file in update.manifest.files]),
        "key": pseudonyms.fingerprint,
    }
    task = UnitTask(source, settings, pseudonyms, READ_THREADS)
    location = pseudonyms("path", source)  # a folder may be named after a patient
    return Source(location, update.units, partial(raw_rows, task), inputs)


def require_single_slices(checkpoint: str, card: CheckpointCard) -> None:
    """Refuse a checkpoint of slices with neighbours: shards and files have none."""
    if card.image.get("neighbours"):
        raise ConfigError(
            f"checkpoint: {checkpoint} was trained with neighbouring slices as channels, which are made by `curate` "
            "only; give a checkpoint of single slices"
        )


def logit_names(classes: Sequence[str]) -> list[str]:
    """Return the columns of `predict_images` that hold logits."""
    return [f"logit_{name}" for name in classes]


def predict_images(
    source: Source, config: DeploymentConfig, job: str, copied: pa.Schema, *, flip: bool = False
) -> tuple[pa.Table, pa.Table]:
    """Return the predictions of all images, and all rejects, in the order of the units.

    Args:
        source: The images.
        config: Checkpoint, and what runs it.
        job: Name of the job, for its progress.
        copied: Columns of the images that stand beside their predictions.
        flip: Test-time augmentation, see `DeployedModel`.

    Returns:
        `copied`, and for each class `logit_NAME` as trained, `probability_NAME` calibrated, and `predicted_NAME`:
        whether it is above the threshold; and rejects, columns of `REJECT_SCHEMA`.
    """
    load = partial(
        load_predictor,
        checkpoint=config.checkpoint,
        operating_point=config.operating_point,
        batch_size=config.batch_size,
        flip=flip,
    )
    units = sorted(run_model(source, config, job, copied, load), key=lambda unit: unit.number)
    rejects = [reject for unit in units for reject in unit.rejects]
    predictions = pa.concat_tables(unit.table for unit in units)
    return predictions.combine_chunks(), pa.Table.from_pylist(rejects, schema=REJECT_SCHEMA)


def run_model(
    source: Source, config: ModelRunConfig, job: str, copied: pa.Schema, load: Callable[[str], Columns]
) -> Iterator[UnitOutput]:
    """Pass all images through a network, and yield each unit as soon as all of it is done.

    A batch has images of one unit, in order: its values depend neither on the cluster nor on who was first.

    Args:
        source: The images.
        config: Batch size, GPUs and cluster.
        job: Name of the job, for its progress.
        copied: Columns of the images that stand beside the network's.
        load: Makes the network on a worker, from its device in torch.
    """
    gpus = gpus_each(config.gpus, "gpus")
    needed = {"CPU": 1.0, **({"GPU": gpus} if gpus else {})}
    available = require_capacity(config.cluster, needed, "gpus: a model", "give --gpus 0")
    present = int(available["GPU"] / gpus if gpus else available["CPU"])
    with (
        data_context(job) as context,
        progress_bar(job, total=sum(len(unit.files) for unit in source.units), unit="file") as bar,
        stderr_without(ACTOR_ARGUMENTS),
    ):
        context.target_max_block_size = BLOCK_BYTES
        rows = [{"unit": pickle.dumps(unit)} for unit in source.units]
        decoded = ray.data.from_items(rows, override_num_blocks=len(rows)).flat_map(
            partial(decode_unit, read=source.read, batch_size=config.batch_size, copied=copied), num_cpus=1
        )
        # without a GPU Ray runs both stages in one process, as they take the same resources: no image is copied, and
        # one CPU is enough; with one, decoding has all the CPUs
        model: Any = BatchModel  # Ray's annotations leave out callable classes
        computed = decoded.map(
            model,
            fn_constructor_kwargs={"load": load, "device": "cuda" if gpus else "cpu"},
            # as many models as there is room for now; Ray adds some as the cluster grows, and while batches wait
            compute=ActorPoolStrategy(
                min_size=1, max_size=len(source.units), initial_size=max(1, min(present, len(source.units)))
            ),
            num_cpus=0 if gpus else 1,
            num_gpus=gpus,
        )
        waiting: dict[int, dict[int, dict[str, Any]]] = {}  # unit -> number -> batch
        for batch in computed.iter_rows():
            batches = waiting.setdefault(batch["unit"], {})
            batches[batch["number"]] = batch
            bar.update(int(batch["files"]))
            if any(one["files"] and number + 1 == len(batches) for number, one in batches.items()):
                yield _unit_output(batch["unit"], waiting.pop(batch["unit"]))


def _unit_output(unit: int, batches: dict[int, dict[str, Any]]) -> UnitOutput:
    """Return a unit of all its batches, in order."""
    ordered = [batches[number] for number in sorted(batches)]
    table = pa.concat_tables(pickle.loads(batch["table"]) for batch in ordered)
    return UnitOutput(unit, table, [reject for batch in ordered for reject in pickle.loads(batch["rejects"])])


def decode_unit(
    row: dict[str, Any], *, read: Callable[[Unit], Iterator[Row]], batch_size: int, copied: pa.Schema = COPIED_SCHEMA
) -> Iterator[dict[str, Any]]:
    """Yield a unit's images, `batch_size` at once; the last batch has the rejects and states the files.

    It may have no image.
    """
    set_up_decoding()
    unit: Unit = pickle.loads(row["unit"])
    number = 0
    images: list[dict[str, Any]] = []
    rejects: list[dict[str, Any]] = []

    def batch(files: int, rejects: list[dict[str, Any]]) -> dict[str, Any]:
        pixels = np.stack([image[IMAGE] for image in images]) if images else np.empty((0,), np.uint8)
        table = pa.Table.from_pylist([{name: image[name] for name in copied.names} for image in images], copied)
        return {
            "unit": unit.number,
            "number": number,
            "files": files,
            "images": pickle.dumps(pixels),
            "table": pickle.dumps(table),
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


class BatchModel:
    """A worker's network: turns one decoded batch after the other into a table with its columns."""

    def __init__(self, *, load: Callable[[str], Columns], device: str) -> None:
        """Load the network once."""
        if device == "cpu":
            keep_tensors()
        self._columns = load(device)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a batch of `decode_unit` without the images and with the network's columns in its table."""
        images, table = pickle.loads(row.pop("images")), pickle.loads(row["table"])
        for name, values in self._columns(images).items():
            table = table.append_column(name, values)
        return {**row, "table": pickle.dumps(table)}


def load_predictor(device: str, *, checkpoint: str, operating_point: str, batch_size: int, flip: bool) -> Columns:
    """Return a checkpoint's model that gives `logit_NAME`, `probability_NAME` and `predicted_NAME` of each class."""
    model, card = load_checkpoint(checkpoint)
    card = at_operating_point(card, operating_point)
    deployed = DeployedModel(model, card, device=device, batch_size=batch_size, flip=flip)

    def columns(images: NDArray[np.uint8]) -> dict[str, pa.Array]:
        logits, probabilities = deployed.predict(images)
        kinds = {
            "logit": logits,
            "probability": probabilities,
            "predicted": predicted_classes(probabilities, card),
        }
        return {
            f"{kind}_{name}": pa.array(values[:, index])
            for index, name in enumerate(card.classes)
            for kind, values in kinds.items()
        }

    return columns


def raw_rows(task: UnitTask, unit: Unit) -> Iterator[Row]:
    """Yield the images and rejects of a unit of raw files, made as `convert` makes them."""
    with quiet_pydicom():
        yield from unit_rows(task, unit)


def shard_rows(conversion: str, columns: Sequence[str], unit: Unit) -> Iterator[Row]:
    """Yield the images of a unit's shard."""
    card = read_card(conversion)
    yield from _stored_rows(join(conversion, unit.shard), card.image_shape, card.dtype, columns, CONVERT_AGAIN)


def part_rows(training_set: str, columns: Sequence[str], unit: Unit) -> Iterator[Row]:
    """Yield the images of a part of a training set, which is the only file of its unit, with their split."""
    card = read_training_set_card(training_set)
    (part,) = unit.paths
    for row in _stored_rows(join(training_set, part), card.image_shape, card.dtype, columns, CURATE_AGAIN):
        yield {**row, "split": part.partition("/")[0]}


def _stored_rows(
    location: str, shape: tuple[int, int, int], dtype: str, columns: Sequence[str], remedy: str
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file, a row group at a time."""
    with checked_parquet(location, remedy) as file:
        for batch in batches_by_group(file, [*columns, IMAGE]):
            images = images_of(batch[IMAGE], shape, dtype)
            for row, image in zip(batch.select(list(columns)).to_pylist(), images, strict=True):
                yield {**row, IMAGE: image}
