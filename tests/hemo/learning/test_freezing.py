"""A frozen backbone."""

import torch

from hemo.config.trial import ModelConfig
from hemo.learning.freezing import freeze, thaw, training_mode
from hemo.learning.model import ImageClassifier, build_model


def _stepped(model: ImageClassifier, *, frozen: bool) -> set[str]:
    """Return which parts of the model one step of SGD changes, weights and running statistics alike."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    training_mode(model, frozen=frozen)
    model(torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1).step()
    return {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_only_the_head_of_a_frozen_model_learns_until_it_is_thawed() -> None:
    model = build_model(ModelConfig(backbone="test_resnet"), channels=1, sides_px=(16, 16), classes=1)
    freeze(model)
    assert _stepped(model, frozen=True) == {"head"}
    thaw(model)
    assert _stepped(model, frozen=False) == {"backbone", "head"}


def test_dropout_of_the_head_stays_on() -> None:
    model = build_model(ModelConfig(backbone="test_resnet"), channels=1, sides_px=(16, 16), classes=1)
    training_mode(model, frozen=True)
    assert (model.backbone.training, model.head.training) == (False, True)
