"""Backbone and head together."""

import torch

from hemo.config.trial import ModelConfig
from hemo.learning.model import build_model, parameter_count


def test_resnet18_of_one_channel_with_a_dense_layer_counted_by_hand() -> None:
    config = ModelConfig(backbone="resnet18", hidden_layers=1, dense_width=8)
    with torch.device("meta"):
        model = build_model(config, channels=1, sides_px=(32, 32), classes=6)
    stem_of_two_channels_less = 2 * 64 * 7 * 7
    head = (512 * 8 + 8) + (8 * 6 + 6)
    assert parameter_count(model) == 11_176_512 - stem_of_two_channels_less + head


def test_logits_have_one_column_a_class() -> None:
    model = build_model(ModelConfig(backbone="test_resnet"), channels=2, sides_px=(16, 24), classes=6).eval()
    assert model(torch.zeros(3, 2, 16, 24)).shape == (3, 6)


def test_a_network_that_shrinks_has_the_shapes_of_the_smaller_side() -> None:
    """3 x 3 filters leave 46 of 48 px, a maximum of four 23: 23 x 23 x 4 features, flattened, and 4 x 9 + 4 weights."""
    config = ModelConfig(backbone="CNN(4)", pooling="flatten", side_px=48)
    model = build_model(config, channels=1, sides_px=(64, 64), classes=1)
    assert parameter_count(model) == 40 + 23 * 23 * 4 + 1
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert model.features(images).shape == (2, 4, 23, 23)
    assert model(images).shape == (2, 1)
