"""NPZ files made for tests, in the form of Keras' `reuters.npz`."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np


def texts_npz(texts: Sequence[Any], labels: Sequence[int]) -> bytes:
    """Return what `numpy.savez` writes of an object array `x`, a text an element, and an integer array `y`."""
    x = np.empty(len(texts), object)
    x[:] = list(texts)
    opened = io.BytesIO()
    np.savez(opened, x=x, y=np.array(labels, np.int64))
    return opened.getvalue()


def topics_npz(count: int, topics: int) -> bytes:
    """Return texts of 12 words: 4 are their topic's own, the others any; the last is none of the commonest 200."""
    generator = np.random.default_rng(count)
    labels = [number % topics for number in range(count)]
    own = [[1 + 4 * label + place for place in range(4)] for label in labels]
    texts = [[*words, *generator.integers(1, 200, 7).tolist(), 5000 + number] for number, words in enumerate(own)]
    return texts_npz(texts, labels)
