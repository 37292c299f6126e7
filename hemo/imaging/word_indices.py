"""Texts as lists of word numbers to multi-hot rows, which are stored and learned from as images one pixel high.

The format is that of Keras' `reuters.npz`: an array `x` of Python lists, a text each, of word numbers from 1, the
commonest word; and an array `y` of whole numbers, the class of each text.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hemo.errors import SliceError
from hemo.imaging.image import Image, Reject, pixel_digest
from hemo.imaging.lists_npz import read_arrays
from hemo.imaging.settings import ImageSettings

PRESENT = 255
"""Pixel of a word that occurs; 0 of one that does not."""

RARE_WORDS = 0
"""Column of all words outside of the commonest: no word has this number."""

LARGEST_WORD = 1 << 31


def images_of_word_indices(data: bytes, settings: ImageSettings) -> Iterator[Image | Reject]:
    """Decode the texts of one file, one at a time.

    Args:
        data: The whole file.
        settings: `words` columns: column w says whether word w occurs, column 0 whether any of a higher number does.

    Yields:
        An image of shape (1, 1, words) for each text, its class the label's number, or a reject `not_word_indices`;
        or one reject for the whole file, `not_word_indices` or `too_large`.
    """
    try:
        texts, labels = read_arrays(data)
        if len(texts) != len(labels):
            raise SliceError("not_word_indices", f"{len(texts)} texts in x, {len(labels)} labels in y")
        if not texts:
            raise SliceError("not_word_indices", "it holds no texts")
    except SliceError as error:
        yield Reject.of(error)
        return
    for frame, (text, label) in enumerate(zip(texts, labels.tolist(), strict=True)):
        try:
            numbers = _numbers(text)
        except SliceError as error:
            yield Reject.of(error, frame)
            continue
        pixels = multi_hot(numbers, settings.words)
        yield Image(
            pixels=pixels,
            source_rows=1,
            source_cols=len(numbers),
            pixel_format="multi_hot",
            pixel_digest=pixel_digest(pixels),
            flags=() if len(numbers) else ("blank",),
            frame=frame,
            frames=len(texts),
            source_class=str(label),
        )


def multi_hot(numbers: NDArray[np.int64], words: int) -> NDArray[np.uint8]:
    """Return which words occur: shape (1, 1, words), 0 or `PRESENT`.

    Args:
        numbers: Of the words of a text, from 0, shape (length,).
        words: Columns; words from this number on share column `RARE_WORDS`.
    """
    row = np.zeros((1, 1, words), np.uint8)
    row[0, 0, np.where(numbers < words, numbers, RARE_WORDS)] = PRESENT
    return row


def _numbers(text: object) -> NDArray[np.int64]:
    """Return a text's word numbers.

    Raises:
        SliceError: If it is no list of whole numbers from 0.
    """
    if not isinstance(text, list) or not all(type(word) is int and 0 <= word < LARGEST_WORD for word in text):
        raise SliceError("not_word_indices", f"a text that is no list of whole numbers from 0 to {LARGEST_WORD - 1}")
    return np.array(text, np.int64)
