"""Logits of every example of a split, each computed once, whatever the number of workers."""

import torch
from torch import Tensor, nn

from hemo.models.normalisation import Normalisation, normalise, to_unit_range
from hemo.training.data.loader import device_batches
from hemo.training.data.sampling import every_row
from hemo.training.data.task_rows import Examples
from hemo.training.distributed import Worker, align_buffers, summed


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

    Raises:
        SourceError: If images that are read only now are gone or damaged.

    Returns:
        Tensor (examples, classes), float32, on the device.
    """
    device = torch.device(worker.device)
    logits = torch.zeros(examples.labels.shape, device=device)
    align_buffers(module, worker)
    mode = module.training
    module.eval()
    wanted = every_row(len(examples), rank=worker.rank, workers=worker.count, batch_size=batch_size)
    with torch.no_grad():
        for rows, images in zip(wanted, device_batches(examples, wanted, device), strict=True):
            with mixed_precision(device):
                found = module(normalise(to_unit_range(images), normalisation))
            logits[rows[0] : rows[-1] + 1] = found
    module.train(mode)
    return summed(logits, worker)


def mixed_precision(device: torch.device) -> torch.autocast:
    """Return bf16 autocast on CUDA; on the CPU everything stays float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
