"""Backbones by name, their size and what they refuse."""

import pytest
import torch
from torch import nn

from hemo.errors import ConfigError
from hemo.learning.backbones import build_backbone, feature_shape, positions, timm_name

KERAS_WEIGHTS = {
    "MobileNet": 3_206_976,
    "InceptionV3": 21_768_352 + 17_216,  # Keras' batch normalisation has no scale there, timm's has
    "Xception": 20_806_952,
    "ResNet50": 23_534_592 - 26_560,  # Keras' convolutions have biases, timm's have not
    "ResNet50V2": 23_519_360 - 19_008,  # so here
    "VGG16": 14_714_688,
}
"""Trainable values of `keras.applications` models without their classifiers."""


@pytest.mark.parametrize("backbone", KERAS_WEIGHTS)
def test_the_sources_backbones_have_as_many_weights_as_in_keras(backbone: str) -> None:
    with torch.device("meta"):
        module = build_backbone(backbone, 3, (96, 96))
    assert sum(parameter.numel() for parameter in module.parameters()) == KERAS_WEIGHTS[backbone]


@pytest.mark.parametrize(
    ("backbone", "channels", "side_px", "shape"),
    [
        ("ResNet50", 3, 224, (49, 2048)),
        ("VGG16", 1, 64, (4, 512)),
        ("InceptionV3", 3, 75, (1, 2048)),
        ("test_vit", 6, 32, (4, 64)),  # patches of 16 px; the class token is left out
        ("swin_tiny_patch4_window7_224", 3, 64, (4, 768)),  # channels last
    ],
)
def test_feature_shape(backbone: str, channels: int, side_px: int, shape: tuple[int, int]) -> None:
    assert feature_shape(backbone, channels, (side_px, side_px)) == shape


def test_positions_keep_the_features_of_each_place() -> None:
    first_channels = torch.arange(12.0).reshape(1, 3, 2, 2)  # 3 features at 2 x 2 places
    expected = [[[0.0, 4.0, 8.0], [1.0, 5.0, 9.0], [2.0, 6.0, 10.0], [3.0, 7.0, 11.0]]]
    assert positions(nn.Identity(), first_channels).tolist() == expected
    swin = nn.Identity()
    swin.output_fmt = "NHWC"
    assert positions(swin, first_channels.permute(0, 2, 3, 1)).tolist() == expected


def test_an_unknown_backbone_is_refused_with_the_one_probably_meant() -> None:
    with pytest.raises(ConfigError, match=r"'resnet5O' is no backbone hemo or timm knows; did you mean 'resnet50'\?"):
        timm_name("resnet5O")
    with pytest.raises(ConfigError, match=r"'qqqq' is no backbone hemo or timm knows \(hemo's are MobileNet, Incep"):
        timm_name("qqqq")


def test_a_backbone_that_cannot_do_without_its_pooling_is_not_said_to_be_a_matter_of_size() -> None:
    with pytest.raises(ConfigError, match=r"efficientvit_b0 cannot be used without its pooling \(.+\); choose another"):
        feature_shape("efficientvit_b0", 3, (224, 224))


def test_images_too_small_are_refused_with_the_smallest_side() -> None:
    with pytest.raises(ConfigError, match="InceptionV3 cannot take images of 64 x 64 px, it wants at least 75 px"):
        feature_shape("InceptionV3", 3, (64, 64))
