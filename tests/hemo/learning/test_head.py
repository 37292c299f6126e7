"""Heads: weights counted by hand."""

import pytest
import torch
from torch import nn

from hemo.config.trial import ModelConfig
from hemo.learning.head import build_head
from hemo.learning.model import parameter_count


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
