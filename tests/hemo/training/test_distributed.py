"""A worker alone agrees with itself; two agree with each other."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct
from torch import nn

from hemo.training import distributed as workers
from hemo.training.distributed import (
    Worker,
    all_reduce_sum,
    broadcast_buffers,
    broadcast_flag,
    hardware,
    wrap_distributed,
)


def test_alone_nothing_is_changed() -> None:
    module, values = nn.BatchNorm1d(2), torch.tensor([1.0, 2.0])
    broadcast_buffers(module, Worker())
    assert all_reduce_sum(values, Worker()).tolist() == [1.0, 2.0]
    assert [broadcast_flag(flag, Worker()) for flag in (True, False)] == [True, False]
    assert wrap_distributed(module, Worker(), sync_batch_norm=True) is module


def test_only_rank_0_leads_and_its_word_counts() -> None:
    assert [Worker(rank=rank, count=3).is_rank_zero for rank in range(3)] == [True, False, False]


def test_fewer_workers_than_configured_take_their_images_in_parts() -> None:
    """Of four: four, three, two, one. Three take a third of a batch in two parts: a sixth is less than a quarter."""
    assert [Worker(count=count, configured=4).parts for count in (4, 3, 2, 1)] == [1, 2, 2, 4]
    assert Worker(count=2).parts == 1


@pytest.mark.slow
def test_two_processes_say_and_compute_the_same(tmp_path: Path) -> None:
    """Gradients of 1 and 3 have a mean of 2; a grey of 255 is 1, which running mean 0 and variance 1 leave as it is."""
    script = str(Path(__file__).with_name("one_of_two.py"))
    command = [sys.executable, script]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    said = [json.loads(process.communicate(timeout=300)[0].splitlines()[-1]) for process in processes]
    assert said[0] == said[1]
    assert said[0] == {
        "summed": [2.0, 10.0],
        "agreed": [True, False],
        "together": "",
        "second cannot": "no weights here",
        "gradient": 2.0,
        "logits": [1.0] * 5,
    }


def test_batch_normalisation_sees_all_workers_images_on_gpus_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "DistributedDataParallel", lambda module: module)
    for device, sync, plain, acting in [
        ("cpu", True, nn.BatchNorm2d, BatchNormAct2d),
        ("cuda", False, nn.BatchNorm2d, BatchNormAct2d),
        ("cuda", True, nn.SyncBatchNorm, SyncBatchNormAct),
    ]:
        module = nn.Sequential(nn.BatchNorm2d(2), BatchNormAct2d(2))
        names = list(module.state_dict())
        shared = wrap_distributed(module, Worker(count=2, device=device), sync_batch_norm=sync)
        assert [type(layer) for layer in module] == [plain, acting]
        assert (shared is module, list(shared.state_dict())) == (True, names)


def test_a_model_that_is_wrapped_again_keeps_its_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a frozen backbone thaws; -1 is 0 behind batch normalisation with ReLU."""
    monkeypatch.setattr(workers, "DistributedDataParallel", lambda module: module)
    module = nn.Sequential(BatchNormAct2d(1, eps=0.0))
    for _ in range(2):
        module = wrap_distributed(module, Worker(count=2, device="cuda"), sync_batch_norm=True)
    assert isinstance(module[0], SyncBatchNormAct)
    assert module.eval()(torch.tensor([[[[-1.0, 2.0]]]])).flatten().tolist() == [0.0, 2.0]


def test_hardware_tells_workers_and_threads() -> None:
    assert re.fullmatch(r"2 x CPU \(3 threads, .+\)", hardware(Worker(count=2, threads=3)))
    assert re.fullmatch(r"1 x CPU \(1 thread, .+\)", hardware(Worker()))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this process has a GPU")
def test_a_gpu_is_not_asked_for_its_name_where_there_is_none() -> None:
    assert hardware(Worker(count=2, device="cuda")) == "2 x GPU (seen from a process without one)"
