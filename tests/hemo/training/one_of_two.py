"""One of two processes that learn together: `python one_of_two.py RANK STORE` says what it saw, as JSON."""

import json
import sys
from collections.abc import Callable

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from hemo.errors import ConfigError
from hemo.models.classifier import Normalisation
from hemo.training.data.dataset import ResidentImages
from hemo.training.data.examples import Examples, ImageSet
from hemo.training.distributed import Worker, all_reduce_sum, broadcast_flag, raise_together, wrap_distributed
from hemo.training.evaluate import predict_logits

ROWS = 5


def main(rank: int, store: str) -> None:
    """Meet the other process at the file `store`, and say what each way of talking to it gives."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    worker = Worker(rank=rank, count=2)
    seen = {
        "summed": all_reduce_sum(torch.tensor([1.0, 10.0 * rank]), worker).tolist(),
        "agreed": [broadcast_flag(rank == speaker, worker) for speaker in (0, 1)],
        "together": attempt(worker, lambda: None),
        "second cannot": attempt(worker, lambda: refuse("no weights here") if rank == 1 else None),
        "gradient": gradient(worker),
        "logits": logits(worker),
    }
    sys.stdout.write(json.dumps(seen) + "\n")
    dist.destroy_process_group()


def attempt(worker: Worker, work: Callable[[], None]) -> str:
    """Return what `raise_together` raised here, empty if nothing."""
    try:
        with raise_together(worker):
            work()
    except ConfigError as error:
        return str(error)
    return ""


def refuse(reason: str) -> None:
    """Raise."""
    raise ConfigError(reason)


def gradient(worker: Worker) -> float:
    """Return the gradient of a weight whose worker's own is 1 and 3: torch gives every worker their mean."""
    module = wrap_distributed(nn.Linear(1, 1, bias=False), worker, sync_batch_norm=True)
    module(torch.tensor([[1.0 + 2 * worker.rank]])).sum().backward()
    return float(next(module.parameters()).grad)


def logits(worker: Worker) -> list[float]:
    """Return logits of five images of grey 255 by a batch normalisation whose running mean is the rank: 0 must win."""
    module = nn.Sequential(nn.BatchNorm2d(1, eps=0.0), nn.Flatten())
    module[0].running_mean.fill_(float(worker.rank))
    texts = np.array([""] * ROWS)
    images = ResidentImages(np.full((ROWS, 1, 1, 1), 255, np.uint8), np.array([ROWS]))
    source = ImageSet(images=images, labels=np.zeros((ROWS, 1), np.uint8), **dict.fromkeys(TEXTS, texts))
    examples = Examples(source, np.arange(ROWS), source.labels, 0)
    return predict_logits(module, examples, Normalisation((0.0,), (1.0,)), 2, worker)[:, 0].tolist()


TEXTS = ("image_id", "patient", "pixel_format")

if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
