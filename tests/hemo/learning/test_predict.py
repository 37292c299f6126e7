import numpy as np
import pytest
import torch

from hemo.config.trial import ModelConfig
from hemo.learning.checkpoint import CheckpointCard, write_checkpoint
from hemo.learning.metrics import choose_thresholds, confusion
from hemo.learning.model import build_model
from hemo.learning.predict import Predictor, called_classes, to_probabilities


def card(task: str = "multi_label") -> CheckpointCard:
    return CheckpointCard(
        model=ModelConfig(backbone="test_resnet"),
        task=task,
        classes=("any", "subdural"),
        channels=("brain", "subdural", "soft"),
        image={},
        height_px=16,
        width_px=16,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        thresholds=(0.5, 0.5),
        training_set="feedface",
    )


@pytest.fixture
def checkpoint(tmp_path):
    model = build_model(card().model, channels=3, sides_px=(16, 16), classes=2).eval()
    write_checkpoint(str(tmp_path), model, card())
    return str(tmp_path), model


def test_probabilities_do_not_depend_on_the_batch_size(checkpoint):
    location, model = checkpoint
    images = list(np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), np.uint8))
    small, large = (Predictor(location, device="cpu", batch_size=size).probabilities(iter(images)) for size in (2, 64))
    np.testing.assert_allclose(small, large, rtol=1e-5)
    pixels = torch.from_numpy(np.stack(images)).float()
    with torch.inference_mode():
        wanted = torch.sigmoid(model((pixels / 255 - 0.5) / 0.25))
    np.testing.assert_allclose(large, wanted.numpy(), rtol=1e-5)


def test_a_flip_gives_the_mean_over_an_image_and_its_mirror_image(checkpoint):
    location, _ = checkpoint
    images = list(np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16), np.uint8))
    plain = Predictor(location, device="cpu", batch_size=2)
    mirrored = plain.probabilities([np.ascontiguousarray(image[:, :, ::-1]) for image in images])
    both = Predictor(location, device="cpu", batch_size=2, flip=True).probabilities(images)
    np.testing.assert_allclose(both, (plain.probabilities(images) + mirrored) / 2, rtol=1e-5)
    assert np.abs(both - plain.probabilities(images)).max() > 1e-5


def test_a_class_is_called_above_its_own_threshold():
    told = card().model_copy(update={"thresholds": (0.2, 0.8)})
    found = called_classes(np.array([[0.3, 0.3], [0.1, 0.9]], np.float32), told)
    assert found.tolist() == [[True, False], [False, True]]
    exclusive = card("multi_class").model_copy(update={"thresholds": ()})
    assert called_classes(np.array([[0.6, 0.4]], np.float32), exclusive).tolist() == [[True, False]]


def test_an_overconfident_model_calls_what_its_record_counts():
    """All four sigmoids are 1 as float32: a threshold between them, in float64, would be above or below all."""
    logits, labels = torch.tensor([[18.0], [19.0], [20.0], [21.0]]), np.array([[0], [0], [1], [1]], np.uint8)
    thresholds = choose_thresholds("binary", logits, labels)
    told = card("binary").model_copy(update={"classes": ("any",), "thresholds": thresholds})
    called = called_classes(to_probabilities(logits, told).numpy(), told)
    assert called.all()
    assert thresholds == (0.5,)
    assert confusion("binary", logits, torch.from_numpy(labels), thresholds) == (((0, 2), (0, 2)),)


def test_no_images_give_no_probabilities(checkpoint):
    assert Predictor(checkpoint[0], device="cpu", batch_size=2).probabilities([]).shape == (0, 2)


def test_exclusive_classes_share_one_probability():
    """exp(1) / (exp(1) + exp(0)) = 0.7311, which is also the sigmoid of 1."""
    logits = torch.tensor([[1.0, 0.0]])
    assert to_probabilities(logits, card("multi_class"))[0].tolist() == pytest.approx([0.7311, 0.2689], abs=1e-4)
    assert to_probabilities(logits, card("multi_label"))[0].tolist() == pytest.approx([0.7311, 0.5], abs=1e-4)
