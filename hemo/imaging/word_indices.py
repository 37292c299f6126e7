"""Decode texts as lists of word indices (Keras' `reuters.npz`) to multi-hot rows, stored as images one pixel high.

The NPZ holds an array `x` of Python lists, a text each, of word indices from 1, the commonest word; and an array `y` of
whole numbers, the class of each text. An NPZ is a zip of NPY files (NEP 1, `numpy.lib.format`). An NPY file of Python
objects holds a pickle, which could run any code when it is loaded. So all of its opcodes are checked first: only those
that make lists of whole numbers pass, with true lengths. NumPy's functions are replaced by ones that keep the list.
"""

import io
import pickle
import pickletools
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemo.errors import SliceError
from hemo.imaging.image import Image, Reject, pixel_digest
from hemo.imaging.settings import ImageSettings

PRESENT = 255
"""Pixel of a word that occurs; 0 of one that does not."""

RARE_WORDS = 0
"""Column of all words outside of the commonest: no word has this number."""

LARGEST_WORD = 1 << 31

MOST_BYTES = 1 << 26
"""Of an array in the file, unpacked: some twenty million word numbers."""

MOST_OPCODES = 1 << 24
"""Of a pickle: one a number. What they make takes at most some 60 bytes each."""

LISTS, LABELS = "x.npy", "y.npy"

_OPCODES = (
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG1 EMPTY_LIST LIST APPEND APPENDS "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL "
    "REDUCE BUILD BINBYTES SHORT_BINBYTES BINSTRING SHORT_BINSTRING BINUNICODE SHORT_BINUNICODE"
)
OPCODES = frozenset(_OPCODES.split())
"""Names in `pickletools` of the opcodes of a pickled array of lists of numbers, of any NumPy version."""

MEMO_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})


def images_of_word_indices(data: bytes, settings: ImageSettings) -> Iterator[Image | Reject]:
    """Decode the texts of one file, one at a time.

    Args:
        data: The whole file.
        settings: `words` columns: column w: whether word w occurs; column 0: whether any word of a higher index does.

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
        words: Columns; words from this index on are counted in column `RARE_WORDS`.
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


class _KeptList:
    """Stand-in for an array: keeps the list that would be its content."""

    def __init__(self, *_: object) -> None:
        self.values: object = None

    def __setstate__(self, state: object) -> None:
        """Keep the last part of version, shape, dtype, order and values."""
        self.values = state[-1] if isinstance(state, tuple) and state else None


class _Nothing:
    """Stand-in for a dtype and for all else that describes the layout of an array."""

    def __init__(self, *_: object) -> None:
        """Ignore all arguments."""

    def __setstate__(self, state: object) -> None:
        """Ignore all arguments."""


STAND_INS: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _KeptList,
    ("numpy._core.multiarray", "_reconstruct"): _KeptList,
    ("numpy", "ndarray"): _Nothing,
    ("numpy", "dtype"): _Nothing,
    ("_codecs", "encode"): _Nothing,  # protocol 2 spells bytes so
}
"""Names in such a pickle -> their stand-in. All other names are refused."""


class _ListsOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        """Return the stand-in of a name."""
        if (module, name) not in STAND_INS:
            raise SliceError("not_word_indices", "its pickle refers to something else than arrays")
        return STAND_INS[module, name]


def read_arrays(data: bytes) -> tuple[list[Any], NDArray[np.integer[Any]]]:
    """Return the arrays `x`, of lists, as a list of what it holds, and `y`, of whole numbers, shape (rows,).

    What `x` holds is for the caller to check: a list may hold anything that such a pickle can express.

    Args:
        data: The whole NPZ.

    Raises:
        SliceError: `not_word_indices` or `too_large`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            lists, labels = (_member(archive, name) for name in (LISTS, LABELS))
        return _lists(lists), _whole_numbers(labels)
    except (SliceError, MemoryError):
        raise
    except Exception as error:  # zipfile, numpy's header and pickle raise what they like on damaged files
        raise SliceError("not_word_indices", f"{type(error).__name__} while reading it") from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.namelist():
        raise SliceError("not_word_indices", f"it has no {name}")
    size_bytes = archive.getinfo(name).file_size
    if size_bytes > MOST_BYTES:
        raise SliceError("too_large", f"{name} has {size_bytes} bytes, at most {MOST_BYTES} are read")
    with archive.open(name) as member:
        return member.read(size_bytes + 1)  # all of it: the checksum is compared at the end


def _split_npy(data: bytes) -> tuple[tuple[int, ...], np.dtype[Any], bytes]:
    """Return shape, dtype and the bytes of the content of an NPY file."""
    opened = io.BytesIO(data)
    version = np.lib.format.read_magic(opened)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(opened)
    return shape, dtype, opened.read()


def _lists(data: bytes) -> list[Any]:
    shape, dtype, pickled = _split_npy(data)
    if dtype != np.dtype(object) or len(shape) != 1:
        raise SliceError("not_word_indices", "x is no row of lists")
    _require_plain(pickled)
    kept = _ListsOnly(io.BytesIO(pickled)).load()
    if not isinstance(kept, _KeptList) or not isinstance(kept.values, list) or len(kept.values) != shape[0]:
        raise SliceError("not_word_indices", "x does not hold as many lists as its header declares")
    if (
        sum(len(text) for text in kept.values if isinstance(text, list)) > MOST_OPCODES
    ):  # one list may be referred to many times
        raise SliceError("too_large", f"more than {MOST_OPCODES} numbers")
    return kept.values


def _require_plain(pickled: bytes) -> None:
    """Refuse a pickle with other opcodes than lists need, too many, or memo indices that it does not fill.

    Raises:
        SliceError: `not_word_indices` or `too_large`.
        ValueError: If it is cut short, or a length in it is not true.
    """
    puts = 0
    for count, (opcode, argument, _) in enumerate(pickletools.genops(pickled), 1):
        if opcode.name not in OPCODES:
            raise SliceError("not_word_indices", f"its pickle holds more than lists of numbers ({opcode.name})")
        if count > MOST_OPCODES:
            raise SliceError("too_large", f"more than {MOST_OPCODES} numbers")
        if opcode.name in MEMO_PUTS:
            puts += 1
            if int(argument or 0) > puts:  # memory is allocated for all indices up to the highest
                raise SliceError("not_word_indices", "its pickle has a memo index out of order")


def _whole_numbers(data: bytes) -> NDArray[np.integer[Any]]:
    shape, dtype, content = _split_npy(data)
    if dtype.kind not in "iu" or len(shape) != 1 or len(content) != shape[0] * dtype.itemsize:
        raise SliceError("not_word_indices", "y is no row of whole numbers")
    return np.frombuffer(content, dtype)
