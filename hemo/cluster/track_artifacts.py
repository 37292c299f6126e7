"""What W&B is given of a model, and of the training set it came from: never pixels, ids or predictions."""

import json
import re
from pathlib import Path

import wandb

from hemo.curation.card import TrainingSetCard
from hemo.inference.export import to_onnx
from hemo.models.checkpoint import CheckpointCard, load_checkpoint, read_checkpoint_card
from hemo.trials.record import TrialRecord, read_records, weights_fingerprint
from hemo.trials.run import checkpoint_folder

CARD_FIELDS = {
    "schema_version": True,
    "digest": True,
    "image": True,
    "classes": True,
    "channels": True,
    "dtype": True,
    "height_px": True,
    "width_px": True,
    "split": True,
    "splits": True,
    "reductions": True,
}
"""What leaves the house of a training set's card; its config names folders, its audit names patients."""


def training_set_artifact(card: TrainingSetCard, folder: Path) -> wandb.Artifact:
    """Return the training set as an artifact, the same for every trial on it: a file that counts and describes.

    Args:
        card: Of the training set.
        folder: Where the file is written, which must stay until the run is sent.
    """
    told = card.model_dump(mode="json", include=CARD_FIELDS)
    metadata = {"digest": card.digest, "split": card.split, "rows": {name: it.rows for name, it in card.splits.items()}}
    artifact = wandb.Artifact(f"training-set-{card.digest}", type="dataset", metadata=metadata)
    _add(artifact, _written(folder / "training-set.json", told), "card.json")
    return artifact


def model_artifact(out: str, record: TrialRecord, folder: Path, *, onnx: bool) -> wandb.Artifact:
    """Return a trial's model as a version of all models of its task on its training set.

    Args:
        out: Folder of records.
        record: Of a complete trial.
        folder: Where files are written that must stay until the run is sent, as the checkpoint must.
        onnx: Whether `model.onnx` goes with it.
    """
    checkpoint = checkpoint_folder(out, record.digest)
    told = record.model_dump(include={"digest", "classes", "thresholds", "best_epoch", "metrics", "parameters"})
    metadata = {**told, "training_set": record.training_set, "backbone": record.config.model.backbone}
    artifact = wandb.Artifact(model_name(record), type="model", metadata=metadata)
    card = _unplaced(read_checkpoint_card(checkpoint))
    _add(artifact, Path(checkpoint, "weights.safetensors"))
    _add(artifact, _written(folder / "checkpoint.json", card.model_dump(mode="json")))
    if onnx:
        model, _ = load_checkpoint(checkpoint)
        (folder / "model.onnx").write_bytes(to_onnx(model, card).SerializeToString())
        _add(artifact, folder / "model.onnx")
    return artifact


def model_name(record: TrialRecord) -> str:
    """Return the name all models share that answer the same question from the same training set."""
    question = record.config.target if record.config.task == "binary" else record.config.task
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', question)[:80]}-{record.training_set}"


def best_of(out: str, record: TrialRecord) -> list[str]:
    """Return the alias `best` if no complete trial in `out` with the same name has a lower validation loss."""
    name = model_name(record)
    rivals = [
        other.best_epoch_val["loss"]
        for other in read_records(out)
        if other.status == "complete" and model_name(other) == name
    ]
    return ["best"] if record.best_epoch_val["loss"] <= min(rivals) else []


def unplaced_weights(weights: str) -> str:
    """Return `none`, `imagenet`, or of a file its SHA-256 in place of its path, which may name a person."""
    return weights if weights in ("none", "imagenet") else weights_fingerprint(weights)


def _unplaced(card: CheckpointCard) -> CheckpointCard:
    """Return a checkpoint's card without the path of the weights it started from."""
    model = card.model.model_copy(update={"weights": unplaced_weights(card.model.weights)})
    return card.model_copy(update={"model": model})


def _written(file: Path, content: object) -> Path:
    file.write_text(json.dumps(content, indent=1, sort_keys=True))
    return file


def _add(artifact: wandb.Artifact, file: Path, name: str | None = None) -> None:
    """Add a file where it lies: W&B would copy it to the user's home, where weights pile up until they are sent."""
    artifact.add_file(str(file.absolute()), name=name, policy="immutable", skip_cache=True)
