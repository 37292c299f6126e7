"""Optimisers by name, and the learning rate as a pure function of the step."""

import math

import torch
from torch import nn

from hemo.config.trial import TrainingConfig

SGD_MOMENTUM = 0.9


def build_optimizer(module: nn.Module, config: TrainingConfig, device: torch.device) -> torch.optim.Optimizer:
    """Make the optimiser; fused on CUDA, where one kernel updates all weights."""
    fused = device.type == "cuda"
    parameters, rate, decay = module.parameters(), config.learning_rate, config.weight_decay
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=fused)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=fused)
    return torch.optim.SGD(parameters, lr=rate, momentum=SGD_MOMENTUM, weight_decay=decay, fused=fused)


def learning_rate_at(step: int, *, steps_an_epoch: int, config: TrainingConfig) -> float:
    """Return the learning rate of one step.

    Linear from near 0 to the peak over `warmup_epochs`, then constant, or falling to near 0 by half a cosine.

    Args:
        step: 0-based, counted from the first epoch.
        steps_an_epoch: Steps in an epoch.
        config: Of the training.

    Source:
        Cosine: Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts.
    """
    warmup = config.warmup_epochs * steps_an_epoch
    if step < warmup:
        return config.learning_rate * min(1.0, (step + 1) / warmup)
    if config.schedule == "constant":
        return config.learning_rate
    done = (step - warmup) / max(1.0, config.epochs * steps_an_epoch - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
