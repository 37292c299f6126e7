"""Read and write checkpoints: `weights.safetensors`, `checkpoint.json`, and `state.pt` to resume a trial."""

import io
from typing import Any, TypeVar

import safetensors.torch
import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from hemo.config.trial import ModelConfig
from hemo.config.types import Config, first_fault
from hemo.errors import ConfigError, SourceError
from hemo.models.classifier import ImageClassifier, Normalisation, build_model, calibrated_logits
from hemo.models.sequence import SequenceClassifier, build_sequence_model
from hemo.models.weight_files import CARD, WEIGHTS, EmbeddedBy
from hemo.stats.calibration import Calibration
from hemo.stats.choices import BALANCED_ACCURACY
from hemo.storage import exists, join, read_bytes, read_json, write_bytes, write_json

M = TypeVar("M", bound=nn.Module)

CHECKPOINT_SCHEMA_VERSION = 3
"""3: calibration, and thresholds of several operating points."""


class CheckpointCard(Config):
    """`checkpoint.json`: classes, images, normalisation, calibration and thresholds of the weights."""

    schema_version: int = CHECKPOINT_SCHEMA_VERSION
    model: ModelConfig
    task: str = Field(description="binary, multi_label or multi_class")
    classes: tuple[str, ...] = Field(description="of the logits, in order")
    channels: tuple[str, ...]
    image: dict[str, Any] = Field(description="how the images were made: the training set's image config")
    height_px: int
    width_px: int
    mean: tuple[float, ...] = Field(description="by channel: input = (value / 255 - mean) / std")
    std: tuple[float, ...]
    thresholds: tuple[float, ...] = Field(
        description="one a class, calibrated probability above which an image has it; multi_class: none, the most "
        "probable counts"
    )
    calibration: Calibration = Field(
        Calibration(), description="of the logits, before sigmoid or softmax; fitted on validation"
    )
    operating_point: str = Field(
        BALANCED_ACCURACY, description="rule by which `thresholds` were chosen; multi_class: of no meaning"
    )
    operating_points: dict[str, tuple[float, ...]] = Field(
        {}, description="rule -> thresholds chosen by it, one a class; multi_class: none"
    )
    training_set: str = Field(description="digest of the training set's card")
    embedded_by: EmbeddedBy | None = Field(None, description="of a sequence model: its embeddings")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of each stored image: (channels, height_px, width_px)."""
        return len(self.channels), self.height_px, self.width_px

    @property
    def normalisation(self) -> Normalisation:
        """How pixels become the model's input."""
        return Normalisation(self.mean, self.std)


def at_operating_point(card: CheckpointCard, name: str) -> CheckpointCard:
    """Return a checkpoint's card with the thresholds of another operating point.

    Args:
        card: Of the checkpoint.
        name: As in `operating_points`; `checkpoint`: the one the trial was configured for.

    Raises:
        ConfigError: If the checkpoint has no such thresholds.
    """
    if name == "checkpoint":
        return card
    if name not in card.operating_points:
        known = ", ".join(card.operating_points) or "none: of exclusive classes the most probable is predicted"
        raise ConfigError(f"operating_point: the checkpoint has no thresholds of {name}; it has {known}")
    return card.model_copy(update={"operating_point": name, "thresholds": card.operating_points[name]})


def to_probabilities(logits: Tensor, card: CheckpointCard) -> Tensor:
    """Return calibrated probabilities: softmax over exclusive classes, sigmoid of each class otherwise."""
    exclusive = card.task == "multi_class"
    calibrated = calibrated_logits(logits, card.calibration, exclusive=exclusive)
    return calibrated.softmax(dim=1) if exclusive else calibrated.sigmoid()


def write_checkpoint(location: str, module: nn.Module, card: CheckpointCard) -> None:
    """Write weights and card; the card comes last and makes the checkpoint valid."""
    weights = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    write_bytes(join(location, WEIGHTS), safetensors.torch.save(weights))
    write_json(join(location, CARD), card.model_dump(mode="json"))


def load_checkpoint(location: str) -> tuple[ImageClassifier, CheckpointCard]:
    """Rebuild the model of a checkpoint, on the CPU, in evaluation mode.

    Args:
        location: Folder of the checkpoint, a path or URI.

    Raises:
        SourceError: If it is no checkpoint, or weights and card do not belong together.
        ConfigError: If it is of a sequence model.
    """
    card = read_checkpoint_card(location)
    if card.embedded_by is not None:
        raise ConfigError(
            f"{location} is of sequence model {card.model.backbone}: it takes embeddings, not images; `hemo predict` "
            "applies it to an output folder of `embed`"
        )
    height_px, width_px = card.height_px, card.width_px
    with torch.random.fork_rng(devices=[]):  # building draws initial weights; the caller's generator is left alone
        model = build_model(
            card.model, channels=len(card.channels), sides_px=(height_px, width_px), classes=len(card.classes)
        )
    return _with_weights(model, location), card


def load_sequence_checkpoint(location: str) -> tuple[SequenceClassifier, CheckpointCard, EmbeddedBy]:
    """Rebuild the sequence model of a checkpoint, on the CPU, in evaluation mode.

    Returns:
        Model, card, and what made its embeddings.

    Raises:
        SourceError: If it is no checkpoint, or weights and card do not belong together.
        ConfigError: If it is of a model of images.
    """
    card = read_checkpoint_card(location)
    if card.embedded_by is None:
        raise ConfigError(f"{location} is of {card.model.backbone}, a model of images, not of series")
    with torch.random.fork_rng(devices=[]):
        model = build_sequence_model(
            card.model,
            dimension=card.embedded_by.dimension,
            probabilities=len(card.embedded_by.classes),
            classes=len(card.classes),
        )
    return _with_weights(model, location), card, card.embedded_by


def _with_weights(model: M, location: str) -> M:
    """Return a model with the weights of a checkpoint, in evaluation mode."""
    try:
        model.load_state_dict(safetensors.torch.load(read_bytes(join(location, WEIGHTS))))
    except FileNotFoundError as error:
        raise SourceError(f"{location} has no {WEIGHTS}; train again") from error
    except (SafetensorError, RuntimeError) as error:
        raise SourceError(f"{location}: {WEIGHTS} does not fit {CARD}; train again") from error
    return model.eval()


def read_checkpoint_card(location: str) -> CheckpointCard:
    """Return a checkpoint's card.

    Raises:
        SourceError: If there is none, it is of another version, or damaged.
    """
    card_file = join(location, CARD)
    if not exists(card_file):
        raise SourceError(f"{location} is no checkpoint (it has no {CARD}); give a record's checkpoint folder")
    content = read_json(card_file)
    if not isinstance(content, dict) or content.get("schema_version") != CHECKPOINT_SCHEMA_VERSION:
        raise SourceError(f"{card_file} is no checkpoint of version {CHECKPOINT_SCHEMA_VERSION}; train again")
    try:
        return CheckpointCard.model_validate(content)
    except ValidationError as error:
        raise SourceError(f"{card_file} is damaged: {first_fault(error)}; train again") from error


def write_state(location: str, state: dict[str, Any]) -> None:
    """Write a resumable state (tensors, numbers, texts, lists, dicts), whole or not at all."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(location, buffer.getvalue())


def read_state(location: str) -> dict[str, Any] | None:
    """Return the state at `location`, None where there is none; only tensors and plain values are unpacked.

    Raises:
        SourceError: If it is damaged.
    """
    if not exists(location):
        return None
    content = read_bytes(location)
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler raises whatever damaged bytes lead it to
        raise SourceError(f"{location} is damaged; remove it, and the trial begins anew") from error
    return state
