"""Optimisers and learning rates."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from hemo.config.trial import ModelConfig, TrainingConfig
from hemo.errors import ConfigError
from hemo.models.classifier import ImageClassifier, build_model
from hemo.training.optim import (
    build_optimizer,
    layer_groups,
    learning_rate_at,
    no_weight_decay,
    running_average,
    set_learning_rate,
    set_trainable_parts,
    set_training_mode,
)


@pytest.mark.parametrize(
    ("name", "first_step"),
    [
        ("sgd", 1 - 0.1 * (2.0 + 0.5 * 1)),  # decay is added to the gradient
        ("sgd_nesterov", 1 - 0.1 * (1 + 0.9) * (2.0 + 0.5 * 1)),  # one step of momentum ahead
        ("adam", 1 - 0.1),  # the first step of Adam has the length of the learning rate
        ("adamw", 1 - 0.1 * 0.5 * 1 - 0.1),  # decay apart from the gradient
    ],
)
def test_first_step_by_hand(name: str, first_step: float) -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.ones_(module.weight)
    config = TrainingConfig(optimizer=name, learning_rate=0.1, weight_decay=0.5)
    optimizer = build_optimizer(module, config, torch.device("cpu"))
    (module.weight * 2.0).sum().backward()
    optimizer.step()
    assert module.weight.item() == pytest.approx(first_step, abs=1e-6)


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_biases_and_normalisation_are_not_decayed(layer_decay: float) -> None:
    module = build_model(ModelConfig(backbone="test_resnet"), channels=1, sides_px=(32, 32), classes=1)
    config = TrainingConfig(optimizer="adamw", weight_decay=0.05, layer_decay=layer_decay)
    groups = build_optimizer(module, config, torch.device("cpu")).param_groups
    decayed = {parameter for group in groups if group["weight_decay"] == 0.05 for parameter in group["params"]}
    kept = {parameter for group in groups if group["weight_decay"] == 0 for parameter in group["params"]}
    assert {parameter.ndim for parameter in decayed} == {2, 4}
    assert {parameter.ndim for parameter in kept} == {1}
    assert decayed | kept == set(module.parameters())


def test_position_embeddings_are_not_decayed() -> None:
    module = build_model(ModelConfig(backbone="test_vit"), channels=3, sides_px=(160, 160), classes=1)
    assert module.backbone.pos_embed in no_weight_decay(module)
    assert module.head[-1].weight not in no_weight_decay(module)


def test_constant_rate_without_warmup() -> None:
    config = TrainingConfig(learning_rate=0.3)
    assert [learning_rate_at(step, steps_an_epoch=10, config=config) for step in (0, 299)] == [0.3, 0.3]


def test_warmup_then_half_a_cosine() -> None:
    config = TrainingConfig(learning_rate=1.0, epochs=4, schedule="cosine", warmup_epochs=1)
    rates = {step: learning_rate_at(step, steps_an_epoch=10, config=config) for step in (0, 4, 9, 10, 20, 25, 39)}
    assert rates == pytest.approx({0: 0.1, 4: 0.5, 9: 1.0, 10: 1.0, 20: 0.75, 25: 0.5, 39: 0.00273905}, abs=1e-6)


def test_one_cycle_by_hand() -> None:
    """Of 20 steps the peak is at step 0.3 * 20 - 1 = 5; half way down, at 12, both ends count half."""
    config = TrainingConfig(learning_rate=1.0, epochs=2, schedule="one_cycle")
    rates = {step: learning_rate_at(step, steps_an_epoch=10, config=config) for step in (0, 5, 12, 19)}
    assert rates == pytest.approx({0: 0.04, 5: 1.0, 12: (1 + 4e-6) / 2, 19: 4e-6})


def test_one_cycle_is_that_of_torch() -> None:
    config = TrainingConfig(learning_rate=0.3, epochs=3, schedule="one_cycle")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.3, total_steps=21, cycle_momentum=False)
    for step in range(21):
        assert learning_rate_at(step, steps_an_epoch=7, config=config) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        if step < 20:
            theirs.step()


def test_one_cycle_of_a_single_step_has_the_peak() -> None:
    config = TrainingConfig(learning_rate=0.3, epochs=1, schedule="one_cycle")
    assert learning_rate_at(0, steps_an_epoch=1, config=config) == pytest.approx(0.3)


def test_one_cycle_with_a_warmup_of_its_own_is_refused() -> None:
    with pytest.raises(ValidationError, match="one_cycle includes a warm-up: leave out warmup_epochs"):
        TrainingConfig(schedule="one_cycle", warmup_epochs=1)


@pytest.mark.parametrize(
    ("val_losses", "rate"),
    [
        ([], 1.0),
        ([0.5, 0.6], 1.0),
        ([0.5, 0.6, 0.5], 0.1),  # as low as before is no better
        ([0.5, 0.6, 0.4, 0.5], 1.0),  # a better epoch counts anew
        ([0.5, 0.6, 0.7, 0.8], 0.1),  # a plateau counts anew, too
        ([0.5, 0.6, 0.7, 0.8, 0.9], 0.01),
    ],
)
def test_plateaus_take_nine_tenths_of_the_rate(val_losses: list[float], rate: float) -> None:
    config = TrainingConfig(learning_rate=1.0, schedule="plateau")
    found = learning_rate_at(30, steps_an_epoch=10, config=config, val_losses=val_losses)
    assert found == pytest.approx(rate)


def test_set_learning_rate_reaches_every_group() -> None:
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)]}], lr=1.0)
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


@pytest.fixture
def resnet() -> ImageClassifier:
    """Return a model of a stem, four stages of a block each, and a head."""
    return build_model(ModelConfig(backbone="test_resnet", hidden_layers=1), channels=1, sides_px=(16, 16), classes=1)


def test_each_stage_learns_at_half_the_rate_of_the_next(resnet: ImageClassifier) -> None:
    config = TrainingConfig(optimizer="sgd", learning_rate=1.0, layer_decay=0.5)
    optimizer = build_optimizer(resnet, config, torch.device("cpu"))
    set_learning_rate(optimizer, 0.8)
    rate = {id(value): group["lr"] for group in optimizer.param_groups for value in group["params"]}
    found = {name: rate[id(value)] for name, value in resnet.named_parameters()}
    assert found["backbone.conv1.0.weight"] == found["backbone.bn1.bias"] == pytest.approx(0.8 / 32)
    assert found["backbone.layer1.0.conv1.weight"] == pytest.approx(0.8 / 16)
    assert found["backbone.layer4.0.downsample.1.weight"] == pytest.approx(0.8 / 2)
    assert found["head.dense1.weight"] == found["head.logits.bias"] == 0.8


def test_every_parameter_is_in_one_group(resnet: ImageClassifier) -> None:
    grouped = [id(value) for group in layer_groups(resnet, 0.5) for value in group["params"]]
    assert sorted(grouped) == sorted(id(value) for value in resnet.parameters())


def test_layer_decay_of_a_backbone_without_known_stages_is_refused() -> None:
    model = ImageClassifier(nn.Linear(1, 1), nn.Linear(1, 1))
    with pytest.raises(ConfigError, match=r"training.layer_decay: timm does not know the stages of this backbone"):
        build_optimizer(model, TrainingConfig(layer_decay=0.5), torch.device("cpu"))


def _stepped(model: ImageClassifier, *, frozen: bool) -> set[str]:
    """Return which parts of the model one step of SGD changes, weights and running statistics alike."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    set_training_mode(model, frozen=frozen)
    model(torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1).step()
    return {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_only_the_head_of_a_frozen_model_is_trained_until_it_is_unfrozen() -> None:
    model = build_model(ModelConfig(backbone="test_resnet"), channels=1, sides_px=(16, 16), classes=1)
    set_trainable_parts(model, frozen=True)
    assert _stepped(model, frozen=True) == {"head"}
    set_trainable_parts(model, frozen=False)
    assert _stepped(model, frozen=False) == {"backbone", "head"}


def test_dropout_of_the_head_stays_on() -> None:
    model = build_model(ModelConfig(backbone="test_resnet"), channels=1, sides_px=(16, 16), classes=1)
    set_training_mode(model, frozen=True)
    assert (model.backbone.training, model.head.training) == (False, True)


def _after(decay: float, weights: dict[int, float]) -> list[float]:
    """Return the average after each of the steps, at which the model has these weights."""
    module = nn.Linear(1, 1, bias=False)
    average = running_average(module, decay)
    found = []
    for step, weight in weights.items():
        nn.init.constant_(module.weight, weight)
        average.update(module, step=step)
        found.append(average.module.weight.item())
    return found


def test_the_first_steps_count_more() -> None:
    """Step 1 keeps nothing of the untrained weights, step 2 keeps 1 - 2 ** -0.75 = 0.4054."""
    assert _after(0.999, {1: 1.0, 2: 2.0}) == pytest.approx([1.0, 0.405396 * 1 + 0.594604 * 2], abs=1e-5)


def test_later_steps_keep_the_decay() -> None:
    assert _after(0.25, {1: 1.0, 2: 3.0, 3: 5.0}) == pytest.approx([1.0, 0.25 + 2.25, 0.625 + 3.75])


def test_running_statistics_are_averaged_and_counts_copied() -> None:
    module = nn.BatchNorm1d(1)
    average = running_average(module, 0.5)
    for step, mean in ((1, 2.0), (3, 4.0)):
        module.running_mean.fill_(mean)
        module.num_batches_tracked.fill_(step)
        average.update(module, step=step)
    assert (average.module.running_mean.item(), average.module.num_batches_tracked.item()) == (3.0, 3)


def test_the_average_is_a_model_of_its_own() -> None:
    module = nn.Linear(1, 1)
    average = running_average(module, 0.9).module
    with torch.no_grad():
        module.weight += 1
    assert average.weight.item() == pytest.approx(module.weight.item() - 1)
