"""Backbone and head together, and calibrated logits."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch import nn

from hemo.config.trial import ModelConfig
from hemo.models.classifier import (
    Normalisation,
    build_head,
    build_model,
    calibrated_logits,
    normalise,
    parameter_count,
    to_unit_range,
)
from hemo.stats import calibration as in_numpy
from hemo.stats.calibration import Calibration, SampledClass


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


def test_pixels_weights_and_features_are_channels_last_on_the_cpu() -> None:
    model = build_model(ModelConfig(backbone="resnet10t"), channels=3, sides_px=(64, 64), classes=1).eval()
    images = to_unit_range(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    kernels = [each for each in model.parameters() if each.dim() == 4 and each.shape[1] > 1 and each.shape[2] > 1]
    arrays = [images, model.features(images), *kernels]
    assert len(kernels) > 5
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in arrays)
    assert not any(each.is_contiguous() for each in arrays)


def test_a_network_that_shrinks_has_the_shapes_of_the_smaller_side() -> None:
    """3 x 3 filters leave 46 of 48 px, a maximum of four 23: 23 x 23 x 4 features, flattened, and 4 x 9 + 4 weights."""
    config = ModelConfig(backbone="CNN(4)", pooling="flatten", side_px=48)
    model = build_model(config, channels=1, sides_px=(64, 64), classes=1)
    assert parameter_count(model) == 40 + 23 * 23 * 4 + 1
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert model.features(images).shape == (2, 4, 23, 23)
    assert model(images).shape == (2, 1)


@pytest.mark.parametrize(
    ("pooling", "hidden_layers", "dense_width", "weights"),
    [
        ("gap", 0, 16, 96 + 1),
        ("gap", 2, 8, (96 * 8 + 8) + (8 * 8 + 8) + (8 + 1)),
        ("flatten", 1, 16, (4 * 96 * 16 + 16) + (16 + 1)),
    ],
)
def test_weights_of_a_head(pooling: str, hidden_layers: int, dense_width: int, weights: int) -> None:
    config = ModelConfig(pooling=pooling, hidden_layers=hidden_layers, dense_width=dense_width)
    assert parameter_count(build_head(config, (4, 96), 1)) == weights


@pytest.mark.parametrize(
    ("head", "widths", "weights"),
    [
        ("F-D(8)", [100_352, 8, 8, 1], (100_352 * 8 + 8) + (8 + 1)),
        ("F-D(16)-D", [100_352, 16, 16, 1], (100_352 * 16 + 16) + (16 + 1)),
        ("GAP-dropout-sigmoid", [2048, 2048, 1], 2048 + 1),
    ],
)
def test_heads_of_the_sources_on_resnet50_at_224_px(head: str, widths: list[int], weights: int) -> None:
    """ResNet50 gives 7 x 7 positions of 2,048 features, 100,352 in all; activations keep the width."""
    with torch.device("meta"):
        module = build_head(ModelConfig(head=head), (49, 2048), 1)
        values, found = torch.zeros(2, 49, 2048), []
        for layer in module:
            values = layer(values)
            if not isinstance(layer, nn.ReLU):
                found.append(values.shape[1])
    assert (found, parameter_count(module)) == (widths, weights)


def test_average_pooling_then_logits_by_hand() -> None:
    head = build_head(ModelConfig(), (2, 2), 1).eval()
    with torch.no_grad():
        head.logits.weight.copy_(torch.tensor([[1.0, 10.0]]))
        head.logits.bias.fill_(0.5)
    features = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])  # means 2 and 3
    assert head(features).item() == 2 + 30 + 0.5


def test_dropout_works_while_training_only() -> None:
    head = build_head(ModelConfig(dropout=0.9), (1, 1000), 1)
    features = torch.ones(1, 1, 1000)
    torch.manual_seed(0)
    assert head.train()(features).item() != head(features).item()
    assert head.eval()(features).item() == head(features).item()


def test_each_channel_has_its_own_mean_and_std() -> None:
    images = torch.full((1, 2, 1, 1), 0.5)
    scaled = normalise(images, Normalisation(mean=(0.1, 0.3), std=(0.2, 0.4)))
    torch.testing.assert_close(scaled.flatten(), torch.tensor([2.0, 0.5]))


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("sampled", [None, SampledClass(1, 0.5, 0.1, True)])
@pytest.mark.parametrize("slopes", [(), (0.5, 2.0, 1.0)])
def test_torch_calibrates_as_numpy_does(
    exclusive: bool, sampled: SampledClass | None, slopes: tuple[float, ...]
) -> None:
    logits = np.random.default_rng(0).normal(0, 20, (50, 3))
    calibration = Calibration("prior", "", slopes, (0.5, -1.0, 0.0) if slopes else (), sampled)
    expected = in_numpy.calibrated_logits(logits, calibration, exclusive=exclusive)
    found = calibrated_logits(torch.from_numpy(logits), calibration, exclusive=exclusive)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)
    single = calibrated_logits(torch.from_numpy(logits).float(), calibration, exclusive=exclusive)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.sigmoid().numpy(), expit(expected), atol=1e-6)
