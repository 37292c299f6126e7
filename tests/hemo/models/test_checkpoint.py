"""Checkpoints there and back."""

import json
from pathlib import Path

import pytest
import torch

from hemo.config.trial import ModelConfig
from hemo.errors import ConfigError, SourceError
from hemo.models.checkpoint import (
    CheckpointCard,
    at_operating_point,
    load_checkpoint,
    read_state,
    write_checkpoint,
    write_state,
)
from hemo.models.classifier import build_model
from hemo.stats.calibration import Calibration, SampledClass
from tests.hostile import Runs


@pytest.fixture
def card() -> CheckpointCard:
    return CheckpointCard(
        model=ModelConfig(backbone="test_resnet", weights="imagenet", hidden_layers=1),
        task="binary",
        classes=("any",),
        channels=("brain", "bone"),
        image={"windows": ["brain", "bone"]},
        height_px=16,
        width_px=24,
        mean=(0.5, 0.4),
        std=(0.25, 0.2),
        thresholds=(0.3,),
        calibration=Calibration("prior", sampled=SampledClass(0, 0.5, 0.1, True), slopes=(1.0,), intercepts=(0.0,)),
        operating_points={"balanced_accuracy": (0.3,), "sensitivity=0.95": (0.1,)},
        training_set="feedface",
    )


def test_logits_are_equal_after_the_way_there_and_back(tmp_path: Path, card: CheckpointCard) -> None:
    model = build_model(card.model, channels=2, sides_px=(16, 24), classes=1).eval()
    write_checkpoint(str(tmp_path), model, card)
    loaded, read = load_checkpoint(str(tmp_path))
    images = torch.rand(4, 2, 16, 24)
    assert torch.equal(loaded(images), model(images))
    assert not loaded.training
    assert read == card
    assert read.normalisation.mean == (0.5, 0.4)


def test_loading_leaves_the_random_generator_alone(tmp_path: Path, card: CheckpointCard) -> None:
    write_checkpoint(str(tmp_path), build_model(card.model, channels=2, sides_px=(16, 24), classes=1), card)
    before = torch.random.get_rng_state()
    load_checkpoint(str(tmp_path))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"it has no checkpoint.json\); give a record's checkpoint folder"):
        load_checkpoint(str(tmp_path))


def test_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.json").write_text(json.dumps({"schema_version": 99}))
    with pytest.raises(SourceError, match="is no checkpoint of version 3; train again"):
        load_checkpoint(str(tmp_path))


def test_a_damaged_card_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.json").write_text('{"schema_version": 3}')
    with pytest.raises(SourceError, match=r"checkpoint\.json is damaged: model: Field required; train again"):
        load_checkpoint(str(tmp_path))


def test_weights_of_another_model_are_refused(tmp_path: Path, card: CheckpointCard) -> None:
    write_checkpoint(str(tmp_path), torch.nn.Linear(2, 2), card)
    with pytest.raises(SourceError, match=r"does not fit checkpoint\.json"):
        load_checkpoint(str(tmp_path))


def test_missing_weights_are_refused(tmp_path: Path, card: CheckpointCard) -> None:
    write_checkpoint(str(tmp_path), torch.nn.Linear(2, 2), card)
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(SourceError, match=r"has no weights\.safetensors"):
        load_checkpoint(str(tmp_path))


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    place = str(tmp_path / "state.pt")
    assert read_state(place) is None
    write_state(place, {"weights": torch.arange(3.0), "epoch": 2, "val": {"loss": 0.5}})
    state = read_state(place)
    assert state is not None
    assert (state["weights"].tolist(), state["epoch"], state["val"]) == ([0.0, 1.0, 2.0], 2, {"loss": 0.5})


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_the_error_of_a_damaged_state_has_the_way_out(tmp_path: Path, keep: int) -> None:
    place = tmp_path / "state.pt"
    write_state(str(place), {"weights": torch.arange(300.0)})
    place.write_bytes(place.read_bytes()[:keep] + b"junk" * (keep >= 0))
    with pytest.raises(SourceError, match=r"state\.pt is damaged; remove it, and the trial begins anew"):
        read_state(str(place))


def test_a_state_with_an_object_that_runs_code_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    place, mark = tmp_path / "state.pt", tmp_path / "ran"
    torch.save({"weights": torch.arange(3.0), "epoch": Runs(mark)}, place)
    with pytest.raises(SourceError, match=r"state\.pt is damaged; remove it"):
        read_state(str(place))
    assert not mark.exists()
    torch.load(place, weights_only=False)
    assert mark.exists()  # it would have run


def test_a_card_at_another_operating_point(card: CheckpointCard) -> None:
    assert at_operating_point(card, "checkpoint") is card
    found = at_operating_point(card, "sensitivity=0.95")
    assert (found.thresholds, found.operating_point) == ((0.1,), "sensitivity=0.95")
    with pytest.raises(
        ConfigError, match=r"no thresholds of cost_ratio=3; it has balanced_accuracy, sensitivity=0\.95"
    ):
        at_operating_point(card, "cost_ratio=3")
