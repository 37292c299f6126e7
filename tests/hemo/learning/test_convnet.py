"""Backbones of hemo's own: a plain CNN, and none."""

import pytest
import torch

from hemo.config.trial import ModelConfig
from hemo.errors import ConfigError
from hemo.learning.backbones import build_backbone, feature_shape, positions, smallest_side
from hemo.learning.batch import Normalisation
from hemo.learning.convnet import own_backbone
from hemo.learning.model import build_model, parameter_count
from hemo.learning.weights import check_weights, normalisation_of


def test_a_cnn_has_the_weights_of_its_convolutions():
    """3 x 3 x 1 x 32 + 32, 3 x 3 x 32 x 64 + 64."""
    assert parameter_count(build_backbone("CNN(32,64)", 1, (28, 28))) == 320 + 18_496


@pytest.mark.parametrize(
    ("backbone", "channels", "sides_px", "shape"),
    [
        ("CNN(32,64)", 1, (28, 28), (25, 64)),  # 28 - 2 = 26, 13, 11, 5
        ("CNN(32, 64, 128, 128)", 3, (150, 150), (49, 128)),  # 148, 74, 72, 36, 34, 17, 15, 7
        ("CNN(5)", 2, (4, 9), (3, 5)),  # 2 x 7 gives 1 x 3
        ("none", 1, (1, 10_000), (1, 10_000)),
        ("none", 3, (4, 2), (1, 24)),
    ],
)
def test_feature_shape(backbone, channels, sides_px, shape):
    assert feature_shape(backbone, channels, sides_px) == shape


def test_a_layer_is_convolution_relu_and_the_largest_of_four():
    """All weights 1: each 3 x 3 sum of 0 to 15 in rows of 4 is 45, 54, 81, 90 and the largest of them stays."""
    layer = build_backbone("CNN(2)", 1, (4, 4))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(1.0)
        layer[0].weight[1] = -1.0
    found = layer(torch.arange(16.0).reshape(1, 1, 4, 4))
    assert found.flatten().tolist() == [91.0, 0.0]


def test_without_a_backbone_pooling_leaves_the_pixels_as_they_are():
    images = torch.arange(12.0).reshape(2, 3, 1, 2)
    backbone = build_backbone("none", 3, (1, 2))
    assert positions(backbone, backbone(images)).tolist() == [[[0, 1, 2, 3, 4, 5]], [[6, 7, 8, 9, 10, 11]]]
    widths = {
        pooling: build_model(
            ModelConfig(backbone="none", pooling=pooling), channels=3, sides_px=(1, 2), classes=4
        ).head.logits.in_features
        for pooling in ("gap", "flatten")
    }
    assert widths == {"gap": 6, "flatten": 6}


def test_without_a_backbone_zero_stays_zero():
    assert normalisation_of(ModelConfig(backbone="none"), 1) == Normalisation((0.0,), (1.0,))
    assert normalisation_of(ModelConfig(backbone="CNN(8)"), 1) == Normalisation((0.5,), (0.25,))


def test_images_too_small_are_refused_with_the_smallest_side():
    """Backwards: 1 wants 4, 4 wants 10, 10 wants 22."""
    assert smallest_side("CNN(32,64,64)", 1) == 22
    with pytest.raises(ConfigError, match=r"CNN\(32,64,64\) cannot take images of 21 x 21 px, it wants at least 22 px"):
        feature_shape("CNN(32,64,64)", 1, (21, 21))


def test_there_are_no_imagenet_weights_of_them():
    for backbone in ("none", "CNN(8)"):
        with pytest.raises(ConfigError, match=r"model\.weights: there are no ImageNet weights of"):
            check_weights(ModelConfig(backbone=backbone, weights="imagenet"), 3, (16, 16))


@pytest.mark.parametrize("name", ["CNN()", "CNN(0)", "CNN(32,)", "CNN(32,64", "cnn(32)", "None", "", "CNN(-1)"])
def test_other_names_are_not_taken_for_one_and_the_error_shows_the_form(name):
    assert own_backbone(name, 1) is None
    with pytest.raises(ConfigError, match=r"is no backbone hemo or timm knows.*CNN\(32,64,128\)"):
        feature_shape(name, 1, (28, 28))
