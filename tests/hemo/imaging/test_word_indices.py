import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hemo.errors import SliceError
from hemo.imaging import word_indices
from hemo.imaging.image import Reject
from hemo.imaging.settings import ImageSettings
from hemo.imaging.word_indices import images_of_word_indices, multi_hot, read_arrays
from tests.word_files import texts_npz

SETTINGS = ImageSettings(corpus="word_indices", side_px=1, words=5)


def test_a_word_that_occurs_is_255_and_rare_words_share_the_first_column():
    """Words 1 and 3 occur, 3 twice; 5 and 900 are none of the 5 columns."""
    assert multi_hot(np.array([3, 1, 3]), 5).tolist() == [[[0, 255, 0, 255, 0]]]
    assert multi_hot(np.array([5, 900, 4]), 5).tolist() == [[[255, 0, 0, 0, 255]]]
    assert multi_hot(np.array([], np.int64), 5).tolist() == [[[0, 0, 0, 0, 0]]]


def test_each_text_is_an_image_with_its_class():
    one, empty, again = images_of_word_indices(texts_npz([[1, 2, 9], [], [9, 2, 1]], [45, 0, 3]), SETTINGS)
    assert (one.pixels.shape, one.pixels.dtype, one.pixels.tolist()) == ((1, 1, 5), np.uint8, [[[255, 255, 255, 0, 0]]])
    assert [image.source_class for image in (one, empty, again)] == ["45", "0", "3"]
    assert [image.source_cols for image in (one, empty, again)] == [3, 0, 3]
    assert [image.flags for image in (one, empty, again)] == [(), ("blank",), ()]
    assert [image.frame for image in (one, empty, again)] == [0, 1, 2]
    assert one.pixel_digest == again.pixel_digest != empty.pixel_digest


@pytest.mark.parametrize("text", [[1, -1], [2**31], [[1]], (1, 2), None, [True]])
def test_a_text_that_is_no_list_of_word_numbers_is_a_reject_of_its_own(text):
    one, bad, other = images_of_word_indices(texts_npz([[1], text, [2]], [0, 1, 2]), SETTINGS)
    assert isinstance(bad, Reject)
    assert (bad.code, bad.frame) == ("not_word_indices", 1)
    assert [image.source_class for image in (one, other)] == ["0", "2"]


def test_texts_and_labels_of_other_numbers_are_one_reject():
    (reject,) = images_of_word_indices(texts_npz([[1], [2]], [0]), SETTINGS)
    assert (reject.code, reject.detail) == ("not_word_indices", "2 texts in x, 1 labels in y")
    (reject,) = images_of_word_indices(texts_npz([], []), SETTINGS)
    assert reject.detail == "it holds no texts"


TEXTS = [[1, 300, 70_000], [], [2]]
LABELS = [3, 0, 45]


def npz(**members: bytes) -> bytes:
    opened = io.BytesIO()
    with zipfile.ZipFile(opened, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return opened.getvalue()


def npy(pickled: bytes, rows: int = 3, version: tuple[int, int] = (1, 0)) -> bytes:
    """Return an NPY file of Python objects whose content is `pickled`."""
    opened = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": (rows,)}
    write = np.lib.format.write_array_header_1_0 if version == (1, 0) else np.lib.format.write_array_header_2_0
    write(opened, header)
    return opened.getvalue() + pickled


def plain(array: np.ndarray[Any, Any]) -> bytes:
    opened = io.BytesIO()
    np.save(opened, array, allow_pickle=False)
    return opened.getvalue()


Y = plain(np.array(LABELS))


def objects(values: list[Any]) -> np.ndarray[Any, Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_what_numpy_writes_is_read():
    lists, labels = read_arrays(texts_npz(TEXTS, LABELS))
    assert lists == TEXTS
    assert labels.tolist() == LABELS


@pytest.mark.parametrize("protocol", range(1, 6))
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_every_protocol_of_pickle_and_both_headers_are_read(protocol, version):
    """The published file is of 2017: protocol and header of its time are not today's."""
    content = pickle.dumps(objects(TEXTS), protocol=protocol)
    assert read_arrays(npz(x=npy(content, version=version), y=Y))[0] == TEXTS


def test_what_python_2_wrote_is_read():
    """Byte strings where Python 3 has text, numbers in its memo from 1; [7], [300, 1]."""
    content = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85q\x03U\x01b\x87q\x04Rq\x05"
        b"(K\x01K\x02\x85cnumpy\ndtype\nq\x06U\x02O8K\x00K\x01\x87q\x07Rq\x08(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK?tb\x89]q\x09(]q\x0aK\x07a]q\x0b(M\x2c\x01K\x01eetb."
    )
    assert read_arrays(npz(x=npy(content, rows=2), y=plain(np.array([0, 1]))))[0] == [[7], [300, 1]]


def test_the_name_numpy_had_for_its_own_before_2_is_known():
    content = pickle.dumps(objects(TEXTS), protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert read_arrays(npz(x=npy(content), y=Y))[0] == TEXTS


class Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def test_a_pickle_that_would_run_something_does_not(tmp_path):
    hostile = npy(pickle.dumps(objects([[1], [2], Touches(tmp_path / "run")]), protocol=2))
    with pytest.raises(SliceError, match=r"not_word_indices.*refers to something else than arrays"):
        read_arrays(npz(x=hostile, y=Y))
    assert not (tmp_path / "run").exists()
    np.load(io.BytesIO(npz(x=hostile, y=Y)), allow_pickle=True)["x"]  # what another reader does with it
    assert (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("pickled", "detail"),
    [
        (pickle.dumps([[1], [2], [3]]), "x does not hold as many lists"),
        (pickle.dumps(objects([[1], [2]])), "x does not hold as many lists"),
        (pickle.dumps(objects([{"a": 1}, [2], [3]])), r"more than lists of numbers \(EMPTY_DICT\)"),
        (pickle.dumps(objects([1.5, [2], [3]])), r"more than lists of numbers \(BINFLOAT\)"),
        (pickle.dumps(objects([bytearray(3), [2], [3]]), protocol=5), r"more than lists of numbers \(BYTEARRAY8\)"),
        (pickle.dumps(objects([OrderedDict(), [2], [3]])), "more than lists of numbers|something else than arrays"),
        (
            b"\x80\x02]r\xff\xff\xff\x7f.",
            "has a memo index out of order",
        ),  # two thousand million
        (b"\x80\x04\x96\xff\xff\xff\xff\xff\xff\xff\x7f.", "ValueError|BYTEARRAY8"),  # bytes it does not have
        (b"\x80\x02B\xff\xff\xff\x7f.", "ValueError while reading it"),
        (b"\x80\x02cnumpy\ndtype\n.", "x does not hold as many lists"),
        (b"\x80\x02]", "ValueError while reading it"),  # no end
        (b"", "ValueError while reading it"),
    ],
)
def test_a_pickle_of_something_else_is_refused(pickled, detail):
    with pytest.raises(SliceError, match=rf"not_word_indices.*({detail})"):
        read_arrays(npz(x=npy(pickled), y=Y))


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"no zip", "BadZipFile while reading it"),
        (texts_npz(TEXTS, LABELS)[:-30], "BadZipFile while reading it"),
        (npz(x=npy(pickle.dumps(objects(TEXTS)))), "it has no y.npy"),
        (npz(y=Y), "it has no x.npy"),
        (npz(x=Y, y=Y), "x is no row of lists"),
        (npz(x=npy(pickle.dumps(objects(TEXTS))), y=plain(np.zeros((3, 2), int))), "y is no row of whole numbers"),
        (npz(x=npy(pickle.dumps(objects(TEXTS))), y=plain(np.zeros(3))), "y is no row of whole numbers"),
        (npz(x=npy(pickle.dumps(objects(TEXTS))), y=Y[:-1]), "y is no row of whole numbers"),
        (npz(x=npy(pickle.dumps(objects(TEXTS))), y=b"\x93NUMPY\x01\x00\xff\xff{'descr'"), "ValueError while"),
    ],
)
def test_a_damaged_file_is_refused(data, detail):
    with pytest.raises(SliceError, match=f"not_word_indices.*{detail}"):
        read_arrays(data)


def test_an_array_that_would_unpack_without_bounds_is_refused():
    bomb = npz(x=bytes(word_indices.MOST_BYTES + 1), y=Y)
    assert len(bomb) < 1 << 17
    with pytest.raises(SliceError, match=r"too_large.*x\.npy has 67108865 bytes"):
        read_arrays(bomb)


def test_more_numbers_than_fit_are_refused(monkeypatch):
    monkeypatch.setattr(word_indices, "MOST_OPCODES", 20)
    with pytest.raises(SliceError, match=r"too_large.*more than 20 numbers"):
        read_arrays(texts_npz(TEXTS, LABELS))


def test_a_list_that_is_referred_to_often_counts_each_time(monkeypatch):
    """A few hundred bytes would else be hours of work: 50 texts that are the same list of 40 numbers, 2,000 in all."""
    shared = [1] * 40
    data = npz(x=npy(pickle.dumps(objects([shared] * 50)), 50), y=plain(np.zeros(50, int)))
    monkeypatch.setattr(word_indices, "MOST_OPCODES", 1_999)
    with pytest.raises(SliceError, match="more than 1999 numbers"):
        read_arrays(data)
    monkeypatch.setattr(word_indices, "MOST_OPCODES", 2_000)
    assert len(read_arrays(data)[0]) == 50
