"""Logits of every example of a split, each computed once, whatever the number of workers."""

import torch
from torch import Tensor, nn

from hemo.learning.batch import Normalisation, normalise, to_device, to_unit_range
from hemo.learning.examples import Examples
from hemo.learning.order import every_row
from hemo.learning.worker import Worker, align_buffers, summed


def evaluate(
    module: nn.Module, examples: Examples, normalisation: Normalisation, batch_size: int, worker: Worker
) -> Tensor:
    """Return the logits of a split in evaluation mode, the same on each worker.

    Args:
        module: Model on the worker's device; its mode is put back.
        examples: Of the split.
        normalisation: Of the model.
        batch_size: Images at once.
        worker: This process.

    Returns:
        Tensor (examples, classes), float32, on the device.
    """
    device = torch.device(worker.device)
    logits = torch.zeros(examples.labels.shape, device=device)
    align_buffers(module, worker)
    mode = module.training
    module.eval()
    with torch.no_grad():
        for rows in every_row(len(examples), rank=worker.rank, workers=worker.count, batch_size=batch_size):
            images = to_unit_range(to_device(examples.source, examples.rows[rows], device))
            with mixed_precision(device):
                logits[torch.from_numpy(rows)] = module(normalise(images, normalisation))
    module.train(mode)
    return summed(logits, worker)


def mixed_precision(device: torch.device) -> torch.autocast:
    """Return bf16 autocast on CUDA; on the CPU everything stays float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
