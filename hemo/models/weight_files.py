"""Find weight files by location: those a trial starts from, and those of a checkpoint; all without torch."""

from dataclasses import dataclass
from typing import Any

from pydantic import Field

from hemo.config.types import Config
from hemo.errors import ConfigError, SourceError, reason_of
from hemo.storage import exists, filesystem, join, read_json

CARD = "checkpoint.json"
WEIGHTS = "weights.safetensors"
FOLDER = "checkpoint"


class EmbeddedBy(Config):
    """What made the embeddings that a sequence model reads."""

    dimension: int = Field(description="numbers in a vector")
    classes: tuple[str, ...] = Field(
        (), description="of the probabilities that stand beside a vector; none: there are none"
    )
    inputs: dict[str, Any] = Field(description="of the embeddings' card: images, weights, pooling, dtype")


@dataclass(frozen=True)
class StartingWeights:
    """What a location in `model.weights` stands for."""

    file: str  # safetensors or a state dict
    checkpoint: str = ""  # folder of a checkpoint, if the location is one

    @property
    def deciding(self) -> tuple[str, ...]:
        """Files whose content decides what a model starts from: a checkpoint's card has the normalisation."""
        return (self.file, join(self.checkpoint, CARD)) if self.checkpoint else (self.file,)


def find_weights(location: str) -> StartingWeights:
    """Find starting weights: a file, the folder of a checkpoint, or of a record that has one.

    The weights of a checkpoint, beside its card, count as that checkpoint. A location where nothing is counts as a
    file: reading it raises that it is missing.

    Args:
        location: Path or URI.

    Raises:
        ConfigError: If it is a folder of something else.
    """
    fs, path = filesystem(location)
    if fs.isfile(path) or not fs.isdir(path):
        folder = location.removesuffix(WEIGHTS).rstrip("/")
        is_checkpoint = location == join(folder, WEIGHTS) and exists(join(folder, CARD))
        return StartingWeights(location, folder if is_checkpoint else "")
    try:
        folder = find_checkpoint(location)
    except SourceError as error:
        raise ConfigError(f"model.weights: {error}, or a file of weights") from error
    return StartingWeights(join(folder, WEIGHTS), folder)


def find_checkpoint(location: str) -> str:
    """Return the folder of a checkpoint.

    Args:
        location: Path or URI of that folder, or of the record that has it.

    Raises:
        SourceError: If there is none; of a trial that failed, why.
    """
    for folder in (location, join(location, FOLDER)):
        if exists(join(folder, CARD)):
            return folder
    record = join(location.rstrip("/").removesuffix(f"/{FOLDER}"), "record.json")
    content = read_json(record) if exists(record) else None
    if isinstance(content, dict) and content.get("status") == "failed":
        raise SourceError(
            f"{location} has no checkpoint, the trial failed: {content.get('reason')}; run it again, or give another "
            f"record or its {FOLDER} folder"
        )
    raise SourceError(f"{location} is no checkpoint (it has no {CARD}); give a record or its {FOLDER} folder")


def read_embedded_by(checkpoint: str) -> EmbeddedBy | None:
    """Return what made the embeddings of a sequence model; None of a model of images, and without a checkpoint.

    Args:
        checkpoint: Its folder, a path or URI.

    Raises:
        SourceError: If its card cannot be read.
    """
    card = join(checkpoint, CARD)
    content = read_json(card) if exists(card) else {}
    found = content.get("embedded_by") if isinstance(content, dict) else None
    return EmbeddedBy.model_validate(found) if found else None


def unreadable_weights(location: str, error: OSError) -> ConfigError:
    """Return the error about starting weights that cannot be read."""
    return ConfigError(f"model.weights: {location}: {reason_of(error)}; give `none`, `imagenet`, or such a file")
