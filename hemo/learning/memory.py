"""Too little memory, told by the batch size, whoever ran out of it: the device, the CPU or NumPy."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hemo.errors import HemoError

REFUSED = ("can't allocate memory", "ALLOC_FAILED")
"""What torch's plain RuntimeErrors say where the CPU, or a library of the GPU, could not set memory aside."""


@contextmanager
def memory_told(batch_size: int, error_type: type[HemoError]) -> Iterator[None]:
    """Turn whatever means too little memory into an error that names the batch size and proposes half of it.

    Args:
        batch_size: Images at once.
        error_type: Of the error.

    Raises:
        HemoError: Of that type.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        half = f"batch_size {batch_size // 2}, " if batch_size > 1 else ""
        raise error_type(
            f"out of memory with batch_size {batch_size}; try {half}smaller images or another backbone"
        ) from error


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Tell whether an error means too little memory; torch has a class for that on a GPU only."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in REFUSED)
