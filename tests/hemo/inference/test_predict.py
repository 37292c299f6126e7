"""From stored images to probabilities, by a checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from hemo.config.trial import ModelConfig
from hemo.errors import ConfigError, SourceError
from hemo.inference.predict import DeployedModel, checkpoint_digest, first_images, predicted_classes, stored_batches
from hemo.inference.studies import log_odds_of_any, slices_of_stacks, study_probabilities
from hemo.models.checkpoint import CheckpointCard, load_checkpoint, to_probabilities, write_checkpoint
from hemo.models.classifier import build_model
from hemo.stats.choices import OperatingPoint
from hemo.stats.operating_points import choose_threshold
from hemo.training.data.dataset import read_training_set
from hemo.training.evaluate import Readout, confusion

CARD = CheckpointCard(
    model=ModelConfig(backbone="test_resnet"),
    task="binary",
    classes=("any",),
    channels=("brain",),
    image={"corpus": "rsna", "side_px": 16},
    height_px=16,
    width_px=16,
    mean=(0.5,),
    std=(0.25,),
    thresholds=(0.5,),
    training_set="feedface",
)


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


def deployed(location: str, **options: Any) -> DeployedModel:
    return DeployedModel(*load_checkpoint(location), **options)


def test_probabilities_do_not_depend_on_the_batch_size(checkpoint):
    location, model = checkpoint
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), np.uint8)
    (_, small), (logits, large) = (deployed(location, batch_size=size).predict(images) for size in (2, 64))
    np.testing.assert_allclose(small, large, rtol=1e-5)
    with torch.inference_mode():
        expected = model((torch.from_numpy(images).float() / 255 - 0.5) / 0.25)
    np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-5)
    np.testing.assert_allclose(large, expected.sigmoid().numpy(), rtol=1e-5)


def test_a_flip_gives_the_mean_over_an_image_and_its_mirror_image(checkpoint):
    location, _ = checkpoint
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16), np.uint8)
    plain = deployed(location, batch_size=2)
    one, mirrored = plain.predict(images), plain.predict(np.ascontiguousarray(images[..., ::-1]))
    both = deployed(location, batch_size=2, flip=True).predict(images)
    for mean, direct, flipped in zip(both, one, mirrored, strict=True):
        np.testing.assert_allclose(mean, (direct + flipped) / 2, rtol=1e-5)
        assert np.abs(mean - direct).max() > 1e-5


def test_images_of_a_file_may_be_read_only(checkpoint):
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16), np.uint8)
    expected = deployed(checkpoint[0]).predict(images)
    images.flags.writeable = False
    np.testing.assert_array_equal(deployed(checkpoint[0]).predict(images), expected)


def test_a_class_is_predicted_above_its_own_threshold():
    two_thresholds = card().model_copy(update={"thresholds": (0.2, 0.8)})
    predicted = predicted_classes(np.array([[0.3, 0.3], [0.1, 0.9]], np.float32), two_thresholds)
    assert predicted.tolist() == [[True, False], [False, True]]
    exclusive = card("multi_class").model_copy(update={"thresholds": ()})
    assert predicted_classes(np.array([[0.6, 0.4]], np.float32), exclusive).tolist() == [[True, False]]


def test_an_overconfident_model_predicts_what_its_record_counts():
    """All four sigmoids are 1 as float32: a threshold between them, in float64, would be above or below all."""
    logits, labels = torch.tensor([[18.0], [19.0], [20.0], [21.0]]), np.array([[0], [0], [1], [1]], np.uint8)
    probabilities = torch.sigmoid(logits).numpy()[:, 0]
    thresholds = (choose_threshold(probabilities, labels[:, 0], OperatingPoint.parse("balanced_accuracy")),)
    binary = card("binary").model_copy(update={"classes": ("any",), "thresholds": thresholds})
    predicted = predicted_classes(to_probabilities(logits, binary).numpy(), binary)
    assert predicted.all()
    assert thresholds == (0.5,)
    assert confusion(Readout("binary", ("any",), thresholds), logits, torch.from_numpy(labels)) == (((0, 2), (0, 2)),)


@pytest.mark.parametrize("name", ["checkpoint.json", "weights.safetensors"])
def test_the_digest_of_a_checkpoint_covers_each_byte_of_card_and_weights(checkpoint, name):
    before = checkpoint_digest(checkpoint[0])
    file = Path(checkpoint[0], name)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert checkpoint_digest(checkpoint[0]) != before
    file.write_bytes(content)
    assert checkpoint_digest(checkpoint[0]) == before


def test_no_images_give_no_probabilities(checkpoint):
    none = np.empty((0, 3, 16, 16), np.uint8)
    assert [part.shape for part in deployed(checkpoint[0]).predict(none)] == [(0, 2), (0, 2)]


def test_out_of_memory_is_an_error_with_the_batch_size(checkpoint, monkeypatch):
    model = deployed(checkpoint[0], batch_size=8)
    monkeypatch.setattr(model, "forward", lambda _: torch.empty(1 << 60))
    with pytest.raises(ConfigError, match="out of memory with batch_size 8; try batch_size 4, "):
        model.predict(np.zeros((1, 3, 16, 16), np.uint8))


def test_probabilities_of_exclusive_classes_sum_to_one():
    """exp(1) / (exp(1) + exp(0)) = 0.7311, which is also the sigmoid of 1."""
    logits = torch.tensor([[1.0, 0.0]])
    assert to_probabilities(logits, card("multi_class"))[0].tolist() == pytest.approx([0.7311, 0.2689], abs=1e-4)
    assert to_probabilities(logits, card("multi_label"))[0].tolist() == pytest.approx([0.7311, 0.5], abs=1e-4)


def _predictions(rows: list[tuple[str | None, float, float]]) -> pa.Table:
    studies, first, second = zip(*rows, strict=True)
    return pa.table(
        {
            "image_id": [f"i{row}" for row in range(len(rows))],
            "patient": [None if study is None else f"patient of {study}" for study in studies],
            "study": pa.array(studies, pa.string()),
            "probability_any": pa.array(first, pa.float32()),
            "probability_subdural": pa.array(second, pa.float32()),
        }
    )


def test_maximum_and_noisy_or_by_hand() -> None:
    """Of b: 1 - 1/2 * 3/4 = 5/8, and 1 - 0.9 * 0.8 = 0.28."""
    found = study_probabilities(
        _predictions([("b", 0.5, 0.1), ("a", 0.125, 1.0), ("b", 0.25, 0.2), (None, 0.9, 0.9)]), ("any", "subdural")
    )
    one, two = found.to_pylist()
    assert one == {
        "study": "a", "patient": "patient of a", "images": 1,
        "max_any": 0.125, "noisy_or_any": pytest.approx(0.125), "max_subdural": 1.0, "noisy_or_subdural": 1.0,
    }  # fmt: skip
    assert (two["study"], two["images"], two["max_any"]) == ("b", 2, 0.5)
    assert two["noisy_or_any"] == pytest.approx(0.625)
    assert two["max_subdural"] == pytest.approx(0.2)
    assert two["noisy_or_subdural"] == pytest.approx(0.28)


def test_images_without_a_study_make_none() -> None:
    assert study_probabilities(_predictions([(None, 0.5, 0.5)]), ("any", "subdural")).num_rows == 0


def test_studies_numbered_within_each_patient_are_apart() -> None:
    """P1, P2 and an unknown patient each have a study 1."""
    rows = _predictions([("1", 0.25, 0.0), ("1", 0.75, 0.0), ("1", 0.5, 0.0), ("1", 0.125, 0.0)])
    patients = pa.array(["P2", "P1", "P2", None])
    found = study_probabilities(rows.set_column(1, "patient", patients), ("any", "subdural"))
    assert found.select(["study", "patient", "images", "max_any"]).to_pylist() == [
        {"study": "1", "patient": "P1", "images": 1, "max_any": 0.75},
        {"study": "1", "patient": "P2", "images": 2, "max_any": 0.5},
        {"study": "1", "patient": None, "images": 1, "max_any": 0.125},
    ]


def test_a_localizer_and_a_capture_are_no_slices_of_a_study() -> None:
    rows = _predictions([("a", 1.0, 1.0), ("a", 0.25, 0.0), ("a", 0.5, 0.0), ("b", 0.9, 0.9)])
    flags = [["localizer"], ["padded"], [], ["derived", "secondary_capture"]]
    found = study_probabilities(slices_of_stacks(rows.append_column("flags", pa.array(flags))), ("any",))
    assert found.to_pylist() == [
        {"study": "a", "patient": "patient of a", "images": 2, "max_any": 0.5, "noisy_or_any": pytest.approx(0.625)}
    ]


def test_many_unlikely_slices_are_not_rounded_away() -> None:
    found = study_probabilities(_predictions([("a", 1e-7, 0.0)] * 40), ("any", "subdural"))
    assert found["noisy_or_any"][0].as_py() == pytest.approx(4e-6, rel=1e-5)


def test_noisy_or_of_many_likely_slices_is_not_rounded_to_one() -> None:
    """Of 40 slices at 0.4, 1 - 0.6^40 = 1 - 1.34e-9; at 0.5, 1 - 9.09e-13: float32 makes both 1."""
    rows = [("a", 0.4, 0.0)] * 40 + [("b", 0.5, 0.0)] * 40
    found = study_probabilities(_predictions(rows), ("any", "subdural"))["noisy_or_any"].to_pylist()
    assert [1 - value for value in found] == [pytest.approx(1.3367e-9, rel=1e-4), pytest.approx(9.095e-13, rel=1e-3)]


def test_log_odds_of_any_slice_rank_where_the_probability_is_one() -> None:
    """40 slices at 0.4 and 0.8: -40 log 0.6 = 20.433, -40 log 0.2 = 64.378; a certain absence is finite."""
    absent = np.array([40 * np.log(0.6), 40 * np.log(0.2), np.log(0.5), 0.0])
    np.testing.assert_allclose(log_odds_of_any(absent), [20.4330, 64.3775, 0.0, -708.3964], rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("count", [3, 10, 99])
def test_the_first_images_of_test(make_training_set: Callable[..., str], count: int) -> None:
    """The set has 16, in two files; that it is of another kind of corpus does not matter."""
    folder = make_training_set()
    wanted = read_training_set(folder).test
    assert wanted is not None
    np.testing.assert_array_equal(first_images(folder, CARD, count), wanted.images.pixels[:count])


def test_columns_come_with_their_images(make_training_set: Callable[..., str]) -> None:
    batches = list(stored_batches(make_training_set() + "/test", CARD, ["image_id"], 5))
    assert [batch["image_id"][0].as_py() for batch, _ in batches] == [f"test-{row:03d}" for row in (0, 5, 8, 13)]
    assert [len(images) for _, images in batches] == [5, 3, 5, 3]


def test_the_images_of_a_conversion(make_training_set: Callable[..., str], tmp_path: Path) -> None:
    folder = Path(make_training_set())
    wanted = first_images(str(folder), CARD, 4)
    card = json.loads((folder / "card.json").read_text())
    del card["splits"]
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "test").rename(folder / "shards")
    np.testing.assert_array_equal(first_images(str(folder), CARD, 4), wanted)


def test_what_does_not_fit_is_refused(make_training_set: Callable[..., str], tmp_path: Path) -> None:
    folder = make_training_set()
    with pytest.raises(ConfigError, match="side_px 16 in the source, 32 in the checkpoint"):
        first_images(folder, CARD.model_copy(update={"image": {"side_px": 32}}), 1)
    with pytest.raises(ConfigError, match=r"channels \[brain\] in the source, \[soft\] in the checkpoint"):
        first_images(folder, CARD.model_copy(update={"channels": ("soft",)}), 1)
    with pytest.raises(SourceError, match="holds no images; give an output folder"):
        first_images(str(tmp_path / "nothing"), CARD, 1)
    for part in (Path(folder) / "test").iterdir():
        part.unlink()
    with pytest.raises(SourceError, match="test has no images"):
        first_images(folder, CARD, 1)
