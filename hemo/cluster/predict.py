"""Shards or a raw corpus to the probabilities of a checkpoint, of images and of studies."""

from typing import Any

import pyarrow as pa

from hemo.cluster.predict_images import (
    COPIED_SCHEMA,
    logit_names,
    predict_images,
    raw_source,
    require_single_slices,
    shard_source,
)
from hemo.config.inference import PredictConfig
from hemo.console import print_line
from hemo.corpus.labels import RSNA_CLASSES
from hemo.errors import ConfigError, OutputError, SourceError
from hemo.inference.predict import checkpoint_digest
from hemo.inference.sequence import predict_studies, require_same_encoder
from hemo.inference.studies import slices_of_stacks, study_probabilities
from hemo.models.checkpoint import (
    CheckpointCard,
    at_operating_point,
    load_checkpoint,
    load_sequence_checkpoint,
    read_checkpoint_card,
)
from hemo.models.weight_files import find_checkpoint
from hemo.output_lock import output_lock
from hemo.shards.embeddings import read_card as read_embeddings_card
from hemo.shards.embeddings import read_sequence_inputs
from hemo.shards.writer import write_table
from hemo.storage import exists, join, read_json, write_bytes, write_json


def predict_corpus(config: PredictConfig) -> str:
    """Write the calibrated probability of every class for every image.

    Call it within `connected`.

    Returns:
        The output folder: `predictions.parquet` (`ID_COLUMNS` and, a class, `probability_NAME` and `predicted_NAME`:
        whether it is above the threshold), `studies.parquet` (`max_NAME` and `noisy_or_NAME` over each study's slices,
        see `slices_of_stacks`), `rejects.parquet`, `card.json`, and `submission.csv` in RSNA's long form where the
        checkpoint has all six of its classes. For a sequence model see `predict_studies`.

    Raises:
        SourceError: If source or checkpoint is missing, empty or damaged.
        ConfigError: If the checkpoint was trained on images that this source cannot give, or there is no GPU for it.
        OutputError: If `out` cannot be written, holds other predictions, or another run is writing there.
    """
    config = config.model_copy(update={"checkpoint": find_checkpoint(config.checkpoint)})
    card = at_operating_point(read_checkpoint_card(config.checkpoint), config.operating_point)
    if card.embedded_by is not None:
        return _predict_embedded(config, card)
    if config.corpus == "shards":
        require_single_slices(config.checkpoint, card)
        source = shard_source(config.source, (config.checkpoint, card))
    else:
        source = raw_source(config.source, config.corpus, config.pseudonym_key, config.checkpoint, card)
    load_checkpoint(config.checkpoint)  # damaged weights are refused here, not by Ray once a worker has met them
    inputs = {
        "checkpoint": checkpoint_digest(config.checkpoint),
        "operating_point": card.operating_point,
        "test_time_augmentation": config.test_time_augmentation,
        **source.inputs,
    }
    with output_lock(config.out) as require_held:
        if _is_complete(config.out, inputs):
            print_line(f"predict: {config.out} is complete")
            return config.out
        predictions, rejects = predict_images(
            source, config, "predict", COPIED_SCHEMA, flip=config.test_time_augmentation == "flip"
        )
        predictions = predictions.drop_columns(logit_names(card.classes))
        studies = study_probabilities(slices_of_stacks(predictions), card.classes)
        require_held()
        _write(config.out, source.location, (card, inputs), (predictions, studies, rejects))
    return config.out


def _predict_embedded(config: PredictConfig, card: CheckpointCard) -> str:
    """Do the same with a sequence model, in this process: its input are embeddings, all of them in memory."""
    if config.corpus != "shards" or config.test_time_augmentation != "none":
        raise ConfigError(
            f"source: {card.model.backbone} reads embeddings; give an output folder of `embed`, without corpus and "
            "test_time_augmentation"
        )
    model, _, embedded_by = load_sequence_checkpoint(config.checkpoint)
    embeddings = read_embeddings_card(config.source)
    require_same_encoder(f"source: {config.source}", embeddings, embedded_by)
    inputs = {
        "checkpoint": checkpoint_digest(config.checkpoint),
        "operating_point": card.operating_point,
        "embeddings": embeddings.inputs,
    }
    with output_lock(config.out) as require_held:
        if _is_complete(config.out, inputs):
            print_line(f"predict: {config.out} is complete")
            return config.out
        ids, vectors = read_sequence_inputs(config.source)
        if "flags" not in ids.column_names:
            raise SourceError(
                f"source: {config.source} has no flags, which tell localizers from slices; remove it and run `hemo "
                "embed` again"
            )
        tables = predict_studies(model, card, ids, vectors, config.batch_size)
        require_held()
        _write(config.out, config.source, (card, inputs), tables)
    return config.out


def _write(
    out: str, source: str, made_by: tuple[CheckpointCard, dict[str, Any]], tables: tuple[pa.Table, pa.Table, pa.Table]
) -> None:
    """Write predictions of images and studies, and rejects; the card, with what they were made by, last."""
    (card, inputs), (predictions, studies, rejects) = made_by, tables
    write_table(join(out, "predictions.parquet"), predictions)
    write_table(join(out, "studies.parquet"), studies)
    write_table(join(out, "rejects.parquet"), rejects)
    if set(RSNA_CLASSES) <= set(card.classes):
        write_bytes(join(out, "submission.csv"), submission_csv(predictions))
    counts = {"rows": len(predictions), "rejects": len(rejects), "studies": len(studies)}
    counts["rows_without_study"] = predictions["study"].null_count
    counts["rows_that_are_no_slices"] = len(predictions) - len(slices_of_stacks(predictions))
    write_json(
        join(out, "card.json"),
        {
            "source": source,
            "inputs": inputs,
            "classes": card.classes,
            "thresholds": card.thresholds,
            "calibration": card.model_dump(mode="json")["calibration"],
            **counts,
        },
    )
    print_line(f"predict: {len(predictions)} images of {len(studies)} studies, {len(rejects)} rejects")


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


def _is_complete(out: str, inputs: dict[str, Any]) -> bool:
    if not exists(join(out, "card.json")):
        return False
    card = read_json(join(out, "card.json"))
    if not isinstance(card, dict) or card.get("inputs") != inputs:
        raise OutputError(f"out: {out} holds other predictions; give another folder or remove this one")
    return True
