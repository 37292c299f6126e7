"""Normalisation of stored pixels, the image classifier (downscaling, backbone, head), and its calibrated logits."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hemo.config.trial import ModelConfig
from hemo.models.backbones import build_backbone, build_shrink, feature_shape, positions, seen_sides
from hemo.stats.calibration import LOG_ALMOST_ONE, Calibration


@dataclass(frozen=True)
class Normalisation:
    """How pixels become the model's input: value / 255, minus `mean`, over `std`, by channel. Constant for a model."""

    mean: tuple[float, ...]  # one a channel, in 0..1
    std: tuple[float, ...]


def plain_normalisation(channels: int) -> Normalisation:
    """Return mean 0.5 and std 0.25: windowed greys end within -2..2, whatever the corpus."""
    return Normalisation((0.5,) * channels, (0.25,) * channels)


def to_unit_range(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in 0..1, channels-last in memory as the weights of `ImageClassifier`."""
    return images.to(torch.float32, memory_format=torch.channels_last) / 255.0


def normalise(images: Tensor, normalisation: Normalisation) -> Tensor:
    """Return float images in 0..1, shape (images, channels, height_px, width_px), as the model takes them.

    Mean and standard deviation are copied without waiting for the device, as a plain `new_tensor` would.
    """
    mean, std = (
        torch.tensor(values, dtype=images.dtype).to(images.device, non_blocking=True)[:, None, None]
        for values in (normalisation.mean, normalisation.std)
    )
    return (images - mean) / std


def model_input(images: Tensor, normalisation: Normalisation | None) -> Tensor:
    """Return uint8 images as float32, normalised; None: these are features, which are taken as they are."""
    return images if normalisation is None else normalise(to_unit_range(images), normalisation)


class ImageClassifier(nn.Module):
    """From normalised images (images, channels, height_px, width_px) to logits (images, classes).

    Its weights are channels-last in memory: convolutions are faster so on CUDA, and on the CPU by up to 1.8 times
    (benchmarks/results/2026-11-27-layout.md).
    """

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
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32, shape (images, classes)."""
        return self.head(self.by_position(images)).float()  # type: ignore[no-any-return]

    def on_features(self) -> "ImageClassifier":
        """Return a model of the same head that takes features of the backbone, (images, positions, features)."""
        return ImageClassifier(nn.Identity(), self.head)

    def by_position(self, images: Tensor) -> Tensor:
        """Return the features that the head takes, (images, positions, features)."""
        return positions(self.backbone, self.features(images))

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


def calibrated_logits(logits: Tensor, calibration: Calibration, *, exclusive: bool) -> Tensor:
    """Return calibrated logits as `hemo.stats.calibration.calibrated_logits`, in torch: ONNX holds this too.

    Args:
        logits: (images, classes), float32 or float64, which the result is as well.
        calibration: As fitted for these classes.
        exclusive: Whether each image has one class only.
    """
    scaled = logits
    if calibration.slopes:
        scaled = scaled * logits.new_tensor(calibration.slopes) + logits.new_tensor(calibration.intercepts)
    sampled = calibration.sampled
    if sampled is None:
        return scaled
    own = torch.arange(logits.shape[1], device=logits.device) == sampled.column
    shifted = scaled + sampled.log_odds * own.to(logits.dtype)
    if exclusive or not calibration.couples_classes:
        return shifted
    column = slice(sampled.column, sampled.column + 1)
    ratio = functional.logsigmoid(shifted[:, column]) - functional.logsigmoid(scaled[:, column])
    log_probabilities = (functional.logsigmoid(scaled) + ratio).clamp(max=LOG_ALMOST_ONE)
    return torch.where(own, shifted, log_probabilities - torch.log(-torch.expm1(log_probabilities)))


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
