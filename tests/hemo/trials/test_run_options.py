"""Every option on every kind of backbone: it is refused by name before work, or an epoch with it has a loss."""

import math
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from hemo.config.trial import TrialConfig
from hemo.errors import ConfigError
from hemo.training.data.dataset import TrialData, read_training_set, select_splits
from hemo.training.distributed import Worker
from hemo.training.loop import fit
from hemo.training.reporting import run_to_end
from hemo.trials.checks import check_trials
from tests.training_sets import training_set_maker

BACKBONES = ("test_resnet", "test_vit", "test_mambaout", "CNN(4,8)", "none")
"""Features by rows and columns, as tokens, with channels last; and the two of hemo's own."""

LOSSES = {
    "binary": ("default", "class_weighted", "focal", "dice"),
    "multi_label": ("default", "class_weighted", "rsna", "focal", "dice"),
    "multi_class": ("default", "class_weighted", "focal", "dice"),
}

OPTIONS: dict[str, dict[str, Any]] = {
    "layer_decay": {"training": {"layer_decay": 0.5}},
    "freeze_epochs": {"training": {"freeze_epochs": 1}},
    "step": {"training": {"ema_decay": 0.5, "clip_norm": 1.0, "accumulation": 2, "optimizer": "sgd_nesterov"}},
    "rate": {"training": {"schedule": "plateau", "warmup_epochs": 0.5, "optimizer": "adamw", "weight_decay": 0.1}},
    "augmented": {"augment": {"rotate_degrees": 9, "erase": 0.5, "window_level": 0.1, "aspect_fraction": 0.1}},
    "flatten": {"model": {"pooling": "flatten", "hidden_layers": 2}},
}
SOFT: dict[str, dict[str, Any]] = {
    "label_smoothing": {"training": {"label_smoothing": 0.1}},
    "mixup_alpha": {"augment": {"mixup_alpha": 0.4}},
}

REFUSED = {
    **{(backbone, "layer_decay"): "training.layer_decay" for backbone in ("CNN(4,8)", "none")},
    ("none", "freeze_epochs"): "training.freeze_epochs",
    ("dice", "label_smoothing"): "training.label_smoothing",
    ("dice", "mixup_alpha"): "augment.mixup_alpha",
}
"""(backbone or loss, option) -> the field that is named; all else trains."""


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrialData]:
    """Return a set of one class and one of three, one label an image."""
    few = {"train": 8, "val": 4, "test": 4}
    one = training_set_maker(tmp_path_factory.mktemp("one"))(rows=few)
    names = ("any", "epidural", "subdural")
    three = training_set_maker(tmp_path_factory.mktemp("three"))(
        rows=few, classes=names, label=lambda number, name: int(names[number % 3] == name)
    )
    return {"binary": read_training_set(one), "several": read_training_set(three)}


def _config(backbone: str, task: str, loss: str, changed: dict[str, Any]) -> TrialConfig:
    training = {"epochs": 1, "batch_size": 4, "loss": loss, **changed.get("training", {})}
    model = {"backbone": backbone, **changed.get("model", {})}
    return TrialConfig.model_validate(
        {"task": task, "model": model, "training": training, "augment": changed.get("augment", {})}
    )


def _loss_or_refusal(config: TrialConfig, data: TrialData, folder: Path) -> float | str:
    """Return the validation loss after an epoch, or the message of `check_trials`."""
    try:
        check_trials({"": config}, data.card)
    except ConfigError as error:
        return str(error)
    splits = select_splits(data, config)
    result = run_to_end(fit(config, splits, worker=Worker(), state_path=str(folder / "state.pt")))
    return result.epochs[0].val["loss"]


def _require(found: float | str, field: str | None) -> None:
    if field is None:
        assert isinstance(found, float), found
        assert math.isfinite(found)
    else:
        assert str(found).startswith(f"trial.{field}: ")


@pytest.mark.parametrize(("backbone", "option"), list(product(BACKBONES, OPTIONS)))
def test_an_option_on_a_backbone(sets: dict[str, TrialData], tmp_path: Path, backbone: str, option: str) -> None:
    config = _config(backbone, "binary", "default", OPTIONS[option])
    _require(_loss_or_refusal(config, sets["binary"], tmp_path), REFUSED.get((backbone, option)))


@pytest.mark.parametrize(("task", "loss"), [(task, loss) for task, losses in LOSSES.items() for loss in losses])
@pytest.mark.parametrize("option", ["", *SOFT])
def test_a_loss_with_hard_and_soft_labels(
    sets: dict[str, TrialData], tmp_path: Path, task: str, loss: str, option: str
) -> None:
    config = _config("CNN(4,8)", task, loss, SOFT.get(option, {}))
    data = sets["binary" if task == "binary" else "several"]
    _require(_loss_or_refusal(config, data, tmp_path), REFUSED.get((loss, option)))


def test_a_backbone_whose_stages_timm_does_not_know(sets: dict[str, TrialData], tmp_path: Path) -> None:
    config = _config("pit_ti_224", "binary", "default", OPTIONS["layer_decay"])
    card = sets["binary"].card.model_copy(update={"height_px": 224, "width_px": 224})
    with pytest.raises(ConfigError, match=r"^trial.training.layer_decay: timm does not know the stages of pit_ti_224"):
        check_trials({"": config}, card)
