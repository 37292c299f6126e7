"""A backbone as an encoder: what its vectors are, and which weights are refused."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from hemo.config.trial import ModelConfig
from hemo.errors import ConfigError
from hemo.models.backbones import build_backbone
from hemo.models.checkpoint import write_checkpoint
from hemo.models.classifier import Normalisation, build_model, normalise, to_unit_range
from hemo.models.encoder import Encoder, checkpoint_encoder, dimension, pooled, weights_encoder
from hemo.stats.calibration import Calibration
from tests.hemo.inference.test_predict import CARD

CPU = torch.device("cpu")


def test_gap_is_the_mean_over_positions_and_flatten_keeps_them() -> None:
    features = torch.tensor([[[1.0, 10.0], [3.0, 30.0]]])
    assert pooled(features, "gap").tolist() == [[[2.0, 20.0]]]
    assert pooled(features, "flatten") is features


def test_pixels_are_scaled_then_pass_the_backbone() -> None:
    """Without a backbone: 51 / 255 = 0.2, minus 0.1, over 0.5."""
    model = build_model(ModelConfig(backbone="none"), channels=1, sides_px=(1, 2), classes=1)
    encoder = Encoder(model, Normalisation((0.1,), (0.5,)), "flatten", CPU)
    features = encoder.features(torch.tensor([[[[51, 255]]]], dtype=torch.uint8))
    torch.testing.assert_close(features, torch.tensor([[[0.2, 1.8]]]))


def test_a_head_on_the_features_gives_the_logits_of_the_model(tmp_path: Path) -> None:
    """In evaluation mode: dropout and batch norm of the batch would change them."""
    torch.manual_seed(0)
    model = build_model(CARD.model, channels=1, sides_px=(16, 16), classes=1).eval()
    write_checkpoint(str(tmp_path), model, CARD)
    encoder = checkpoint_encoder(str(tmp_path), CARD.model.pooling, "cpu")
    images = torch.randint(0, 256, (5, 1, 16, 16), dtype=torch.uint8)
    scaled = (images.float() / 255 - CARD.mean[0]) / CARD.std[0]
    torch.testing.assert_close(model.head(encoder.features(images)), model(scaled), rtol=1e-5, atol=1e-6)
    assert not encoder.features(images).requires_grad


@pytest.mark.parametrize("pooling", ["gap", "flatten"])
def test_a_checkpoints_head_gives_calibrated_probabilities_beside_the_features(tmp_path: Path, pooling: str) -> None:
    """Calibration is slope 2 and intercept 1: the sigmoid of 2 z + 1."""
    torch.manual_seed(0)
    model = build_model(CARD.model, channels=1, sides_px=(16, 16), classes=1).eval()
    calibration = Calibration(slopes=(2.0,), intercepts=(1.0,))
    write_checkpoint(str(tmp_path), model, CARD.model_copy(update={"calibration": calibration}))
    encoder = checkpoint_encoder(str(tmp_path), pooling, "cpu")
    images = torch.randint(0, 256, (5, 1, 16, 16), dtype=torch.uint8)
    features, probabilities = encoder.features_and_probabilities(images)
    torch.testing.assert_close(features, encoder.features(images))
    with torch.no_grad():
        logits = model(normalise(to_unit_range(images), CARD.normalisation))
    torch.testing.assert_close(probabilities, torch.sigmoid(2 * logits + 1))


def _weights(path: Path, backbone: str, side_px: int, **changes: torch.Tensor | None) -> ModelConfig:
    tensors = build_backbone(backbone, 1, (side_px, side_px)).state_dict() | changes
    safetensors.torch.save_file({k: v for k, v in tensors.items() if v is not None}, path / "w.safetensors")
    return ModelConfig(backbone=backbone, weights=str(path / "w.safetensors"))


SHAPE = {"channels": 1, "sides_px": (16, 16)}


@pytest.mark.parametrize("changed", [None, torch.zeros(3)])
def test_weights_that_leave_a_part_random_are_refused(tmp_path: Path, changed: torch.Tensor | None) -> None:
    config = _weights(tmp_path, "test_resnet", 16, **{"layer1.0.conv1.weight": changed})
    with pytest.raises(ConfigError, match=r"does not cover 1 tensors of test_resnet.*random: layer1\.0\.conv1\.weight"):
        weights_encoder(config, **SHAPE, pooling="gap", device="cpu")


def test_position_embeddings_are_resampled_to_the_size_of_the_images(tmp_path: Path) -> None:
    """A constant field stays constant: from 32 px, 2 x 2 patches of 16 px, to 64 px, 4 x 4."""
    positions = torch.full_like(build_backbone("test_vit", 1, (32, 32)).state_dict()["pos_embed"], 0.5)
    config = _weights(tmp_path, "test_vit", 32, pos_embed=positions)
    encoder = weights_encoder(config, channels=1, sides_px=(64, 64), pooling="gap", device="cpu")
    resampled = encoder.model.backbone.pos_embed
    assert resampled.shape[1] > positions.shape[1]
    torch.testing.assert_close(resampled[:, -1], positions[:, -1], atol=1e-3, rtol=0)


def test_the_callers_random_numbers_are_left_alone(tmp_path: Path) -> None:
    config = _weights(tmp_path, "test_resnet", 16)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    weights_encoder(config, **SHAPE, pooling="gap", device="cpu")
    assert torch.equal(torch.rand(1), expected)


def test_the_dimension_is_that_of_the_features() -> None:
    """CNN(4) at 16 px: 14 px after the convolution, 7 x 7 positions of 4 features after the pooling."""
    assert dimension(ModelConfig(backbone="CNN(4)"), **SHAPE, pooling="gap") == 4
    assert dimension(ModelConfig(backbone="CNN(4)"), **SHAPE, pooling="flatten") == 7 * 7 * 4
    assert dimension(ModelConfig(backbone="CNN(4)", side_px=8), **SHAPE, pooling="flatten") == 3 * 3 * 4
