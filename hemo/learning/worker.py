"""One of several processes that train one model together, and what they tell each other."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


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


def sole_worker() -> Worker:
    """Return a worker with all this process may use: its first GPU if there is any, else the CPU, and its threads."""
    return Worker(device="cuda" if torch.cuda.is_available() else "cpu", threads=torch.get_num_threads())


def summed(values: Tensor, worker: Worker) -> Tensor:
    """Return the sum over all workers, the same on each."""
    if worker.count > 1:
        dist.all_reduce(values)
    return values


def agreed(flag: bool, worker: Worker) -> bool:
    """Return rank 0's flag on every worker."""
    return bool(summed(torch.tensor(int(flag and worker.leads), device=worker.device), worker))


def align_buffers(module: nn.Module, worker: Worker) -> None:
    """Give every worker rank 0's buffers: running statistics of batch normalisation differ after a step."""
    if worker.count > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def shared_model(module: nn.Module, worker: Worker) -> nn.Module:
    """Wrap a model so that gradients are averaged over the workers; alone it is returned as it is."""
    return DistributedDataParallel(module) if worker.count > 1 else module
