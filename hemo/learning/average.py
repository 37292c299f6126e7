"""A running average of a model's weights: less noisy than the last ones, and what is validated and kept."""

from timm.utils.model_ema import ModelEmaV3
from torch import nn

POWER = 0.75
"""How fast the average grows long at first: timm's advice for runs of well below a million steps."""


def running_average(module: nn.Module, decay: float) -> ModelEmaV3:
    """Return an exponential moving average of the weights and buffers of `module`, which starts as a copy.

    After step number s (1-based), `update(module, step=s)` keeps min(decay, 1 - s ** -0.75) of the average, so that
    the untrained weights are soon forgotten.
    """
    return ModelEmaV3(module, decay=decay, use_warmup=True, warmup_power=POWER)
