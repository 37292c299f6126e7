"""How long a model takes for one image."""

import statistics
import time

import torch
from torch import nn

from hemo.learning.evaluate import mixed_precision

WARM_UP_CALLS = 3
"""The first calls choose algorithms and grow memory."""

TIMED_CALLS = 20


def image_latency_ms(module: nn.Module, shape: tuple[int, int, int]) -> float:
    """Return the median time of one image through a model in evaluation mode, in milliseconds.

    What else runs on the machine at the time counts as well.

    Args:
        module: On its device; its mode is put back.
        shape: Channels, height and width in pixels of the image.
    """
    device = next(module.parameters()).device
    image = torch.zeros(1, *shape, device=device)
    mode = module.training
    module.eval()
    with torch.no_grad(), mixed_precision(device):
        taken = [_seconds(module, image) for _ in range(WARM_UP_CALLS + TIMED_CALLS)]
    module.train(mode)
    return 1000 * statistics.median(taken[WARM_UP_CALLS:])


def _seconds(module: nn.Module, image: torch.Tensor) -> float:
    began = time.perf_counter()
    module(image).cpu()  # waits for the device
    return time.perf_counter() - began
