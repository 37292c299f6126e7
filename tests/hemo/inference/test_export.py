"""ONNX and torch give the same logits and probabilities."""

import importlib.util
import json
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hemo.config.trial import ModelConfig
from hemo.errors import ConfigError, HemoError
from hemo.inference.export import LOGIT_TOLERANCE, PROBABILITY_TOLERANCE, largest_differences, onnx_session, to_onnx
from hemo.inference.predict import DeployedModel
from hemo.models.checkpoint import CheckpointCard
from hemo.models.classifier import ImageClassifier, build_model
from hemo.stats.calibration import Calibration, SampledClass, calibrated_logits, to_probabilities

CARD = CheckpointCard(
    model=ModelConfig(backbone="by hand"),
    task="binary",
    classes=("any",),
    channels=("brain", "soft"),
    image={"side_px": 4},
    height_px=4,
    width_px=4,
    mean=(0.5, 0.25),
    std=(0.25, 0.5),
    thresholds=(0.375,),
    training_set="feedface",
)


class Sum(nn.Module):
    """Its logit is the sum over positions and features."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.sum(dim=(1, 2))[:, None]


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    return ImageClassifier(nn.Identity(), Sum())


@pytest.fixture(scope="module")
def exported(model: ImageClassifier) -> bytes:
    return to_onnx(model, CARD).SerializeToString()


def test_stored_pixels_become_logits_and_probabilities(exported: bytes) -> None:
    """Pixels of 51 are 0.2: 16 x ((0.2 - 0.5) / 0.25 + (0.2 - 0.25) / 0.5) = -20.8; in general 96 x - 40."""
    predict = onnx_session(exported, threads=1)
    for count in (1, 3):
        logits, probabilities = predict(np.full((count, 2, 4, 4), 51, np.uint8))
        np.testing.assert_allclose(logits, np.full((count, 1), -20.8), rtol=1e-5)
        np.testing.assert_allclose(probabilities, np.zeros((count, 1)), atol=1e-6)
    logits, probabilities = predict(np.full((1, 2, 4, 4), 106, np.uint8))
    assert logits[0, 0] == pytest.approx(96 * 106 / 255 - 40, abs=1e-4)
    assert probabilities[0, 0] == pytest.approx(1 / (1 + math.exp(40 - 96 * 106 / 255)), abs=1e-5)


def test_the_card_is_in_the_metadata_of_the_model(model: ImageClassifier) -> None:
    metadata = {entry.key: json.loads(entry.value) for entry in to_onnx(model, CARD).metadata_props}
    assert (metadata["classes"], metadata["thresholds"], metadata["image"]) == (["any"], [0.375], {"side_px": 4})


def test_a_difference_is_measured_and_one_too_large_refused(model: ImageClassifier, exported: bytes) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 4, 4), np.uint8)
    original, predict = DeployedModel(model, CARD).predict, onnx_session(exported, threads=1)
    assert max(largest_differences(original, predict, images)) < LOGIT_TOLERANCE

    def shifted(batch: np.ndarray, by: float, probability_by: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        logits, probabilities = original(batch)
        return logits + by, probabilities + probability_by

    half, grey = LOGIT_TOLERANCE / 2, np.full((2, 2, 4, 4), 106, np.uint8)
    near = largest_differences(original, lambda batch: shifted(batch, half, half / 4), grey)
    assert near == pytest.approx((half, half / 4), rel=0.05)  # the logit is -0.09: the difference is absolute
    dark = np.zeros((2, 2, 4, 4), np.uint8)
    far, _ = largest_differences(original, lambda batch: shifted(batch, half), dark)
    assert far == pytest.approx(half / 40, rel=0.05)  # of a logit of -40
    with pytest.raises(HemoError, match=r"logits differ from torch's by up to 0\.5, more than 0\.001: it was not writ"):
        largest_differences(original, lambda batch: shifted(batch, 0.5), grey)
    with pytest.raises(HemoError, match=r"probabilities differ from torch's by up to 0\.002, more than 0\.001"):
        largest_differences(original, lambda batch: shifted(batch, 0.0, 2 * PROBABILITY_TOLERANCE), grey)
    with pytest.raises(HemoError, match="by up to nan"):
        largest_differences(original, lambda batch: shifted(batch, math.nan), images)


class Undecided(nn.Module):
    """Asks about its images before it goes on, which no exported graph can."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.sum(dim=(1, 2))[:, None] if features.sum() > 0 else features.mean(dim=(1, 2))[:, None]


def test_what_torch_cannot_export_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"checkpoint: by hand cannot be exported to ONNX \("):
        to_onnx(ImageClassifier(nn.Identity(), Undecided()), CARD)


@pytest.fixture
def netron(tmp_path: Path) -> Path:
    """Netron's modules, with a script of ours that opens a file with its loader."""
    package = importlib.util.find_spec("netron")
    if package is None or package.origin is None or shutil.which("node") is None:
        pytest.skip("Netron or Node.js is not on this machine")
    for file in Path(package.origin).parent.iterdir():
        if file.suffix in (".js", ".json"):
            (tmp_path / file.name).symlink_to(file)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    return tmp_path / shutil.copy(Path(__file__).parents[2] / "netron.mjs", tmp_path)


def test_netron_opens_it(exported: bytes, netron: Path) -> None:
    model = netron.with_name("model.onnx")
    model.write_bytes(exported)
    command = ["node", "--preserve-symlinks", "--preserve-symlinks-main", str(netron), str(model)]
    seen = json.loads(subprocess.run(command, capture_output=True, check=True, cwd=netron.parent).stdout)
    assert seen["format"].startswith("ONNX")
    assert seen["inputs"] == {"images": "uint8[images,2,4,4]"}
    assert seen["outputs"] == {"logits": "float32[images,1]", "probabilities": "float32[images,1]"}
    assert {"Cast", "Sigmoid"} <= set(seen["operators"])


def test_a_network_that_shrinks_takes_stored_images_and_answers_as_torch_does() -> None:
    """64 px do not divide by 48."""
    config = ModelConfig(backbone="CNN(4)", side_px=48)
    card = CARD.model_copy(update={"model": config, "height_px": 64, "width_px": 64})
    model = build_model(config, channels=2, sides_px=(64, 64), classes=1)
    predict = onnx_session(to_onnx(model, card).SerializeToString(), threads=1)
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 64, 64), np.uint8)
    assert max(largest_differences(DeployedModel(model, card).predict, predict, images)) < 1e-5


@pytest.mark.parametrize("task", ["binary", "multi_label", "multi_class"])
def test_onnx_holds_the_calibration(task: str) -> None:
    """Probabilities of ONNX are those of numpy's calibration, to a float32, not those of the logits."""
    classes = ("any",) if task == "binary" else ("any", "subdural", "epidural")
    sampled = SampledClass(column=0, train_prevalence=0.5, population_prevalence=0.1, implied=True)
    calibration = Calibration("prior_and_temperature", "", (0.5,) * len(classes), (0.25,) * len(classes), sampled)
    card = CARD.model_copy(
        update={"classes": classes, "task": task, "calibration": calibration, "model": ModelConfig(backbone="CNN(4)")}
    )
    model = build_model(card.model, channels=2, sides_px=(4, 4), classes=len(classes)).eval()
    predict = onnx_session(to_onnx(model, card).SerializeToString(), threads=1)
    images = np.random.default_rng(0).integers(0, 256, (6, 2, 4, 4), np.uint8)
    assert max(largest_differences(DeployedModel(model, card).predict, predict, images)) < 1e-5
    logits, probabilities = predict(images)
    exclusive = task == "multi_class"
    expected = to_probabilities(calibrated_logits(logits, calibration, exclusive=exclusive), exclusive=exclusive)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)
    assert np.abs(probabilities - to_probabilities(logits, exclusive=exclusive)).max() > 0.1
