"""What the list of backbones says."""

import pytest

from hemo.errors import ConfigError
from hemo.models.backbones import SOURCES_BACKBONES
from hemo.models.catalogue import BackboneFacts, as_lines, backbone_facts, listed_backbones


def test_vgg16_of_one_channel() -> None:
    """Thirteen convolutions; of the first, 64 of 3 x 3, two channels are missing. Five halvings need 32 px."""
    assert backbone_facts("VGG16", 1) == BackboneFacts(
        name="VGG16",
        timm_name="vgg16",
        parameters=14_714_688 - 2 * 64 * 3 * 3,
        input_px=224,
        smallest_px=32,
        weights=("tv_in1k",),
        weights_origin="model.safetensors of timm/vgg16.tv_in1k",
    )


def test_the_weights_of_imagenet_come_first() -> None:
    facts = backbone_facts("resnet18", 3)
    assert facts.weights[0] == "a1_in1k"
    assert facts.weights_origin == "model.safetensors of timm/resnet18.a1_in1k"
    assert len(facts.weights) > 3
    assert facts.weights[1:] == tuple(sorted(facts.weights[1:]))


def test_a_backbone_bound_to_its_pooling_is_listed_as_of_no_use() -> None:
    facts = backbone_facts("crossvit_tiny_240", 3)
    assert (facts.parameters, facts.smallest_px, facts.input_px) == (None, None, 240)
    assert list(as_lines(iter([facts])))[-1].startswith("| crossvit_tiny_240 | crossvit_tiny_240 | cannot be used | ")


def test_a_backbone_without_weights() -> None:
    facts = backbone_facts("test_mambaout", 3)
    assert (facts.weights, facts.weights_origin) == ((), "")


def test_a_backbone_that_divides_by_nothing_when_images_are_tiny_is_listed() -> None:
    assert backbone_facts("test_coatnet", 3).smallest_px == 31


def test_the_sources_backbones_are_listed_unless_a_part_of_a_name_is_given() -> None:
    assert [facts.name for facts in listed_backbones("test_resnet", 3)] == ["test_resnet"]
    assert next(listed_backbones("", 3)).name == next(iter(SOURCES_BACKBONES)) == "MobileNet"


def test_hemos_own_come_last_with_their_form() -> None:
    """A 3 x 3 convolution of one channel and a filter each, 10 weights; it wants 4 px. No backbone takes anything."""
    assert backbone_facts("CNN(1)", 1) == BackboneFacts("CNN(1)", "", 10, None, 4, (), "")
    assert [facts.name for facts in listed_backbones("", 3)][-2:] == ["CNN(32,64,128)", "none"]
    assert list(as_lines(iter([backbone_facts("none", 3)])))[-1] == "| none | - | 0 | - | 1 px | - | - |"


def test_a_name_nothing_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="containing: no backbone of timm has 'zzz' in its name; try a shorter part"):
        listed_backbones("zzz", 3)


def test_the_table_line_by_line() -> None:
    facts = BackboneFacts("VGG16", "vgg16", 14_714_688, 224, 32, ("a", "b"), "timm/vgg16.a")
    bound = BackboneFacts("x", "x", 7, 8, None, (), "")
    assert list(as_lines(iter([facts, bound]))) == [
        "| backbone | timm | parameters | made for | smallest | weights | from |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| VGG16 | vgg16 | 14,714,688 | 224 px | 32 px | a, b | timm/vgg16.a |",
        "| x | x | 7 | 8 px | - | - | - |",
    ]
