"""How a process that decodes images is set up: one thread for the arithmetic, and memory that stays."""

import ctypes

import cv2

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc

KEPT_BYTES = 1 << 26
LARGEST_KEPT_BYTES = 1 << 25


def set_up_decoding() -> None:
    """Set up this process, which Ray gave one CPU. May be called often."""
    cv2.setNumThreads(1)
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Let this process keep small and middling blocks it frees; return whether its C library could.

    A slice needs some buffers of a few megabytes. glibc hands such blocks back to the system each time, which has to
    clear them for the next slice: at 224 px that took four fifths of the time (measured, see
    benchmarks/results/2026-11-20-image-path.md).
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    options = {M_TRIM_THRESHOLD: KEPT_BYTES, M_MMAP_THRESHOLD: LARGEST_KEPT_BYTES}
    taken = [set_option(option, value) for option, value in options.items()]  # 1 each
    return all(taken)
