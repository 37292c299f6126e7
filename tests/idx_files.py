"""IDX files made for tests, in the form MNIST is published in."""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def idx_file(values: NDArray[np.uint8]) -> bytes:
    """Return an IDX file of unsigned bytes: zero, zero, 8, dimensions, each as four bytes, then the values."""
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return head + values.tobytes()


def patterns(count: int, seed: int, side_px: int = 28) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return noisy images, (count, side_px, side_px), and labels 0 to 9: digit d has its own bright square of ten."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.uint8) % 10
    images = generator.integers(0, 60, (count, side_px, side_px), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        top, left = 2 + 13 * (label // 5), 1 + 5 * (label % 5)
        image[top : top + 10, left : left + 5] += 180
    return images, labels


def write_digits(folder: Path, train: int, test: int) -> None:
    """Write the four files of MNIST."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", train), ("t10k", test)):
        images, labels = patterns(count, seed=count)
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx_file(values)))
