"""Checks of trials before any work: image size and weights of each model, options that suit model and loss."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from hemo.config.trial import TrialConfig
from hemo.errors import ConfigError, HemoError
from hemo.models.backbones import NONE, build_backbone, feature_shape, seen_sides
from hemo.models.pretrained import check_weights
from hemo.models.sequence import build_sequence_model
from hemo.training.optim import require_stages


def check_models(trials: Mapping[str, TrialConfig], channels: int, sides_px: tuple[int, int]) -> None:
    """Refuse trials whose model cannot work; each distinct model is built, and its weights read, once.

    Args:
        trials: Where each is configured -> trial; errors name it.
        channels: Channels of the images.
        sides_px: Height and width of the images, as they are stored.

    Raises:
        ConfigError: If a backbone is unknown or cannot take the size, images cannot be shrunk to `side_px`, weights
            cannot be read or do not fit, or an option does not suit the backbone or the loss.
    """
    checked = set()
    for where, trial in trials.items():
        model = trial.model
        with where_in_notes(where):
            if model.is_sequence:
                build_sequence_model(model, dimension=1, classes=1)
                check_settings(trial)
                continue
            if (model.backbone, model.side_px, model.weights) not in checked:
                feature_shape(model.backbone, channels, seen_sides(model, sides_px))
                check_weights(model, channels, sides_px)
                checked.add((model.backbone, model.side_px, model.weights))
            check_options(trial, channels, sides_px)


@contextmanager
def where_in_notes(where: str) -> Iterator[None]:
    """Add to an error where the trial is configured."""
    try:
        yield
    except HemoError as error:
        if where:
            error.add_note(f"in {where}")
        raise


def check_options(config: TrialConfig, channels: int, sides_px: tuple[int, int]) -> None:
    """Refuse options that do not suit the backbone or the loss of a trial.

    Args:
        config: The trial; its backbone takes images of this size, see `check_models`.
        channels: Channels of the images.
        sides_px: Height and width of the images.

    Raises:
        ConfigError: The option, why it does not suit, and the way out.
    """
    check_settings(config)
    backbone = config.model.backbone
    if config.training.layer_decay < 1:
        require_stages(_without_memory(backbone, channels, seen_sides(config.model, sides_px)), backbone)


def check_settings(config: TrialConfig) -> None:
    """Refuse options that do not suit each other; no model is built for that.

    Raises:
        ConfigError: The option, why it does not suit, and the way out.
    """
    _check_soft_labels(config)
    _check_warmup(config)
    if config.model.backbone == NONE and config.training.freeze_epochs:
        raise ConfigError(f"trial.training.freeze_epochs: backbone {NONE} has nothing to freeze; leave it at 0")


def _check_warmup(config: TrialConfig) -> None:
    training = config.training
    if training.warmup_epochs > training.epochs:
        raise ConfigError(
            f"trial.training.warmup_epochs: {training.warmup_epochs:g} of {training.epochs} epochs, the learning rate "
            "never reaches its peak; give fewer warmup_epochs or more epochs"
        )


def _check_soft_labels(config: TrialConfig) -> None:
    """Refuse labels between 0 and 1 where the loss has no minimum there.

    The Dice loss of a label t falls with the probability p wherever t > 0.366, and rises elsewhere, whatever p is: it
    is least at 0 or 1, never at t.
    """
    if config.training.loss != "dice":
        return
    softened = {
        "training.label_smoothing": config.training.label_smoothing,
        "augment.mixup_alpha": config.augment.mixup_alpha,
    }
    for name, value in softened.items():
        if value:
            raise ConfigError(
                f"trial.{name}: {value:g} makes labels between 0 and 1, loss dice leads to 0 or 1 only; leave it at 0 "
                "or take another loss"
            )


def _without_memory(backbone: str, channels: int, sides_px: tuple[int, int]) -> nn.Module:
    with torch.device("meta"):
        return build_backbone(backbone, channels, sides_px)
