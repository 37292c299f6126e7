"""What a step updates: the parts that learn, the optimiser, the learning rate as a function of the step, an average."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from timm.models import group_parameters
from timm.utils.model_ema import ModelEmaV3
from torch import nn

from hemo.config.trial import TrainingConfig
from hemo.errors import ConfigError
from hemo.models.classifier import ImageClassifier
from hemo.models.sequence import SequenceClassifier

SGD_MOMENTUM = 0.9

LR_SCALE = "lr_scale"
"""Key of a parameter group: factor of the learning rate."""

ONE_CYCLE_RISE = 0.3
"""Fraction of the steps in which the rate rises; this and the next two as in torch's `OneCycleLR`."""
ONE_CYCLE_START = 1 / 25
"""First learning rate, as a fraction of the peak."""
ONE_CYCLE_END = ONE_CYCLE_START / 1e4
"""Last learning rate, as a fraction of the peak."""

PLATEAU_FACTOR = 0.1
"""What the rate is multiplied by on a plateau, as in Keras' and torch's `ReduceLROnPlateau`."""
PLATEAU_EPOCHS = 2
"""Epochs without a better validation loss that make a plateau; two fit in before early stopping by default."""


AVERAGE_WARMUP_POWER = 0.75
"""How fast the running average of the weights lengthens at first: timm's advice for far below a million steps."""


def set_trainable_parts(model: ImageClassifier | SequenceClassifier, *, frozen: bool) -> None:
    """Train all weights, or the head alone: no gradients are computed for a frozen backbone."""
    model.backbone.requires_grad_(not frozen)


def set_training_mode(model: ImageClassifier | SequenceClassifier, *, frozen: bool) -> None:
    """Put a model into training mode; a frozen backbone keeps its running statistics and has no dropout."""
    model.train()
    if frozen:
        model.backbone.eval()


def build_optimizer(module: nn.Module, config: TrainingConfig, device: torch.device) -> torch.optim.Optimizer:
    """Build the optimiser; fused on CUDA, where one kernel updates all weights.

    Weight decay applies to matrices and kernels only: see `no_weight_decay`.

    Raises:
        ConfigError: If `layer_decay` is set and timm has no stages of the backbone.
    """
    fused = device.type == "cuda"
    rate = config.learning_rate
    groups: list[dict[str, Any]] = [{"params": list(module.parameters())}]
    if config.layer_decay < 1:
        groups = layer_groups(module, config.layer_decay)
    without = no_weight_decay(module)
    groups = [part for group in groups for part in _by_decay(group, config.weight_decay, without)]
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, lr=rate, fused=fused)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, fused=fused)
    nesterov = config.optimizer == "sgd_nesterov"
    return torch.optim.SGD(groups, lr=rate, momentum=SGD_MOMENTUM, nesterov=nesterov, fused=fused)


def no_weight_decay(module: nn.Module) -> set[nn.Parameter]:
    """Return the parameters without weight decay: biases, those of normalisation, and what timm lists.

    Decay of a factor that normalisation undoes, or of an offset, regularises nothing.

    Source:
        He et al. 2019, arXiv:1812.01187, section 3.1. timm lists position embeddings and the like.
    """
    named: set[str] = getattr(getattr(module, "backbone", None), "no_weight_decay", set)()
    return {
        parameter
        for name, parameter in module.named_parameters()
        if parameter.ndim <= 1 or name.removeprefix("backbone.") in named
    }


def _by_decay(group: dict[str, Any], decay: float, without: set[nn.Parameter]) -> list[dict[str, Any]]:
    """Split a group in two, of which the second is not decayed; a part without parameters is left out."""
    parts = [
        {**group, "params": [one for one in group["params"] if one not in without], "weight_decay": decay},
        {**group, "params": [one for one in group["params"] if one in without], "weight_decay": 0.0},
    ]
    return [part for part in parts if part["params"]]


def layer_groups(module: nn.Module, layer_decay: float) -> list[dict[str, Any]]:
    """Return the parameters by depth, the stem first and the head last, each with its factor of the learning rate.

    The head has 1, the last stage of the backbone `layer_decay`, the one before the square of that.

    Args:
        module: With the submodules `backbone`, a timm model, and `head`.
        layer_decay: Learning rate of a stage over that of the next one.

    Raises:
        ConfigError: If timm has no stages of the backbone.

    Source:
        Howard and Ruder 2018, arXiv:1801.06146 (discriminative fine-tuning); stages as timm groups them.
    """
    backbone, head = module.get_submodule("backbone"), module.get_submodule("head")
    require_stages(backbone, "this backbone")
    stages = group_parameters(backbone, backbone.group_matcher(coarse=False))  # type: ignore[operator]
    groups: list[dict[str, Any]] = [
        {"params": [backbone.get_parameter(name) for name in names], LR_SCALE: layer_decay ** (len(stages) - depth)}
        for depth, (_, names) in enumerate(sorted(stages.items()))
    ]
    return [*groups, {"params": list(head.parameters()), LR_SCALE: 1.0}]


def require_stages(backbone: nn.Module, name: str) -> None:
    """Refuse `layer_decay` on a backbone whose stages timm does not know; hemo's own are among these.

    Raises:
        ConfigError: With the name.
    """
    if not hasattr(backbone, "group_matcher"):
        raise ConfigError(f"trial.training.layer_decay: timm does not know the stages of {name}; leave it at 1")


def learning_rate_at(
    step: int, *, steps_an_epoch: int, config: TrainingConfig, val_losses: Sequence[float] = ()
) -> float:
    """Return the learning rate of one step.

    Linear from near 0 to the peak over `warmup_epochs`, then by the schedule: constant, falling to near 0 by half
    a cosine, or lower after every plateau of the validation loss. One-cycle rises and falls by half cosines.

    Args:
        step: 0-based, counted from the first epoch.
        steps_an_epoch: Steps in an epoch.
        config: Of the training.
        val_losses: Validation losses of the epochs before; `plateau` depends on them.

    Source:
        Cosine: Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts. One-cycle: Smith and Topin 2018,
        arXiv:1708.07120, with cosines and without cycling the momentum.
    """
    steps = config.epochs * steps_an_epoch
    if config.schedule == "one_cycle":
        return config.learning_rate * _one_cycle(step, steps)
    warmup = config.warmup_epochs * steps_an_epoch
    if step < warmup:
        return config.learning_rate * min(1.0, (step + 1) / warmup)
    if config.schedule == "plateau":
        return config.learning_rate * PLATEAU_FACTOR ** _plateaus(val_losses)
    if config.schedule == "constant":
        return config.learning_rate
    done = (step - warmup) / max(1.0, steps - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _one_cycle(step: int, steps: int) -> float:
    """Return the learning rate of a step as a fraction of the peak."""
    peak_step = max(0.0, ONE_CYCLE_RISE * steps - 1)
    if step < peak_step:
        return _half_cosine(ONE_CYCLE_START, 1.0, step / peak_step)
    return _half_cosine(1.0, ONE_CYCLE_END, (step - peak_step) / max(1.0, steps - 1 - peak_step))


def _half_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))


def _plateaus(val_losses: Sequence[float]) -> int:
    """Return how many times the loss went `PLATEAU_EPOCHS` epochs without falling below all before."""
    lowest, waited, plateaus = math.inf, 0, 0
    for loss in val_losses:
        lowest, waited = (loss, 0) if loss < lowest else (lowest, waited + 1)
        if waited == PLATEAU_EPOCHS:
            plateaus, waited = plateaus + 1, 0
    return plateaus


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every parameter group, times its `lr_scale` where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get(LR_SCALE, 1.0)


def running_average(module: nn.Module, decay: float) -> ModelEmaV3:
    """Return an exponential moving average of the weights and buffers of `module`, which starts as a copy.

    After step number s (1-based), `update(module, step=s)` keeps min(decay, 1 - s ** -0.75) of the average, so that
    the untrained weights soon count no more.
    """
    return ModelEmaV3(module, decay=decay, use_warmup=True, warmup_power=AVERAGE_WARMUP_POWER)
