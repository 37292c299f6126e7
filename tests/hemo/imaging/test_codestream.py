import io

import numpy as np
import PIL.Image
import pytest

from hemo.imaging.codestream import FrameSize, encoded_size
from tests.encoded_files import jpeg_lossless


def test_the_size_of_a_jpeg_stands_in_its_frame_header():
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (40, 24)).save(buffer, "JPEG", comment=b"a comment before the frame header")
    assert encoded_size(buffer.getvalue()) == FrameSize(rows=24, cols=40, samples=3)
    assert encoded_size(jpeg_lossless(np.zeros((5, 9), np.uint16), bits=16)) == FrameSize(5, 9, 1)


def test_fill_bytes_before_a_marker_are_passed_over():
    codestream = jpeg_lossless(np.zeros((5, 9), np.uint16), bits=16)
    assert encoded_size(codestream[:2] + b"\xff\xff" + codestream[2:]) == FrameSize(5, 9, 1)


def test_the_size_of_jpeg_2000_is_the_reference_grid_without_its_offset():
    siz = b"\xff\x4f\xff\x51\0\x29\0\0" + b"".join(value.to_bytes(4) for value in (100, 60, 10, 20, 90, 40, 10, 20))
    assert encoded_size(siz + b"\0\x01") == FrameSize(rows=40, cols=90, samples=1)
    box = b"\0\0\0\x0cjP  \r\n\x87\n"
    assert encoded_size(box + b"\0\0\0\x09free!" + b"\0\0\0\0jp2c" + siz + b"\0\x01") == FrameSize(40, 90, 1)


def test_boxes_without_length_hold_nobody_up():
    """Going on by a length of 0 would never end."""
    assert encoded_size(b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\0free" * 9) is None


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xda\0\x02", b"\xff\xd8\xff\xc0\0\x11", b"\xff\x4f\xff\x51"]
)
def test_what_has_no_frame_header_has_no_size(data):
    assert encoded_size(data) is None
