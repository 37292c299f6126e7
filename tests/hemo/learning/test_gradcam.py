"""Heat maps, worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from hemo.config.trial import ModelConfig
from hemo.errors import ConfigError
from hemo.learning.checkpoint import CheckpointCard
from hemo.learning.gradcam import heat_maps
from hemo.learning.head import GlobalAveragePooling
from hemo.learning.model import ImageClassifier, build_model
from hemo.learning.shrinking import Shrink


def _card(side_px: int, backbone: str = "by hand") -> CheckpointCard:
    return CheckpointCard(
        model=ModelConfig(backbone=backbone),
        task="multi_label",
        classes=("any", "subdural"),
        channels=("brain", "soft"),
        image={},
        height_px=side_px,
        width_px=side_px,
        mean=(0.0, 0.0),
        std=(1.0, 1.0),
        thresholds=(0.5, 0.5),
        training_set="feedface",
    )


def _head() -> nn.Sequential:
    """The mean over positions, weighted 1 and -1/2 for one class, -1 and 2 for the other."""
    logits = nn.Linear(2, 2)
    with torch.no_grad():
        logits.weight.copy_(torch.tensor([[1.0, -0.5], [-1.0, 2.0]]))
        logits.bias.zero_()
    return nn.Sequential(GlobalAveragePooling(), logits)


IMAGE = np.array([[[255, 0], [0, 51]], [[0, 0], [51, 51]]], np.uint8)  # 1, 0, 0, 0.2 and 0, 0, 0.2, 0.2


@pytest.mark.parametrize(("class_index", "heat"), [(0, [[0.25, 0], [0, 0.025]]), (1, [[0, 0], [0.1, 0.05]])])
def test_features_weighted_by_their_gradients(class_index: int, heat: list[list[float]]) -> None:
    """Gradients are a quarter of the weights, there are four positions; below 0 is 0: -0.025 at (1, 0) for one."""
    model = ImageClassifier(nn.Identity(), _head()).eval()
    two = np.stack([IMAGE, np.zeros_like(IMAGE)])
    found = heat_maps(model, _card(2), two, class_index)
    np.testing.assert_allclose(found, [heat, np.zeros((2, 2))], atol=1e-7)


class Tokens(nn.Module):
    """A class token, then a token of two features for each quarter of an image of 4 x 4 pixels."""

    num_prefix_tokens = 1
    patch_embed = SimpleNamespace(grid_size=(2, 2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        quarters = nn.functional.avg_pool2d(images, 2).flatten(2).transpose(1, 2)
        return torch.cat([100 * torch.ones_like(quarters[:, :1]), quarters], dim=1)


def test_tokens_have_their_places_and_a_coarse_map_is_enlarged() -> None:
    image = np.kron(IMAGE, np.ones((1, 2, 2), np.uint8))
    (found,) = heat_maps(ImageClassifier(Tokens(), _head()).eval(), _card(4), image[None], 0)
    np.testing.assert_allclose(found[[0, 0, 3, 3], [0, 3, 0, 3]], [0.25, 0, 0, 0.025], atol=1e-7)
    assert found[0, 1] == pytest.approx(0.75 * 0.25)  # bilinear: a quarter of the way to the neighbour


def test_tokens_without_a_grid_are_refused() -> None:
    backbone = Tokens()
    backbone.patch_embed = SimpleNamespace()
    with pytest.raises(ConfigError, match="features of by hand have no place in the image"):
        heat_maps(ImageClassifier(backbone, _head()), _card(4), np.zeros((1, 2, 4, 4), np.uint8), 0)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit", "test_convnext"])
def test_of_a_real_backbone_each_place_speaks_for_a_class_or_for_its_opposite(backbone: str) -> None:
    torch.manual_seed(0)
    card = _card(64, backbone)
    model = build_model(card.model, channels=2, sides_px=(64, 64), classes=2).eval()
    with torch.no_grad():
        model.head.logits.weight[1] = -model.head.logits.weight[0]
    images = np.random.default_rng(0).integers(0, 256, (2, 2, 64, 64), np.uint8)
    one, opposite = (heat_maps(model, card, images, place) for place in (0, 1))
    assert one.shape == (2, 64, 64)
    corners = np.s_[:, [0, 0, -1, -1], [0, -1, 0, -1]]  # not mixed with neighbours by enlarging
    assert np.all((one + opposite)[corners] > 0)
    assert np.all((one * opposite)[corners] == 0)


def test_of_a_network_that_shrinks_the_map_is_as_large_as_the_stored_image() -> None:
    """Four pixels of a quarter, 80, 160, 0 and 0, are 60 in the mean: heat is a quarter of that, in 0..1."""
    image = np.kron(IMAGE, np.ones((1, 2, 2), np.uint8))
    image[0, :2, :2] = [[80, 160], [0, 0]]
    (found,) = heat_maps(ImageClassifier(nn.Identity(), _head(), Shrink(4, 2)).eval(), _card(4), image[None], 0)
    np.testing.assert_allclose(found[[0, 0, 3, 3], [0, 3, 0, 3]], [0.25 * 60 / 255, 0, 0, 0.025], atol=1e-7)
