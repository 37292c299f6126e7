"""Backbones by name, their size and what they refuse."""

import numpy as np
import pytest
import torch
from torch import nn

from hemo.config.trial import ModelConfig
from hemo.errors import ConfigError
from hemo.imaging.resize import to_square
from hemo.models.backbones import (
    Shrink,
    area_weights,
    build_backbone,
    build_shrink,
    feature_shape,
    own_backbone,
    positions,
    seen_sides,
    smallest_side,
    timm_name,
)
from hemo.models.classifier import Normalisation, build_model, parameter_count
from hemo.models.pretrained import check_weights, normalisation_of

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
        ("volo_d1_224", 3, 224, (196, 384)),  # patches of 16 px; timm does not say that it has a class token
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


def test_the_error_of_a_backbone_that_needs_its_pooling_does_not_blame_the_size() -> None:
    with pytest.raises(ConfigError, match=r"efficientvit_b0 cannot be used without its pooling \(.+\); choose another"):
        feature_shape("efficientvit_b0", 3, (224, 224))


def test_images_too_small_are_refused_with_the_smallest_side() -> None:
    with pytest.raises(ConfigError, match="InceptionV3 cannot take images of 64 x 64 px, it wants at least 75 px"):
        feature_shape("InceptionV3", 3, (64, 64))


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
def test_feature_shape_of_the_small_nets(backbone, channels, sides_px, shape):
    assert feature_shape(backbone, channels, sides_px) == shape


def test_a_cnn_gives_what_it_gives_with_the_relu_before_the_maximum_as_the_sources_have_it():
    """Bit for bit, in values and gradients, also where all four values are below zero."""
    torch.manual_seed(0)
    ours = own_backbone("CNN(4,8)", 3)
    convolution, maximum, relu = range(3)
    theirs = nn.Sequential(*(ours[3 * block + part] for block in (0, 1) for part in (convolution, relu, maximum)))
    images = torch.randn(2, 3, 18, 18)
    found = []
    for network in (ours, theirs):
        network.zero_grad()
        features = network(images)
        features.square().sum().backward()
        found.append([features.detach(), *(each.grad.clone() for each in ours.parameters())])
    assert (found[0][0] == 0).any()
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


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


def test_images_too_small_for_the_small_nets_are_refused_with_the_smallest_side():
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


def _model(side_px: int, backbone: str = "test_resnet") -> ModelConfig:
    return ModelConfig(backbone=backbone, side_px=side_px)


def test_weights_of_three_pixels_in_four() -> None:
    """A pixel of the result is 4/3 of the source's wide: one whole and a third of the next, or two halves."""
    torch.testing.assert_close(
        area_weights(4, 3), torch.tensor([[0.75, 0.25, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0.25, 0.75]])
    )


def test_each_pixel_is_the_mean_of_its_area() -> None:
    """Along a row 0, 12, 24, 36 become 3, 18, 33; rows rise by ten times that."""
    ramp = torch.tensor([0.0, 12, 24, 36])
    images = torch.stack([ramp + 10 * ramp[:, None], ramp.expand(4, 4)])[None]
    found = Shrink(4, 3)(images)
    wanted = torch.tensor([3.0, 18, 33])
    torch.testing.assert_close(found[0, 0], wanted + 10 * wanted[:, None])
    torch.testing.assert_close(found[0, 1], wanted.expand(3, 3))


@pytest.mark.parametrize(("source_px", "side_px"), [(64, 48), (64, 32), (50, 33)])
def test_it_is_what_convert_makes_of_the_same_image_before_rounding(source_px: int, side_px: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (source_px, source_px, 3), np.uint8)
    found = Shrink(source_px, side_px)(torch.from_numpy(pixels).permute(2, 0, 1)[None].float())
    stored = to_square(pixels, side_px).astype(np.float32)
    assert np.abs(found[0].permute(1, 2, 0).numpy() - stored).max() <= 0.51


def test_the_finest_pattern_becomes_grey() -> None:
    """Stripes of one pixel, thinned out, would be all black."""
    stripes = torch.tensor([0.0, 1.0]).repeat(4).expand(1, 1, 8, 8)
    torch.testing.assert_close(Shrink(8, 4)(stripes), torch.full((1, 1, 4, 4), 0.5))


def test_mixed_precision_leaves_greys_as_they_are() -> None:
    images = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    shrink = Shrink(8, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = shrink(images)
    assert torch.equal(found, shrink(images))


def test_what_it_holds_is_no_weight() -> None:
    assert not Shrink(8, 4).state_dict()
    assert not list(Shrink(8, 4).parameters())


@pytest.mark.parametrize(("side_px", "seen_px"), [(0, (24, 24)), (24, (24, 24)), (16, (16, 16))])
def test_the_backbone_sees_the_configured_side(side_px: int, seen_px: tuple[int, int]) -> None:
    assert seen_sides(_model(side_px), (24, 24)) == seen_px
    kind = Shrink if side_px == 16 else nn.Identity
    assert isinstance(build_shrink((24, 24), seen_px), kind)


def test_images_as_they_are_need_not_be_square() -> None:
    assert seen_sides(_model(0), (16, 24)) == (16, 24)
    assert seen_sides(_model(0, "none"), (1, 10_000)) == (1, 10_000)


@pytest.mark.parametrize(
    ("backbone", "sides_px", "message"),
    [
        ("test_resnet", (24, 24), r"^model.side_px: images of 24 x 24 px .* to 32 px, it wants at most 24; leave it"),
        ("test_resnet", (48, 64), r"^model.side_px: images of 48 x 64 px .* to 32 px, it wants square images;"),
        ("none", (48, 48), r"^model.side_px: backbone none takes the values as they are, .*; leave it at 0"),
    ],
)
def test_what_cannot_be_shrunk_is_refused(backbone: str, sides_px: tuple[int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        seen_sides(_model(32, backbone), sides_px)
