"""A backbone as an encoder: stored pixels to feature vectors, pooled or whole."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hemo.config.trial import ModelConfig
from hemo.models.backbones import feature_shape, seen_sides
from hemo.models.checkpoint import CheckpointCard, load_checkpoint, to_probabilities
from hemo.models.classifier import ImageClassifier, Normalisation, mixed_precision, model_input
from hemo.models.pretrained import normalisation_of, starting_backbone

Pooling = Literal["gap", "flatten"]


@dataclass(frozen=True)
class Encoder:
    """A backbone in evaluation mode: batch norm statistics are fixed, nothing is dropped."""

    model: ImageClassifier
    normalisation: Normalisation
    pooling: Pooling  # `gap`: the mean over all positions; `flatten`: each position
    device: torch.device
    card: CheckpointCard | None = None  # of a checkpoint, whose head gives probabilities

    def features(self, images: Tensor) -> Tensor:
        """Return what the head of a model with this pooling takes, without gradients.

        On CUDA autocast computes in bfloat16, as in training; on the CPU everything is float32.

        Args:
            images: (images, channels, height_px, width_px), uint8, on the device.

        Returns:
            Tensor (images, positions, features), float32; with `gap` there is one position.
        """
        return pooled(self._by_position(images).float(), self.pooling)

    def features_and_probabilities(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return `features`, and the checkpoint's calibrated probabilities, float32, (images, classes).

        The encoder must be of a checkpoint. The backbone runs once for both.
        """
        assert self.card is not None
        features = self._by_position(images)
        with torch.no_grad(), mixed_precision(self.device):
            logits = self.model.head(features).float()
        return pooled(features.float(), self.pooling), to_probabilities(logits, self.card)

    def _by_position(self, images: Tensor) -> Tensor:
        self.model.eval()
        with torch.no_grad(), mixed_precision(self.device):
            return self.model.by_position(model_input(images, self.normalisation))


def pooled(features: Tensor, pooling: Pooling) -> Tensor:
    """Return features (images, positions, features) as they are, or for `gap` their mean as the only position."""
    return features.mean(dim=1, keepdim=True) if pooling == "gap" else features


def checkpoint_encoder(checkpoint: str, pooling: Pooling, device: str) -> Encoder:
    """Return the backbone of a checkpoint.

    Raises:
        SourceError: If it is no checkpoint, or damaged.
    """
    model, card = load_checkpoint(checkpoint)
    return Encoder(model.to(torch.device(device)), card.normalisation, pooling, torch.device(device), card)


def weights_encoder(
    config: ModelConfig, *, channels: int, sides_px: tuple[int, int], pooling: Pooling, device: str
) -> Encoder:
    """Return a backbone with weights that cover all of it.

    Args:
        config: Backbone, weights, and the side to which images are reduced first.
        channels: Channels of the stored images.
        sides_px: Height and width of the stored images.
        pooling: Of the features.
        device: Of torch.

    Raises:
        ConfigError: If the backbone is not known or wants other images, or the weights cannot be read, do not fit, or
            leave a part of it random.
    """
    model = starting_backbone(config, channels=channels, sides_px=sides_px)
    normalisation = normalisation_of(config, channels)
    return Encoder(model.to(torch.device(device)), normalisation, pooling, torch.device(device))


def dimension(config: ModelConfig, *, channels: int, sides_px: tuple[int, int], pooling: Pooling) -> int:
    """Return the length of an image's vector.

    Raises:
        ConfigError: If the backbone cannot take such images.
    """
    positions, features = feature_shape(config.backbone, channels, seen_sides(config, sides_px))
    return features if pooling == "gap" else positions * features
