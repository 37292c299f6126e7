"""Data-parallel workers: rank, device and hardware, reductions and broadcasts, DDP and synchronised batch norm."""

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
from hemo.freed_memory import keep_tensors


@dataclass(frozen=True)
class Worker:
    """One of the processes that train a model together. With several, `torch.distributed` is already initialised.

    Where fewer run than are configured, a batch is still divided among all that run, and each takes its larger part of
    it in several parts: no more images are in memory at once, and gradients are those of the same batch. What differs
    is what depends on a worker's images alone: batch normalisation without synchronisation, and the draws of dropout.
    """

    rank: int = 0
    count: int = 1  # that run
    device: str = "cpu"
    threads: int = 1
    configured: int = 1  # that run where no node is missing

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    @property
    def parts(self) -> int:
        """Parts in which this worker takes its images of a step: 1 where all workers run."""
        return max(1, -(-self.configured // self.count))


def use_processors(worker: Worker) -> None:
    """Set how many threads torch has; on a CPU the process keeps what memory it has taken."""
    torch.set_num_threads(worker.threads)
    if worker.device == "cpu":
        keep_tensors()


def hardware(worker: Worker) -> str:
    """Return processor and number of workers, such as `1 x NVIDIA H200` or `2 x CPU (1 thread, AMD EPYC 7763)`.

    A process without a GPU, such as one that records a lost trial, cannot name it.
    """
    if worker.device.startswith("cuda"):
        if not torch.cuda.is_available():
            return f"{worker.count} x GPU (seen from a process without one)"
        return f"{worker.count} x {torch.cuda.get_device_name(worker.device)}"
    threads = f"{worker.threads} thread{'s' if worker.threads > 1 else ''}"
    return f"{worker.count} x CPU ({threads}, {_processor()})"


def _processor() -> str:
    """Return the processor's name where Linux reports it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def all_reduce_sum(values: Tensor, worker: Worker) -> Tensor:
    """Return the sum over all workers, the same on each."""
    if worker.count > 1:
        dist.all_reduce(values)
    return values


def broadcast_flag(flag: bool, worker: Worker) -> bool:
    """Return rank 0's flag on every worker."""
    return bool(all_reduce_sum(torch.tensor(int(flag and worker.is_rank_zero), device=worker.device), worker))


@contextmanager
def raise_together(worker: Worker) -> Iterator[None]:
    """Raise a worker's error on every worker: the others would wait for the one that is gone.

    Raises:
        UserError: On every worker, if any raised one: that of the lowest rank.
    """
    own: UserError | None = None
    try:
        yield
    except UserError as error:
        own = error
    errors = [own] * worker.count
    if worker.count > 1:
        dist.all_gather_object(errors, own)
    for first in errors:
        if first is not None:
            raise first


def broadcast_buffers(module: nn.Module, worker: Worker) -> None:
    """Give every worker rank 0's buffers: running statistics of batch normalisation differ after a step."""
    if worker.count > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def wrap_distributed(module: nn.Module, worker: Worker, *, sync_batch_norm: bool) -> nn.Module:
    """Wrap a model so that gradients are averaged over the workers; alone it is returned as it is.

    Args:
        module: On the worker's device; it may have been wrapped before.
        worker: This process.
        sync_batch_norm: On CUDA, compute batch statistics over the images of all workers (the model is converted); on
            the CPU torch has no such layer, and statistics are those of the worker's own images.
    """
    if worker.count == 1:
        return module
    if sync_batch_norm and worker.device.startswith("cuda") and not _is_converted(module):
        module = convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]  # timm's also knows its own layers
    return DistributedDataParallel(module)


def _is_converted(module: nn.Module) -> bool:
    """Return whether batch norm is synchronised already: converted twice, timm's layers lose their activations."""
    return any(isinstance(layer, nn.SyncBatchNorm) for layer in module.modules())
