"""One of several processes that train one model together, and what they tell each other."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hemo.errors import UserError


@dataclass(frozen=True)
class Worker:
    """This process's place among its equals. With more than one, `torch.distributed` is already initialised."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"
    threads: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes and reports."""
        return self.rank == 0


def hardware(worker: Worker) -> str:
    """Return processor and number of workers, such as `1 x NVIDIA H200` or `2 x CPU (1 thread, AMD EPYC 7763)`.

    A GPU is named only by a process that has one: the one that records a lost trial may have none.
    """
    if worker.device.startswith("cuda"):
        if not torch.cuda.is_available():
            return f"{worker.count} x GPU (seen from a process without one)"
        return f"{worker.count} x {torch.cuda.get_device_name(worker.device)}"
    threads = f"{worker.threads} thread{'s' if worker.threads > 1 else ''}"
    return f"{worker.count} x CPU ({threads}, {_processor()})"


def _processor() -> str:
    """Return the processor's name where Linux tells it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def summed(values: Tensor, worker: Worker) -> Tensor:
    """Return the sum over all workers, the same on each."""
    if worker.count > 1:
        dist.all_reduce(values)
    return values


def agreed(flag: bool, worker: Worker) -> bool:
    """Return rank 0's flag on every worker."""
    return bool(summed(torch.tensor(int(flag and worker.leads), device=worker.device), worker))


@contextmanager
def all_or_none(worker: Worker) -> Iterator[None]:
    """Let every worker do the same piece of work, or none go on: alone, the others would wait for one that is gone.

    Raises:
        UserError: On every worker, if any raised one: that of the lowest rank.
    """
    problem: UserError | None = None
    try:
        yield
    except UserError as error:
        problem = error
    problems = [problem] * worker.count
    if worker.count > 1:
        dist.all_gather_object(problems, problem)
    for found in problems:
        if found is not None:
            raise found


def align_buffers(module: nn.Module, worker: Worker) -> None:
    """Give every worker rank 0's buffers: running statistics of batch normalisation differ after a step."""
    if worker.count > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def shared_model(module: nn.Module, worker: Worker, *, sync_batch_norm: bool) -> nn.Module:
    """Wrap a model so that gradients are averaged over the workers; alone it is returned as it is.

    Args:
        module: On the worker's device; it may have been wrapped before.
        worker: This process.
        sync_batch_norm: On CUDA, let batch normalisation, in the model itself, see the images of all workers; on the
            CPU, where torch has no such layer, it sees its own worker's all the same.
    """
    if worker.count == 1:
        return module
    if sync_batch_norm and worker.device.startswith("cuda") and not _is_converted(module):
        module = convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]  # timm's also knows its own layers
    return DistributedDataParallel(module)


def _is_converted(module: nn.Module) -> bool:
    """Tell whether batch normalisation is synchronised already: done twice, timm's layers lose their activations."""
    return any(isinstance(layer, nn.SyncBatchNorm) for layer in module.modules())
