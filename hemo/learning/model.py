"""Backbone and head as one module."""

from torch import Tensor, nn

from hemo.config.trial import ModelConfig
from hemo.learning.backbones import build_backbone, feature_shape, positions
from hemo.learning.head import build_head


class ImageClassifier(nn.Module):
    """From normalised images (images, channels, height_px, width_px) to logits (images, classes)."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        """Join the two."""
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32, shape (images, classes)."""
        return self.head(positions(self.backbone, self.backbone(images))).float()  # type: ignore[no-any-return]


def build_model(
    config: ModelConfig, *, channels: int, sides_px: tuple[int, int], classes: int, pretrained: bool = False
) -> ImageClassifier:
    """Make a model with random weights, drawn from torch's global generator.

    Args:
        config: Of the model.
        channels: Channels of the images.
        sides_px: Height and width of the images.
        classes: Number of logits.
        pretrained: The backbone with timm's ImageNet weights.

    Raises:
        ConfigError: If the backbone is not known or wants larger images.
    """
    shape = feature_shape(config.backbone, channels, sides_px)
    backbone = build_backbone(config.backbone, channels, sides_px, pretrained=pretrained)
    return ImageClassifier(backbone, build_head(config, shape, classes))


def parameter_count(module: nn.Module) -> int:
    """Return the number of trained values."""
    return sum(parameter.numel() for parameter in module.parameters())
