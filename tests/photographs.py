"""Folders of small photographs made for tests: those of the second class have a bright disc."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image


def write_photographs(folder: Path, classes: Sequence[str], count: int, *, name: str = "{number}.jpg") -> None:
    """Write `count` JPEG files of odd sizes to `folder/CLASS`, for each of two classes.

    Args:
        folder: Made if need be.
        classes: Names of the class folders.
        count: Photographs of a class.
        name: Of a file; `{number}` counts within the class.
    """
    for bright, label in enumerate(classes):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            generator = np.random.default_rng([bright, number, len(folder.name)])
            rows, cols = generator.integers(30, 60, 2)
            pixels = generator.integers(0, 80, (rows, cols, 3), dtype=np.uint8)
            distance = np.hypot(*np.meshgrid(np.arange(cols) - cols / 2, np.arange(rows) - rows / 2))
            pixels[distance < 12] += np.uint8(150 * bright)
            PIL.Image.fromarray(pixels).save(folder / label / name.format(number=number))
