"""IDX files: every image a row, and no byte believed that the file does not hold."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from hemo.errors import SliceError
from hemo.imaging.idx import images_of_idx, read_idx
from hemo.imaging.image import REASONS, Image, Reject
from hemo.imaging.settings import ImageSettings
from tests.idx_files import idx_file

SETTINGS = ImageSettings(corpus="idx", colour="grey", side_px=2)
TWO = np.array([[[0, 255], [7, 9]], [[3, 3], [3, 3]]], np.uint8)
LABELS = np.array([9, 0], np.uint8)


def decoded(data: bytes, labels: bytes | None = None, settings: ImageSettings = SETTINGS) -> list[Image | Reject]:
    return list(images_of_idx(data, labels, settings))


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_each_image_has_its_pixels_and_the_label_at_the_same_place(packed):
    """The file is written out: magic 00 00 08 03, then 2, 2, 2 with the high byte first."""
    data = bytes.fromhex("00000803 00000002 00000002 00000002 00ff0709 03030303")
    assert data == idx_file(TWO)
    one, other = decoded(packed(data), packed(bytes.fromhex("00000801 00000002 0900")))
    assert (one.pixels.tolist(), one.source_class, one.flags) == ([[[0, 255], [7, 9]]], "9", ())
    assert (other.pixels.tolist(), other.source_class, other.flags) == ([[[3, 3], [3, 3]]], "0", ("blank",))
    assert [(image.frame, image.frames, image.source_rows, image.source_cols) for image in (one, other)] == [
        (0, 2, 2, 2),
        (1, 2, 2, 2),
    ]
    assert one.pixel_format == "grey8"
    assert one.pixel_digest != other.pixel_digest


def test_without_a_labels_file_images_have_no_class():
    assert [image.source_class for image in decoded(idx_file(TWO))] == [None, None]


def test_pictures_that_are_not_square_are_padded_and_resized():
    """2 rows of 4 become 4 x 4 with a black row above and below, and that 2 x 2 by the mean of each quarter."""
    wide = np.array([[[200, 100, 0, 0], [0, 100, 0, 40]]], np.uint8)
    (image,) = decoded(idx_file(wide))
    assert image.pixels.tolist() == [[[75, 0], [25, 10]]]
    assert (image.source_rows, image.source_cols) == (2, 4)


PLAIN = idx_file(TWO)


@pytest.mark.parametrize(
    ("data", "code", "detail"),
    [
        (b"", "not_idx", "begins with , not with 00000803"),
        (b"\xff\xd8\xff\xe0 a JPEG file", "not_idx", "begins with ffd8ffe0"),
        (idx_file(LABELS), "not_idx", "begins with 00000801, not with 00000803"),
        (b"\0\0\x0d\x03" + PLAIN[4:], "not_idx", "begins with 00000d03"),  # floats
        (PLAIN[:-1], "truncated", "declares 2 x 2 x 2 values, it ends after 7"),
        (PLAIN[:10], "not_idx", "and a size"),
        (PLAIN + b"\0", "not_idx", "more than the 2 x 2 x 2 values"),
        (PLAIN[:4] + struct.pack(">3I", 0, 28, 28), "not_idx", "declares 0 x 28 x 28 values"),
        (PLAIN[:4] + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1), "too_large", "declares 4294967295 x"),
        (PLAIN[:4] + struct.pack(">3I", 2**20 + 1, 1, 1), "too_large", "declares 1048577 x 1 x 1"),
        (PLAIN[:4] + struct.pack(">3I", 1, 1, 8193), "too_large", "declares 1 x 1 x 8193"),
        (gzip.compress(PLAIN, mtime=0)[:-6], "truncated", "ends after 8"),
        (gzip.compress(PLAIN, mtime=0)[:12], "not_idx", "begins with"),
        (gzip.compress(PLAIN, mtime=0)[:-8] + b"\0" * 8, "not_idx", "compressed bytes are damaged"),
        (gzip.compress(PLAIN + b"\0", mtime=0), "not_idx", "more than the 2 x 2 x 2 values"),
    ],
)
def test_a_file_that_differs_from_its_header_is_one_reject(data, code, detail):
    (reject,) = decoded(data)
    assert isinstance(reject, Reject)
    assert reject.code == code
    assert code in REASONS
    assert detail in reject.detail


@pytest.mark.parametrize(
    ("labels", "detail"),
    [
        (idx_file(LABELS[:1]), "1 labels beside 2 images"),
        (idx_file(np.zeros(3, np.uint8)), "3 labels beside 2 images"),
        (idx_file(TWO), "the labels file beside it: it begins with 00000803"),
        (idx_file(LABELS)[:-1], "the labels file beside it: its header declares 2 values, it ends after 1"),
    ],
)
def test_labels_that_do_not_fit_are_one_reject(labels, detail):
    (reject,) = decoded(idx_file(TWO), labels)
    assert (reject.code, reject.frame) == ("labels_mismatch", 0)
    assert detail in reject.detail


@pytest.mark.parametrize(
    "data",
    [
        PLAIN[:4] + struct.pack(">3I", 1 << 10, 1 << 10, 1 << 10),  # promises 1 GiB, holds nothing
        gzip.compress(PLAIN + bytes(1 << 26)),  # promises 8 bytes, inflates to 64 MiB
    ],
)
def test_no_memory_is_taken_on_the_word_of_a_header(data):
    tracemalloc.start()
    with pytest.raises(SliceError):
        read_idx(data, dimensions=3)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1 << 20


def test_images_are_decoded_lazily():
    """One at a time: of 1,000 images at 256 px, 64 MiB, only the first two are made."""
    small = np.zeros((1000, 2, 2), np.uint8)
    tracemalloc.start()
    images = images_of_idx(idx_file(small), None, SETTINGS.model_copy(update={"side_px": 256}))
    next(images), next(images)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1 << 20
