"""Shards or a training set to embeddings: decoding on CPUs, then a pool of encoders; a part of vectors a unit."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from hemo.cluster.capacity import gpus_each
from hemo.cluster.predict_images import (
    COPIED_SCHEMA,
    Columns,
    Source,
    part_source,
    require_single_slices,
    run_model,
    shard_source,
)
from hemo.config.curate import SPLITS
from hemo.config.inference import EmbedConfig
from hemo.config.trial import ModelConfig
from hemo.console import print_line
from hemo.curation.card import TrainingSetCard
from hemo.curation.card import read_card as read_training_set_card
from hemo.errors import ConfigError, OutputError, SourceError
from hemo.models.backbones import pretrained_settings
from hemo.models.checkpoint import read_checkpoint_card
from hemo.models.encoder import Encoder, checkpoint_encoder, dimension, weights_encoder
from hemo.models.pretrained import weights_origin
from hemo.models.weight_files import find_checkpoint, find_weights
from hemo.output_lock import output_lock
from hemo.shards.card import ConversionCard
from hemo.shards.card import read_card as read_conversion_card
from hemo.shards.embeddings import PARTS, PROBABILITIES, VECTOR, EmbeddingsCard, part_name, rows_of_part
from hemo.shards.schema import ID_COLUMNS
from hemo.shards.writer import write_table
from hemo.storage import exists, join, list_files, read_json, write_json
from hemo.training.reporting import report_out_of_memory
from hemo.trials.key import weights_fingerprint

INPUTS = "inputs.json"
"""What decides the vectors, written before the first part: a run that goes on must have the same."""

DEVICE = "device"
"""Of the inputs: the kind of device that computes the vectors, `cuda` or `cpu`."""


@dataclass(frozen=True)
class ImagesToEmbed:
    """Images to embed."""

    source: Source
    columns: pa.Schema  # that stand beside the vectors
    card: ConversionCard | TrainingSetCard

    @property
    def sides_px(self) -> tuple[int, int]:
        """Height and width."""
        return self.card.height_px, self.card.width_px


def embed_images(config: EmbedConfig) -> str:
    """Write a vector for each image of shards or of a training set; parts that are there are left alone.

    Call it within `connected`.

    Returns:
        The output folder: `embeddings/part-NNNNNN.parquet`, one a unit, with the ids of predictions (of a training set
        also `split`) and `embedding`, a list of as many numbers as the card says, of a checkpoint also `probabilities`,
        calibrated, a list of float32 with one a class of the card; `card.json`, written last.

    Raises:
        SourceError: If source or checkpoint is missing, empty or damaged.
        ConfigError: If the encoder does not take these images, or its weights are not those of its backbone.
        OutputError: If `out` cannot be written, holds other embeddings, or another run is writing there.
    """
    if config.checkpoint:
        config = config.model_copy(update={"checkpoint": find_checkpoint(config.checkpoint)})
    images = _images_to_embed(config)
    encoder = load_encoder(config, len(images.card.channels), images.sides_px, "cpu")  # refuses bad weights
    inputs = {**images.source.inputs, **_encoder_inputs(config)}
    with output_lock(config.out, (PARTS,)) as require_held:
        if is_complete(config.out, inputs):
            print_line(f"embed: {config.out} is complete")
            return config.out
        inputs[DEVICE] = "cuda" if gpus_each(config.gpus, "gpus") else "cpu"
        require_same_device(config.out, inputs[DEVICE])
        write_json(join(config.out, INPUTS), inputs)
        _write_parts(config, images)
        card = _card(config, images, encoder, inputs)
        require_held()
        write_json(join(config.out, "card.json"), card.model_dump(mode="json"))
    print_line(f"embed: {card.rows:,} images, {card.dimension:,} numbers each")
    return config.out


def _images_to_embed(config: EmbedConfig) -> ImagesToEmbed:
    """Find the images, and refuse those that the encoder was not trained on.

    Raises:
        SourceError: If the source is no finished output of `convert` or `curate`.
        ConfigError: If the checkpoint was trained on other images, or they are Hounsfield units.
    """
    card_file = join(config.source, "card.json")
    content = read_json(card_file) if exists(card_file) else {}
    if not isinstance(content, dict) or not {"channels", "image"} <= set(content):
        raise SourceError(f"source: {config.source} holds no images; give an output folder of `convert` or `curate`")
    checkpoint = (config.checkpoint, read_checkpoint_card(config.checkpoint)) if config.checkpoint else None
    if "splits" in content:
        source = part_source(config.source, SPLITS, checkpoint, ID_COLUMNS, "source")
        columns = COPIED_SCHEMA.append(pa.field("split", pa.string()))
        images = ImagesToEmbed(source, columns, read_training_set_card(config.source))
    else:
        if checkpoint:
            require_single_slices(*checkpoint)
        source = shard_source(config.source, checkpoint)
        images = ImagesToEmbed(source, COPIED_SCHEMA, read_conversion_card(config.source))
    if images.card.dtype != "uint8":
        raise ConfigError(
            f"source: {config.source} has {images.card.dtype} Hounsfield units, encoders take windows of 8 bits; run "
            "`hemo convert` with --pixels windows"
        )
    return images


def _model(config: EmbedConfig) -> ModelConfig:
    """Return the backbone's config, of the checkpoint or of the job."""
    if config.checkpoint:
        return read_checkpoint_card(config.checkpoint).model
    return ModelConfig(backbone=config.backbone, weights=config.weights, side_px=config.side_px)


def load_encoder(config: EmbedConfig, channels: int, sides_px: tuple[int, int], device: str) -> Encoder:
    """Return the encoder on a device.

    Raises:
        UserError: If its weights cannot be loaded, or do not take images of these channels and sides.
    """
    if config.checkpoint:
        return checkpoint_encoder(config.checkpoint, config.pooling, device)
    return weights_encoder(_model(config), channels=channels, sides_px=sides_px, pooling=config.pooling, device=device)


def _encoder_inputs(config: EmbedConfig) -> dict[str, Any]:
    """Return what of the encoder decides the vectors: the content of its weights, not where they are."""
    location = config.checkpoint or config.weights
    if location == "imagenet":
        weights = f"imagenet: {weights_origin(pretrained_settings(config.backbone))}"
    else:
        weights = weights_fingerprint(location)
    model = _model(config)
    chosen = {"pooling": config.pooling, "dtype": config.dtype}
    head = {"probabilities": list(_classes(config))} if config.checkpoint else {}
    return {"backbone": model.backbone, "weights": weights, "side_px": model.side_px, **chosen, **head}


def _classes(config: EmbedConfig) -> tuple[str, ...]:
    """Return the classes that the encoder gives probabilities of; a backbone has none."""
    return read_checkpoint_card(config.checkpoint).classes if config.checkpoint else ()


def _trained_on(config: EmbedConfig) -> str:
    """Return the digest of the training set of the encoder's checkpoint; empty: it is none of hemo's."""
    checkpoint = config.checkpoint or ("" if config.weights == "imagenet" else find_weights(config.weights).checkpoint)
    return read_checkpoint_card(checkpoint).training_set if checkpoint else ""


def is_complete(out: str, inputs: dict[str, Any]) -> bool:
    """Return whether nothing is left to do, on whatever kind of device it was done.

    Raises:
        OutputError: If the folder was begun with other inputs, or is of another job.
    """
    complete, begun = exists(join(out, "card.json")), _begun(out)
    begun.pop(DEVICE, None)
    if begun != inputs if begun else complete:
        raise OutputError(f"out: {out} holds other embeddings or the output of another job; give another folder")
    return complete


def require_same_device(out: str, device: str) -> None:
    """Refuse to add vectors to those of another kind of device: on CUDA they are computed in bfloat16.

    Raises:
        OutputError: With both kinds.
    """
    begun = _begun(out).get(DEVICE, "another kind of device")
    if begun != device and list_files(join(out, PARTS)):
        raise OutputError(
            f"out: {out} was begun on {begun}, this run is on {device}, whose vectors differ in their rounding; go on "
            "where it was begun (see `gpus`), or give another folder"
        )


def _begun(out: str) -> dict[str, Any]:
    """Return the inputs with which a folder was begun; empty where it was not."""
    content = read_json(join(out, INPUTS)) if exists(join(out, INPUTS)) else {}
    return content if isinstance(content, dict) else {INPUTS: content}


def _write_parts(config: EmbedConfig, images: ImagesToEmbed) -> None:
    """Write the parts that are not there yet."""
    there = set(list_files(join(config.out, PARTS)))
    lacking = [unit for unit in images.source.units if part_name(unit.number).partition("/")[2] not in there]
    source = replace(images.source, units=lacking)
    load = partial(load_columns, config=config, channels=len(images.card.channels), sides_px=images.sides_px)
    for unit in run_model(source, config, "embed", images.columns, load) if lacking else ():
        write_table(join(config.out, part_name(unit.number)), unit.table)


def load_columns(device: str, *, config: EmbedConfig, channels: int, sides_px: tuple[int, int]) -> Columns:
    """Return an encoder that gives the column of vectors, of a checkpoint also that of probabilities."""
    encoder = load_encoder(config, channels, sides_px, device)
    classes = _classes(config)
    length = dimension(_model(config), channels=channels, sides_px=sides_px, pooling=config.pooling)

    def columns(images: NDArray[np.uint8]) -> dict[str, pa.Array]:
        vectors = np.empty((0, length), config.dtype)
        probabilities = np.empty((0, len(classes)), np.float32)
        if len(images):
            with report_out_of_memory(len(images), ConfigError):
                pixels = torch.from_numpy(images).to(encoder.device)
                if classes:
                    features, of_head = encoder.features_and_probabilities(pixels)
                    probabilities = of_head.cpu().numpy()
                else:
                    features = encoder.features(pixels)
            with np.errstate(over="ignore"):  # refused below
                vectors = features.flatten(1).cpu().numpy().astype(config.dtype)
        if not np.isfinite(vectors).all():
            cure = "give --dtype float32" if config.dtype == "float16" else "give other weights"
            raise ConfigError(f"dtype: vectors of some images are NaN or infinite in {config.dtype}; {cure}")
        return {VECTOR: _lists(vectors), **({PROBABILITIES: _lists(probabilities)} if classes else {})}

    return columns


def _lists(rows: NDArray[np.floating]) -> pa.FixedSizeListArray:
    """Return (rows, numbers) as a column of lists."""
    values = pa.array(rows.reshape(-1), pa.from_numpy_dtype(rows.dtype))
    return pa.FixedSizeListArray.from_arrays(values, rows.shape[1])


def _card(config: EmbedConfig, images: ImagesToEmbed, encoder: Encoder, inputs: dict[str, Any]) -> EmbeddingsCard:
    """Return the card of the whole output."""
    model, sides_px, numbers = _model(config), images.sides_px, [unit.number for unit in images.source.units]
    return EmbeddingsCard(
        source=images.source.location,
        inputs=inputs,
        backbone=model.backbone,
        pooling=config.pooling,
        channels=images.card.channels,
        height_px=sides_px[0],
        width_px=sides_px[1],
        side_px=model.side_px,
        mean=encoder.normalisation.mean,
        std=encoder.normalisation.std,
        dimension=dimension(model, channels=len(images.card.channels), sides_px=sides_px, pooling=config.pooling),
        dtype=config.dtype,
        classes=_classes(config),
        trained_on=_trained_on(config),
        rows=sum(rows_of_part(config.out, number) for number in numbers),
        parts=len(numbers),
    )
