"""A worker alone agrees with itself."""

import torch
from torch import nn

from hemo.learning.worker import Worker, agreed, align_buffers, shared_model, summed


def test_alone_nothing_is_changed() -> None:
    module, values = nn.BatchNorm1d(2), torch.tensor([1.0, 2.0])
    align_buffers(module, Worker())
    assert summed(values, Worker()).tolist() == [1.0, 2.0]
    assert [agreed(flag, Worker()) for flag in (True, False)] == [True, False]
    assert shared_model(module, Worker()) is module


def test_only_rank_0_leads_and_its_word_counts() -> None:
    assert [Worker(rank=rank, count=3).leads for rank in range(3)] == [True, False, False]
