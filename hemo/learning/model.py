"""Shrinking, backbone and head as one module."""

from torch import Tensor, nn

from hemo.config.trial import ModelConfig
from hemo.learning.backbones import build_backbone, feature_shape, positions
from hemo.learning.head import build_head
from hemo.learning.shrinking import build_shrink, seen_sides


class ImageClassifier(nn.Module):
    """From normalised images (images, channels, height_px, width_px) to logits (images, classes)."""

    def __init__(self, backbone: nn.Module, head: nn.Module, shrink: nn.Module | None = None) -> None:
        """Join them.

        Args:
            backbone: From images to unpooled features.
            head: From (images, positions, features) to logits.
            shrink: From images as they come to those that the backbone takes; None: they are the same.
        """
        super().__init__()
        self.shrink = shrink or nn.Identity()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32, shape (images, classes)."""
        return self.head(positions(self.backbone, self.features(images))).float()  # type: ignore[no-any-return]

    def features(self, images: Tensor) -> Tensor:
        """Return the backbone's features in its own layout, see `positions`."""
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
