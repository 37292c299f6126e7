"""Too little memory, for real: a petabyte is asked for."""

import numpy as np
import pytest
import torch

from hemo.errors import ConfigError, TrialError
from hemo.learning.memory import memory_told

PETABYTE = 1 << 50


def test_a_tensor_or_an_array_too_large_names_the_batch_size_and_half_of_it() -> None:
    for ask in (torch.empty, np.empty):
        with (
            pytest.raises(TrialError, match=r"^out of memory with batch_size 9; try batch_size 4, smaller images or"),
            memory_told(9, TrialError),
        ):
            ask(PETABYTE)


def test_a_gpu_says_it_otherwise_and_one_image_cannot_be_halved() -> None:
    for error in (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")):
        with (
            pytest.raises(ConfigError, match="with batch_size 1; try smaller images or another backbone"),
            memory_told(1, ConfigError),
        ):
            raise error


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="sizes do not match"), memory_told(9, TrialError):
        raise RuntimeError("sizes do not match")
