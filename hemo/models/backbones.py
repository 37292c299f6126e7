"""Backbones by name, timm's and hemo's: images, downscaled on request, to features before pooling."""

import bisect
import difflib
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg
from torch import Tensor, nn

from hemo.config.trial import ModelConfig
from hemo.errors import ConfigError

SOURCES_BACKBONES = {
    "MobileNet": "mobilenetv1_100",
    "InceptionV3": "inception_v3",
    "Xception": "legacy_xception",
    "ResNet50": "resnet50",
    "ResNet50V2": "resnetv2_50",
    "VGG16": "vgg16",
}
"""Names in `keras.applications`, as published, and timm's model of the same architecture."""

LARGEST_SIDE_TRIED_PX = 512
"""The smallest image of a backbone is searched up to this side, to name it in an error."""

REFUSALS = (RuntimeError, AssertionError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError)
"""Raised by timm's models when images are too small or of a size they cannot divide."""

NONE = "none"
"""No backbone: the head is trained on the pixels themselves."""

FORMS = "CNN(32,64,128), with a number of filters a layer, and none"
"""Names of hemo's own backbones, for errors and lists."""

EXAMPLES = ("CNN(32,64,128)", NONE)

_STACK = re.compile(r"CNN\((\d{1,4}(?:,\d{1,4})*)\)")


def timm_name(backbone: str) -> str:
    """Return timm's name of a backbone.

    Raises:
        ConfigError: If neither `SOURCES_BACKBONES` nor timm have it.
    """
    name = SOURCES_BACKBONES.get(backbone, backbone)
    if timm.is_model(name):
        return name
    close = difflib.get_close_matches(backbone, [*SOURCES_BACKBONES, *timm.list_models()], n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    known = ", ".join(SOURCES_BACKBONES)
    raise ConfigError(
        f"model.backbone: {backbone!r} is no backbone hemo or timm knows{meant} (hemo's are {known}, {FORMS}; "
        "`hemo backbones --containing PART` lists timm's)"
    )


def pretrained_settings(backbone: str) -> PretrainedCfg:
    """Return timm's settings of a backbone's weights: their location, image size, mean and std.

    Raises:
        ConfigError: If neither `SOURCES_BACKBONES` nor timm have the backbone.
    """
    return timm.get_pretrained_cfg(timm_name(backbone)) or PretrainedCfg()


def build_backbone(backbone: str, channels: int, sides_px: tuple[int, int], *, pretrained: bool = False) -> nn.Module:
    """Make a backbone without pooling and classifier.

    Args:
        backbone: A name in `SOURCES_BACKBONES`, timm's, or one of hemo's own, see `own_backbone`.
        channels: Channels of the images.
        sides_px: Height and width of the images.
        pretrained: With timm's ImageNet weights; the first convolution is adapted to `channels`.

    Returns:
        Module from (images, channels, height_px, width_px) to unpooled features, see `positions`.

    Raises:
        ConfigError: If the backbone is not known, or has no such weights.
    """
    own = own_backbone(backbone, channels)
    if own is not None:
        if pretrained:
            raise ConfigError(f"model.weights: there are no ImageNet weights of {backbone}; give `none` or a file")
        return own
    name = timm_name(backbone)
    settings: dict[str, Any] = {"img_size": sides_px} if pretrained_settings(backbone).fixed_input_size else {}
    module: nn.Module = timm.create_model(
        name, pretrained=pretrained, in_chans=channels, num_classes=0, global_pool="", **settings
    )
    if isinstance(module, timm.models.VGG):
        module.pre_logits = nn.Identity()  # type: ignore[assignment]  # VGG's two dense layers of 4,096 are its classifier, not its features
    if isinstance(module, timm.models.VOLO):
        module.num_prefix_tokens = 1  # type: ignore[assignment]  # its class attention puts a token first, and timm's module does not say so
    return module


def positions(backbone: nn.Module, features: Tensor) -> Tensor:
    """Bring all layouts of features to (images, positions, features). Class tokens are left out.

    Args:
        backbone: The module the features come from.
        features: (images, features, rows, cols), (images, rows, cols, features) or (images, tokens, features).
    """
    if features.ndim == 3:
        return features[:, getattr(backbone, "num_prefix_tokens", 0) :]
    if getattr(backbone, "output_fmt", "NCHW") == "NHWC":
        return features.flatten(1, 2)
    return features.flatten(2).transpose(1, 2)


def feature_shape(backbone: str, channels: int, sides_px: tuple[int, int]) -> tuple[int, int]:
    """Return (positions, features) of a backbone at an image size, computed without memory or arithmetic.

    Raises:
        ConfigError: If the backbone is not known, gives no features before pooling, or the images are too small for
            it; the message has the smallest size.
    """
    _require_known(backbone, channels)
    shape = _shape_at(backbone, channels, sides_px)
    if isinstance(shape, tuple):
        return shape
    if own_backbone(backbone, channels) is None:
        _require_some_size(backbone, channels)
    smallest = smallest_side(backbone, channels)
    wanted = f"another size ({shape})" if smallest is None or min(sides_px) >= smallest else f"at least {smallest} px"
    height_px, width_px = sides_px
    raise ConfigError(
        f"model.backbone: {backbone} cannot take images of {height_px} x {width_px} px, it wants {wanted}; "
        "give larger images (--side_px of convert, model.side_px where it is set) or choose another backbone"
    )


def smallest_side(backbone: str, channels: int) -> int | None:
    """Return the smallest side, in px, of square images that a backbone takes; None if there is no such bound.

    There is none where large images are refused as well: the backbone wants multiples of something, or one size.

    Raises:
        ConfigError: If the backbone is not known.
    """
    _require_known(backbone, channels)
    smallest = 1 + bisect.bisect_left(
        range(1, LARGEST_SIDE_TRIED_PX),
        True,
        key=lambda side: isinstance(_shape_at(backbone, channels, (side, side)), tuple),
    )
    return smallest if smallest < LARGEST_SIDE_TRIED_PX else None


def _require_known(backbone: str, channels: int) -> None:
    if own_backbone(backbone, channels) is None:
        timm_name(backbone)


def _require_some_size(backbone: str, channels: int) -> None:
    """Refuse a backbone that takes neither large images nor those it was made for: the size is not the reason then."""
    large = (LARGEST_SIDE_TRIED_PX, LARGEST_SIDE_TRIED_PX)
    _, height_px, width_px = pretrained_settings(backbone).input_size
    shape = _shape_at(backbone, channels, large)
    if isinstance(shape, str) and isinstance(_shape_at(backbone, channels, (height_px, width_px)), str):
        raise ConfigError(f"model.backbone: {backbone} cannot be used without its pooling ({shape}); choose another")


@cache
def _shape_at(backbone: str, channels: int, sides_px: tuple[int, int]) -> tuple[int, int] | str:
    """Return (positions, features), or why the backbone cannot take this size."""
    try:
        with torch.device("meta"), torch.no_grad():
            module = build_backbone(backbone, channels, sides_px).eval()
            shape = positions(module, module(torch.zeros(1, channels, *sides_px))).shape
    except REFUSALS as error:
        return " ".join(str(error).split())
    return shape[1], shape[2]


def own_backbone(backbone: str, channels: int) -> nn.Module | None:
    """Make one of hemo's own backbones by its name; None for other names.

    Args:
        backbone: `CNN(32,64,128)`, or `none`.
        channels: Channels of the images.
    """
    if backbone == NONE:
        return Pixels()
    stack = _STACK.fullmatch(backbone.replace(" ", ""))
    widths = [int(width) for width in stack[1].split(",")] if stack else []
    return convolutions(channels, widths) if widths and 0 not in widths else None


def convolutions(channels: int, widths: Sequence[int]) -> nn.Sequential:
    """Make 3 x 3 convolution -> 2 x 2 maximum -> ReLU for each of `widths`; no padding, the default of Keras.

    The sources take the ReLU before the maximum: values and gradients are the same, at four times as many values.

    Returns:
        Module from (images, channels, height_px, width_px) to (images, widths[-1], rows, cols).
    """
    layers: list[nn.Module] = []
    for inner, outer in zip([channels, *widths], widths, strict=False):
        layers += [nn.Conv2d(inner, outer, kernel_size=3), nn.MaxPool2d(kernel_size=2), nn.ReLU()]
    return nn.Sequential(*layers)


class Pixels(nn.Module):
    """All values of an image as the features of one position, so that pooling leaves them as they are."""

    def forward(self, images: Tensor) -> Tensor:
        """Turn (images, channels, height_px, width_px) into (images, 1, channels * height_px * width_px)."""
        return images.flatten(1)[:, None]


class Shrink(nn.Module):
    """Square images to a smaller side, by area: each pixel is the mean over the square that it covers.

    No pixel is skipped, and each counts once in all, also where the sides do not divide: as `convert` makes the stored
    images, which antialiased bilinear interpolation would blur more, and `adaptive_avg_pool2d` not weigh by area. Two
    products with one matrix are the same in ONNX, of any opset, and sum in the same order each time. They are kept out
    of autocast, whose bfloat16 would move a grey by up to 1.3 of 255 (measured on noise).
    """

    weights: Tensor

    def __init__(self, source_px: int, side_px: int) -> None:
        """Prepare for images of one side; its buffer is in no checkpoint."""
        super().__init__()
        self.register_buffer("weights", area_weights(source_px, side_px), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Turn (images, channels, source_px, source_px) into (images, channels, side_px, side_px), float32."""
        with torch.autocast(images.device.type, enabled=False):
            return self.weights @ images @ self.weights.T


def area_weights(source_px: int, side_px: int) -> Tensor:
    """Return the fraction of each pixel of the result that lies in each of the source, along one side.

    Returns:
        Shape (side_px, source_px), float32; each row sums to 1.
    """
    span = source_px / side_px
    ends = span * torch.arange(side_px + 1, dtype=torch.float64)
    pixels = torch.arange(source_px, dtype=torch.float64)
    overlap = torch.minimum(ends[1:, None], pixels + 1) - torch.maximum(ends[:-1, None], pixels)
    return (overlap.clamp(min=0) / span).to(torch.float32)


def build_shrink(sides_px: tuple[int, int], seen_px: tuple[int, int]) -> nn.Module:
    """Make the layer from the stored images to those of `seen_sides`; the identity where they are the same."""
    return nn.Identity() if seen_px == sides_px else Shrink(sides_px[0], seen_px[0])


def seen_sides(config: ModelConfig, sides_px: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the images that the backbone sees.

    Args:
        config: Of the model.
        sides_px: Height and width of the training set's images.

    Raises:
        ConfigError: If they cannot be shrunk to `side_px`: they are smaller or not square, or there is no backbone.
    """
    if not config.side_px:
        return sides_px
    if config.backbone == NONE:
        raise ConfigError(
            f"model.side_px: backbone {NONE} takes the values as they are, its columns may be words; leave it at 0"
        )
    height_px, width_px = sides_px
    if height_px != width_px or config.side_px > height_px:
        wanted = f"at most {height_px}" if height_px == width_px else "square images"
        raise ConfigError(
            f"model.side_px: images of {height_px} x {width_px} px cannot be shrunk to {config.side_px} px, it wants "
            f"{wanted}; leave it at 0, or convert with another --side_px"
        )
    return config.side_px, config.side_px
