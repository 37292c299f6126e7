"""Out of memory, whether on the device, on the CPU or in NumPy: an error that names a smaller batch size."""

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
        raise error_type(out_of_memory_message(batch_size, batch_size // 2)) from error


def out_of_memory_message(batch_size: int, smaller: int, *, tried: bool = False) -> str:
    """Return what went wrong and the way out.

    Args:
        batch_size: Images at once that were too many.
        smaller: Images at once to propose; 0: none.
        tried: Whether a training step with `smaller` images was seen to fit.
    """
    proposed = f"batch_size {smaller}{', a step of which fits,' if tried else ','} " if smaller else ""
    return f"out of memory with batch_size {batch_size}; try {proposed}smaller images or another backbone"


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Tell whether an error means too little memory; torch has a class for that on a GPU only."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in REFUSED)
