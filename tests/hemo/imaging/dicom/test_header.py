import io

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from hemo.errors import SliceError
from hemo.imaging.dicom.header import BIG_ENDIAN, IMPLICIT_LITTLE_ENDIAN, position_along_normal, read_header, spacing
from hemo.imaging.dicom.read import images_of_dicom, quiet_pydicom
from hemo.imaging.settings import ImageSettings
from hemo.pseudonym import Pseudonymiser
from tests.dicom_files import head_file, head_hu


def header_of(data: bytes):
    return read_header(pydicom.dcmread(io.BytesIO(data), force=True))


def without_meta(data: bytes) -> bytes:
    """Return a file without preamble and file meta elements, as old archives hold them."""
    return data[144 + int.from_bytes(data[140:144], "little") :]


@pytest.mark.parametrize(
    ("syntax", "taken_for"),
    [
        (ExplicitVRBigEndian, BIG_ENDIAN),
        (ExplicitVRLittleEndian, IMPLICIT_LITTLE_ENDIAN),
        (ImplicitVRLittleEndian, IMPLICIT_LITTLE_ENDIAN),
    ],
)
def test_without_meta_elements_the_byte_order_is_that_of_the_data_set(syntax, taken_for):
    """Pixels of a big endian file must not be read as little endian ones."""
    data = without_meta(head_file(syntax=syntax))
    assert header_of(data).transfer_syntax == taken_for
    settings = ImageSettings(corpus="dicom", pixels="hu16", side_px=32)
    with quiet_pydicom():
        (image,) = images_of_dicom(data, settings, Pseudonymiser())
    np.testing.assert_array_equal(image.pixels[0], head_hu())


def test_the_lowest_bit_is_0_unless_the_high_bit_says_otherwise():
    assert header_of(head_file()).low_bit == 0
    assert header_of(head_file(HighBit=None, BitsStored=12)).low_bit == 0
    assert header_of(head_file(HighBit=15, BitsStored=12)).low_bit == 4


def test_a_capture_with_a_rescale_is_measured_all_the_same():
    """A derived CT image may call itself a capture and still hold HU."""
    header = header_of(head_file(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"))
    assert (header.is_capture, header.is_picture) == (True, False)
    assert header_of(head_file(SOPClassUID="1.2.840.10008.5.1.4.1.1.7", RescaleIntercept=None)).is_picture


def test_the_position_is_the_dot_product_with_the_normal():
    """Axial: z alone. Sagittal axes (y, -z) have the normal (-1, 0, 0)."""
    assert position_along_normal([1, 2, 3], [1, 0, 0, 0, 1, 0]) == 3
    assert position_along_normal([1, 2, 3], [0, 1, 0, 0, 0, -1]) == -1


@pytest.mark.parametrize(
    ("origin", "axes"),
    [
        ([1, 2], [1, 0, 0, 0, 1, 0]),
        ([1, 2, 3], [1, 0]),
        ([np.nan, 0, 0], [1, 0, 0, 0, 1, 0]),
        ([0, 0, 1e9], [1, 0, 0, 0, 1, 0]),
    ],
)
def test_a_position_that_is_none_is_not_known(origin, axes):
    assert position_along_normal(origin, axes) is None


def test_spacing_is_that_of_the_rows():
    assert spacing([0.5, 0.7]) == 0.5
    assert [spacing(given) for given in ([], [0.0], [-1.0], [np.nan], [1e7])] == [None] * 5


def test_a_frame_count_of_thousands_of_digits_is_no_number():
    with pytest.raises(SliceError, match="more than 16384 frames"):
        header_of(head_file().replace(b"CS\x0c\x00MONOCHROME2 ", b"CS\x0c\x00MONOCHROME2 " + frame_count("9" * 4000)))


def frame_count(text: str) -> bytes:
    """Return the element (0028,0008) in explicit little endian."""
    return b"\x28\x00\x08\x00IS" + len(text).to_bytes(2, "little") + text.encode()
