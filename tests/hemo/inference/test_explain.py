"""Heat maps, worked out by hand."""

import io
import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hemo.config.trial import ModelConfig
from hemo.errors import ConfigError, SourceError
from hemo.imaging.image import displayed
from hemo.inference.explain import Case, case_png, hardest_ids, heat_maps, log_loss, pick_cases, relative
from hemo.inference.predict import StoredImages
from hemo.models.backbones import Shrink
from hemo.models.checkpoint import CheckpointCard
from hemo.models.classifier import GlobalAveragePooling, ImageClassifier, build_model
from tests.hemo.inference.test_predict import CARD


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


def test_tokens_have_their_positions_and_a_coarse_map_is_enlarged() -> None:
    image = np.kron(IMAGE, np.ones((1, 2, 2), np.uint8))
    (found,) = heat_maps(ImageClassifier(Tokens(), _head()).eval(), _card(4), image[None], 0)
    np.testing.assert_allclose(found[[0, 0, 3, 3], [0, 3, 0, 3]], [0.25, 0, 0, 0.025], atol=1e-7)
    assert found[0, 1] == pytest.approx(0.75 * 0.25)  # bilinear: a quarter of the way to the neighbour


def test_tokens_without_a_grid_are_refused() -> None:
    backbone = Tokens()
    backbone.patch_embed = SimpleNamespace()
    with pytest.raises(ConfigError, match="features of by hand have no position in the image"):
        heat_maps(ImageClassifier(backbone, _head()), _card(4), np.zeros((1, 2, 4, 4), np.uint8), 0)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit", "test_convnext"])
def test_of_a_real_backbone_each_position_raises_the_logit_of_a_class_or_of_its_opposite(backbone: str) -> None:
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


def test_three_channels_are_colours_and_of_nine_the_middle_ones() -> None:
    nine = np.arange(9, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 4), np.uint8)
    assert displayed(nine).shape == (2, 4, 3)
    assert displayed(nine)[0, 0].tolist() == [3, 4, 5]
    assert displayed(nine[:3])[1, 3].tolist() == [0, 1, 2]
    assert (displayed(nine[:1])[0, 0], displayed(nine[:5])[0, 0]) == (0, 2)


def test_heat_is_relative_to_the_hottest_place() -> None:
    assert relative(np.array([[0.0, 2.0], [8.0, 4.0]], np.float32)).tolist() == [[0, 0.25], [1, 0.5]]
    assert relative(np.zeros((1, 2), np.float32)).tolist() == [[0, 0]]


@pytest.mark.parametrize("title", ["plain", "a $title$ with \\frac{ and $"])
def test_the_heat_is_drawn_on_the_right_only_and_where_it_is(title: str) -> None:
    """A grey image whose lower right quarter is hot: only there colours are seen."""
    image, heat = np.full((1, 32, 32), 100, np.uint8), np.zeros((32, 32), np.float32)
    heat[16:, 16:] = 3
    picture = np.asarray(Image.open(io.BytesIO(case_png(image, heat, title))).convert("RGB")).astype(int)
    colour = picture.max(axis=2) - picture.min(axis=2) > 20
    rows, cols = np.nonzero(colour)
    height, width = colour.shape
    assert rows.min() > height / 2
    assert cols.min() > 0.7 * width
    assert colour.sum() > 0.05 * colour.size


def test_an_empty_heat_map_is_said_and_not_drawn() -> None:
    """One panel of 32 x 32 instead of two: half as wide."""
    image, heat = np.full((1, 32, 32), 100, np.uint8), np.zeros((32, 32), np.float32)
    empty = Image.open(io.BytesIO(case_png(image, heat, "missed")))
    heat[0, 0] = 1
    drawn = Image.open(io.BytesIO(case_png(image, heat, "missed")))
    assert (2 * empty.width, empty.height) == drawn.size
    dark = np.asarray(empty.convert("L"))[: empty.height // 5] < 100
    lines = np.flatnonzero(np.diff(dark.any(axis=1).astype(int)) == 1)
    assert len(lines) >= 2  # the title, and below it that there is no evidence


class BrightnessModel:
    """Its probability is twice the image's mean, as a share of 255."""

    card = CARD.model_copy(update={"thresholds": (0.3,)})

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probabilities = (2 * images.mean(axis=(1, 2, 3))[:, None] / 255).astype(np.float32)
        return np.full_like(probabilities, math.nan), probabilities


def _stored(folder: str) -> StoredImages:
    return StoredImages(f"{folder}/test", ("any",))


def test_loss_of_the_truth_by_hand() -> None:
    losses = log_loss(np.array([0.25, 0.25, 0.0]), np.array([1, 0, 1]))
    np.testing.assert_allclose(losses, [math.log(4), math.log(4 / 3), -math.log(1e-7)])
    assert Case("a", np.empty(0), 1, 0.25, False).loss == pytest.approx(math.log(4))
    assert Case("a", np.empty(0), None, 0.25, False).loss is None


@pytest.mark.parametrize("batch_size", [3, 64])
def test_the_highest_losses_come_first_and_what_nobody_labelled_not_at_all(
    make_training_set: Callable[..., str], batch_size: int
) -> None:
    """Bright images are positive; then image 5 is labelled negative, and image 2 has no label."""
    folder = make_training_set(label=lambda number, _: None if number == 2 else number % 2)
    model = BrightnessModel()
    every = pick_cases(_stored(folder), model, 0, [f"test-{row:03d}" for row in range(16)])
    losses = {case.image_id: case.loss for case in every if case.loss is not None}
    assert (len(losses), every[2].label) == (15, None)
    wanted = sorted(losses, key=lambda name: -losses[name])
    assert hardest_ids(_stored(folder), model, 0, 4, batch_size) == wanted[:4]
    assert hardest_ids(_stored(folder), model, 0, 99, batch_size) == wanted


def test_cases_come_in_the_order_of_their_ids(make_training_set: Callable[..., str]) -> None:
    stored, model = _stored(make_training_set()), BrightnessModel()
    late, early = pick_cases(stored, model, 0, ["test-011", "test-002"])
    assert (late.image_id, late.label, early.image_id, early.label) == ("test-011", 1, "test-002", 0)
    assert late.probability == pytest.approx(2 * late.image.mean() / 255, rel=1e-5)
    assert late.probability > 0.3 > early.probability
    assert (late.predicted, early.predicted) == (True, False)


def test_what_is_not_there_is_refused(make_training_set: Callable[..., str]) -> None:
    folder, model = make_training_set(), BrightnessModel()
    with pytest.raises(ConfigError, match=r"image_ids: 'x' is not in .*test \(1 of 2\)"):
        pick_cases(_stored(folder), model, 0, ["test-001", "x"])
    unlabelled = StoredImages(f"{folder}/test", ())
    assert pick_cases(unlabelled, model, 0, ["test-001"])[0].label is None
    with pytest.raises(ConfigError, match="has no labels of any; give a training set, or image_ids"):
        hardest_ids(unlabelled, model, 0, 1, 8)


def test_a_split_nobody_labelled_is_refused(make_training_set: Callable[..., str]) -> None:
    folder = make_training_set(label=lambda number, _: None)
    with pytest.raises(SourceError, match="no image has a label of any"):
        hardest_ids(_stored(folder), BrightnessModel(), 0, 1, 8)
