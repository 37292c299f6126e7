"""Options of training that do not suit backbone or loss."""

import pytest
import torch

from hemo.config.trial import ModelConfig, TrialConfig
from hemo.errors import ConfigError
from hemo.training import option_checks
from hemo.training.loss import build_loss
from hemo.training.option_checks import check_models, check_options


def _check(backbone: str = "test_resnet", **sections: dict[str, object]) -> None:
    check_options(TrialConfig.model_validate({"model": {"backbone": backbone}, **sections}), 1, (16, 16))


@pytest.mark.parametrize("backbone", ["none", "CNN(4,8)"])
def test_stages_that_are_not_known_have_no_rates_of_their_own(backbone: str) -> None:
    _check(backbone, training={"layer_decay": 1.0})
    with pytest.raises(ConfigError, match=r"^trial.training.layer_decay: timm does not know the stages of (none|CNN)"):
        _check(backbone, training={"layer_decay": 0.9})


def test_what_is_not_there_cannot_be_frozen() -> None:
    _check("CNN(4,8)", training={"freeze_epochs": 1})  # with random weights: slow to learn, but what was asked for
    with pytest.raises(ConfigError, match=r"^trial.training.freeze_epochs: backbone none has nothing to freeze"):
        _check("none", training={"freeze_epochs": 1})


def test_a_warm_up_that_never_ends_is_refused() -> None:
    _check(training={"epochs": 2, "warmup_epochs": 2})  # the last step has the peak
    with pytest.raises(ConfigError, match=r"^trial.training.warmup_epochs: 3 of 2 epochs, .* never reaches its peak"):
        _check(training={"epochs": 2, "warmup_epochs": 3})


def test_a_backbone_that_never_learns_is_a_linear_probe() -> None:
    _check(training={"epochs": 2, "freeze_epochs": 2})


def test_labels_in_between_are_for_losses_that_lead_there() -> None:
    for loss in ("default", "class_weighted", "focal"):
        _check(training={"loss": loss, "label_smoothing": 0.1}, augment={"mixup_alpha": 0.2})
    with pytest.raises(ConfigError, match=r"^trial.training.label_smoothing: 0.1 makes labels .* loss dice leads to 0"):
        _check(training={"loss": "dice", "label_smoothing": 0.1})
    with pytest.raises(ConfigError, match=r"^trial.augment.mixup_alpha: 0.2 makes labels .* leave it at 0 or take"):
        _check(training={"loss": "dice"}, augment={"mixup_alpha": 0.2})


@pytest.mark.parametrize(("loss", "best"), [("default", 0.7), ("class_weighted", 0.7), ("dice", 1.0)])
def test_where_a_label_of_seven_tenths_leads(loss: str, best: float) -> None:
    """Two of four training images have the class, so that both sides weigh the same."""
    config = TrialConfig.model_validate({"training": {"loss": loss}})
    image_loss = build_loss(config, ("any",), torch.tensor([[1.0], [1], [0], [0]]))
    tried = torch.linspace(0.001, 0.999, 999)
    losses = image_loss(torch.logit(tried)[:, None], torch.full((999, 1), 0.7))
    assert tried[losses.argmin()].item() == pytest.approx(best, abs=0.002)


@pytest.mark.parametrize(("backbone", "side_px"), [("test_resnet", 48), ("CNN(4,8)", 0), ("CNN(4,8)", 10)])
def test_a_backbone_takes_images_as_it_sees_them(backbone: str, side_px: int) -> None:
    check_models({"": TrialConfig(model=ModelConfig(backbone=backbone, side_px=side_px))}, 1, (96, 96))


@pytest.mark.parametrize(
    ("backbone", "side_px", "message"),
    [
        ("CNN(4,8)", 9, r"cannot take images of 9 x 9 px, it wants at least 10 px; .*model.side_px"),
        ("CNN(4,8)", 97, r"^model.side_px: images of 96 x 96 px cannot be shrunk to 97 px"),
    ],
)
def test_images_too_small_once_they_are_shrunk_are_refused(backbone: str, side_px: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_models({"": TrialConfig(model=ModelConfig(backbone=backbone, side_px=side_px))}, 1, (96, 96))


def test_stages_are_those_of_the_backbone_at_the_smaller_side() -> None:
    """A transformer for 224 px in patches of 16 is made for 32 px here, not for 250, which 16 does not divide."""
    config = {"model": {"backbone": "test_vit", "side_px": 32}, "training": {"layer_decay": 0.5}}
    check_options(TrialConfig.model_validate(config), 1, (250, 250))


def test_each_distinct_model_is_checked_once_and_errors_name_where(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []
    monkeypatch.setattr(option_checks, "check_weights", lambda model, *_: checked.append(model.backbone))
    trials = {f"grid: {seed}": TrialConfig(model=ModelConfig(backbone="test_resnet"), seed=seed) for seed in range(3)}
    check_models(trials, 1, (16, 16))
    assert checked == ["test_resnet"]
    wrong = {**trials, "grid: wrong": TrialConfig(model=ModelConfig(backbone="VGG16"))}
    with pytest.raises(ConfigError, match="it wants at least 32 px") as error:
        check_models(wrong, 1, (16, 16))
    assert error.value.__notes__ == ["in grid: wrong"]
