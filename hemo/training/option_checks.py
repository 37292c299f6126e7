"""Which options of training suit a model: what would do nothing, or other than it says, is refused before work."""

import torch
from torch import nn

from hemo.config.trial import ModelConfig, TrialConfig
from hemo.errors import ConfigError
from hemo.models.backbones import NONE, build_backbone, feature_shape, seen_sides
from hemo.training.optim import require_stages


def check_size(config: ModelConfig, channels: int, sides_px: tuple[int, int]) -> None:
    """Refuse a backbone that cannot take the images, as they are stored or shrunk to the side it is to see.

    Raises:
        ConfigError: If the backbone is not known or cannot take the size, or images cannot be shrunk to `side_px`.
    """
    feature_shape(config.backbone, channels, seen_sides(config, sides_px))


def check_options(config: TrialConfig, channels: int, sides_px: tuple[int, int]) -> None:
    """Refuse options that do not suit the backbone or the loss of a trial.

    Args:
        config: The trial; its backbone takes images of this size, see `check_size`.
        channels: Channels of the images.
        sides_px: Height and width of the images.

    Raises:
        ConfigError: The option, why it does not suit, and the way out.
    """
    _check_soft_labels(config)
    training, backbone = config.training, config.model.backbone
    if training.warmup_epochs > training.epochs:
        raise ConfigError(
            f"trial.training.warmup_epochs: {training.warmup_epochs:g} of {training.epochs} epochs, the learning rate "
            "never comes to its peak; give fewer warmup_epochs or more epochs"
        )
    if backbone == NONE and training.freeze_epochs:
        raise ConfigError(f"trial.training.freeze_epochs: backbone {NONE} has nothing to freeze; leave it at 0")
    if training.layer_decay < 1:
        require_stages(_without_memory(backbone, channels, seen_sides(config.model, sides_px)), backbone)


def _check_soft_labels(config: TrialConfig) -> None:
    """Refuse labels between 0 and 1 where the loss does not lead to them.

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
