"""Have a process keep memory that it frees; its C library otherwise gives it back, and the kernel clears it anew.

Settings of glibc, as `mallopt` describes them; other C libraries have none, and nothing is changed.
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""From malloc.h: free memory above which the heap shrinks; size and number of blocks that are mapped one by one."""
KEPT_BYTES = 1 << 26
LARGEST_KEPT_BYTES = 1 << 25
"""The most that glibc takes as its threshold: a larger block is mapped, unless none is."""


def keep_buffers_of_images() -> bool:
    """Keep small and middling blocks; return whether the C library can.

    A slice needs some buffers of a few megabytes: at 224 px clearing them took four fifths of the time
    (benchmarks/results/2026-11-20-image-path.md).
    """
    return _set({M_TRIM_THRESHOLD: KEPT_BYTES, M_MMAP_THRESHOLD: LARGEST_KEPT_BYTES})


def keep_tensors() -> bool:
    """Keep all that is freed, for a network on the CPU, whose tensors are larger; return whether the C library can.

    Clearing them took a sixth of a training step (benchmarks/results/2026-11-28-freed-memory.md).
    """
    return _set({M_TRIM_THRESHOLD: -1, M_MMAP_MAX: 0})


def _set(options: dict[int, int]) -> bool:
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    taken = [set_option(option, value) for option, value in options.items()]  # 1 each
    return all(taken)
