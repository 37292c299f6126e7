"""Lists of numbers out of NumPy's NPZ. They are kept there as a pickle, which could do anything: it is not run as one.

An NPZ is a zip of NPY files (NEP 1, `numpy.lib.format`). An NPY file of Python objects holds a pickle. Before it is
loaded all of its opcodes are looked at: only those that make lists of whole numbers pass, with true lengths. Then what
it calls NumPy's is replaced by what merely keeps the list.
"""

import io
import pickle
import pickletools
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemo.errors import SliceError

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
"""Names in `pickletools` of what an array of lists of numbers is pickled with, by whatever version."""

MEMO_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})


class _KeptList:
    """Stands for an array under construction: keeps the list that would be its content."""

    def __init__(self, *_: object) -> None:
        self.values: object = None

    def __setstate__(self, state: object) -> None:
        """Keep the last part of version, shape, dtype, order and values."""
        self.values = state[-1] if isinstance(state, tuple) and state else None


class _Nothing:
    """Stands for a dtype, and whatever else says how an array is laid out."""

    def __init__(self, *_: object) -> None:
        """Take no notice."""

    def __setstate__(self, state: object) -> None:
        """Take no notice."""


STAND_INS: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _KeptList,
    ("numpy._core.multiarray", "_reconstruct"): _KeptList,
    ("numpy", "ndarray"): _Nothing,
    ("numpy", "dtype"): _Nothing,
    ("_codecs", "encode"): _Nothing,  # protocol 2 spells bytes so
}
"""What such a pickle names, and what it gets for it. Nothing else can be named."""


class _ListsOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        """Return the stand-in of a name."""
        if (module, name) not in STAND_INS:
            raise SliceError("not_word_indices", "its pickle names something else than arrays")
        return STAND_INS[module, name]


def read_arrays(data: bytes) -> tuple[list[Any], NDArray[np.integer[Any]]]:
    """Return the arrays `x`, of lists, as a list of what it holds, and `y`, of whole numbers, shape (rows,).

    What `x` holds is for the caller to check: a list may hold anything such a pickle can say.

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
        raise SliceError("not_word_indices", "x does not hold as many lists as its header says")
    if sum(len(text) for text in kept.values if isinstance(text, list)) > MOST_OPCODES:  # one list may stand many times
        raise SliceError("too_large", f"more than {MOST_OPCODES} numbers")
    return kept.values


def _require_plain(pickled: bytes) -> None:
    """Refuse a pickle with other opcodes than lists need, too many, or places in its memo that it does not fill.

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
            if int(argument or 0) > puts:  # memory is taken for all places up to the highest
                raise SliceError("not_word_indices", "its pickle numbers its parts wrongly")


def _whole_numbers(data: bytes) -> NDArray[np.integer[Any]]:
    shape, dtype, content = _split_npy(data)
    if dtype.kind not in "iu" or len(shape) != 1 or len(content) != shape[0] * dtype.itemsize:
        raise SliceError("not_word_indices", "y is no row of whole numbers")
    return np.frombuffer(content, dtype)
