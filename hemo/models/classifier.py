"""The image classifier, normalised images to logits: downscaling, backbone and head as one module."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from hemo.config.trial import ModelConfig
from hemo.models.backbones import build_backbone, build_shrink, feature_shape, positions, seen_sides


class ImageClassifier(nn.Module):
    """From normalised images (images, channels, height_px, width_px) to logits (images, classes)."""

    def __init__(self, backbone: nn.Module, head: nn.Module, shrink: nn.Module | None = None) -> None:
        """Join them.

        Args:
            backbone: From images to unpooled features.
            head: From (images, positions, features) to logits.
            shrink: From stored images to those that the backbone takes; None: they are the same.
        """
        super().__init__()
        self.shrink = shrink or nn.Identity()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32, shape (images, classes)."""
        return self.head(positions(self.backbone, self.features(images))).float()  # type: ignore[no-any-return]

    def features(self, images: Tensor) -> Tensor:
        """Return the features in the layout of the backbone, see `positions`."""
        return self.backbone(self.shrink(images))  # type: ignore[no-any-return]


def build_model(
    config: ModelConfig, *, channels: int, sides_px: tuple[int, int], classes: int, pretrained: bool = False
) -> ImageClassifier:
    """Make a model with random weights, drawn from torch's global generator.

    Args:
        config: Of the model.
        channels: Channels of the images.
        sides_px: Height and width of the images; the model shrinks them first where it is to see fewer pixels.
        classes: Number of logits.
        pretrained: The backbone with timm's ImageNet weights.

    Raises:
        ConfigError: If the backbone is not known or wants larger images, or these cannot be shrunk to `side_px`.
    """
    seen_px = seen_sides(config, sides_px)
    shape = feature_shape(config.backbone, channels, seen_px)
    backbone = build_backbone(config.backbone, channels, seen_px, pretrained=pretrained)
    return ImageClassifier(backbone, build_head(config, shape, classes), build_shrink(sides_px, seen_px))


def parameter_count(module: nn.Module) -> int:
    """Return the number of trained values."""
    return sum(parameter.numel() for parameter in module.parameters())


def build_head(config: ModelConfig, shape: tuple[int, int], logits: int) -> nn.Sequential:
    """Make pooling -> `hidden_layers` x Dense(`dense_width`, ReLU) -> dropout -> logits.

    Args:
        config: Of the model.
        shape: (positions, features) the backbone gives.
        logits: One a class of the task.

    Returns:
        Module from (images, positions, features) to (images, logits).
    """
    positions, features = shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["pool"] = GlobalAveragePooling() if config.pooling == "gap" else nn.Flatten()
    width = features if config.pooling == "gap" else positions * features
    for layer in range(config.hidden_layers):
        layers[f"dense{layer + 1}"] = nn.Linear(width, config.dense_width)
        layers[f"relu{layer + 1}"] = nn.ReLU()
        width = config.dense_width
    layers["dropout"] = nn.Dropout(config.dropout)
    layers["logits"] = nn.Linear(width, logits)
    return nn.Sequential(layers)


class GlobalAveragePooling(nn.Module):
    """Mean over positions: (images, positions, features) to (images, features)."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the mean over axis 1."""
        return features.mean(dim=1)


def mixed_precision(device: torch.device) -> torch.autocast:
    """Return bf16 autocast on CUDA; on the CPU everything stays float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
