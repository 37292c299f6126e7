"""Changes of a trial, dotted and nested."""

import pytest
from pydantic import ValidationError

from hemo.config.trial import TrialConfig
from hemo.config.tune import TrainWorkersConfig, WorkersConfig, changed, flattened, nested, settings_name, varying
from hemo.errors import ConfigError


def test_dotted_and_nested_keys_meet():
    """Both ways of writing land in one tree."""
    assert nested({"model.backbone": "a", "model": {"dropout": 0.1}, "seed": 3}) == {
        "model": {"backbone": "a", "dropout": 0.1},
        "seed": 3,
    }
    assert dict(flattened({"model": {"backbone": "a"}, "seed": 3})) == {"model.backbone": "a", "seed": 3}


def test_changed_keeps_the_rest():
    """Only the named field changes."""
    base = TrialConfig.model_validate({"model": {"backbone": "VGG16", "dense_width": 8}})
    trial = changed(base, {"model.dense_width": 32}, origin="here")
    assert (trial.model.backbone, trial.model.dense_width) == ("VGG16", 32)


def test_changed_names_place_and_cure():
    """The error names where the change came from and what was probably meant."""
    with pytest.raises(ConfigError, match=r"grid\.cells\[2\]: model\.bakbone: no such key.*did you mean backbone"):
        changed(TrialConfig(), {"model.bakbone": "VGG16"}, origin="grid.cells[2]")


def test_workers_of_one_trial_have_a_gpu_each():
    """Trials of one worker may share one."""
    assert WorkersConfig(count=1, gpus=0.5).gpus == 0.5
    assert [WorkersConfig(count=2, gpus=gpus).count for gpus in ("auto", 0, 1, 2.0)] == [2] * 4
    for kind in (WorkersConfig, TrainWorkersConfig):
        with pytest.raises(ValidationError, match=r"gpus 0\.5: 2 workers of one trial cannot share a GPU.*gpus 1"):
            kind(count=2, gpus=0.5)


def test_words_say_what_differs():
    """Names are made of differing fields alone, in the order of the config."""
    base = TrialConfig()
    trials = [
        changed(base, {"training.learning_rate": rate, "model.dense_width": width}, origin="")
        for rate, width in ((1e-5, 8), (1e-4, 16))
    ]
    assert varying(trials) == ["model.dense_width", "training.learning_rate"]
    assert settings_name(trials[1], ["model.backbone", *varying(trials)]) == "resnet18, dense 16, lr 0.0001"
    assert settings_name(base, ["training.patience"]) == "patience 5"


def test_a_name_has_six_digits_of_a_drawn_number():
    """Written ones have fewer, and stay as they are; an ema_decay of 0.9999 must not become 1."""
    drawn = {"model.dropout": 0.1342808822834115, "training.weight_decay": 0.0006586142416793601}
    trial = changed(TrialConfig(), drawn, origin="")
    assert settings_name(trial, list(drawn)) == "dropout 0.134281, weight_decay 0.000658614"
    written = {"model.dropout": 0.0, "training.weight_decay": 1e-4, "training.ema_decay": 0.9999}
    trial = changed(TrialConfig(), written, origin="")
    assert settings_name(trial, list(written)) == "dropout 0.0, weight_decay 0.0001, ema_decay 0.9999"
