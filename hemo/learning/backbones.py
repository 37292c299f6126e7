"""Backbones by the sources' names or timm's: features of an image, before pooling."""

import bisect
import difflib
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg
from torch import Tensor, nn

from hemo.errors import ConfigError
from hemo.learning.convnet import FORMS, own_backbone

SOURCES_BACKBONES = {
    "MobileNet": "mobilenetv1_100",
    "InceptionV3": "inception_v3",
    "Xception": "legacy_xception",
    "ResNet50": "resnet50",
    "ResNet50V2": "resnetv2_50",
    "VGG16": "vgg16",
}
"""Names of `keras.applications`, which the sources use, and timm's model of the same architecture."""

LARGEST_SIDE_TRIED_PX = 512
"""Up to this side the smallest image a backbone takes is looked for, to name it in an error."""

REFUSALS = (RuntimeError, AssertionError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError)
"""What timm's models raise, each in its own way, when images are too small or of a size they cannot divide."""


def timm_name(backbone: str) -> str:
    """Return timm's name of a backbone.

    Raises:
        ConfigError: If neither the sources nor timm have it.
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
    """Return what timm knows of a backbone's weights: where they lie, which size, mean and std they want.

    Raises:
        ConfigError: If neither the sources nor timm have the backbone.
    """
    return timm.get_pretrained_cfg(timm_name(backbone)) or PretrainedCfg()


def build_backbone(backbone: str, channels: int, sides_px: tuple[int, int], *, pretrained: bool = False) -> nn.Module:
    """Make a backbone without pooling and classifier.

    Args:
        backbone: A source's name, timm's, or one of `hemo.learning.convnet`.
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
    return module


def positions(backbone: nn.Module, features: Tensor) -> Tensor:
    """Bring the layouts of features into one: (images, positions, features). Class tokens are left out.

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
            it; the message says how small they may be.
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
    """Refuse a backbone that takes neither large images nor the size it was made for: it is not for the size then."""
    large = (LARGEST_SIDE_TRIED_PX, LARGEST_SIDE_TRIED_PX)
    _, *own = pretrained_settings(backbone).input_size
    shape = _shape_at(backbone, channels, large)
    if isinstance(shape, str) and isinstance(_shape_at(backbone, channels, (own[0], own[1])), str):
        raise ConfigError(f"model.backbone: {backbone} cannot be used without its pooling ({shape}); choose another")


def _shape_at(backbone: str, channels: int, sides_px: tuple[int, int]) -> tuple[int, int] | str:
    """Return (positions, features), or why the backbone cannot take this size."""
    try:
        with torch.device("meta"), torch.no_grad():
            module = build_backbone(backbone, channels, sides_px).eval()
            shape = positions(module, module(torch.zeros(1, channels, *sides_px))).shape
    except REFUSALS as error:
        return " ".join(str(error).split())
    return shape[1], shape[2]
