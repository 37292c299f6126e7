"""Stored values of every encoding, exact where it is lossless."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pydicom
import pytest
from pydicom.config import disable_value_validation
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from hemo.errors import SliceError
from hemo.imaging.dicom.elements import read_elements
from hemo.imaging.dicom.header import read_header
from hemo.imaging.dicom.pixel_data import FrameSize, encoded_size, stored_frames
from hemo.imaging.dicom.read import quiet_pydicom
from tests.dicom_files import dicom_bytes
from tests.encoded_files import (
    EIGHT_BITS,
    jpeg_2000_file,
    jpeg_file,
    jpeg_lossless,
    jpeg_lossless_file,
    rle_file,
    with_codestreams,
    written,
)

UNSIGNED = {"PixelRepresentation": 0}
ODD = np.array([[0, 1, 255, 256, 40000], [65535, 32768, 32767, 300, 7], [9, 8, 1024, 4095, 4096]], np.uint16)


def frames_of(data: bytes) -> list[np.ndarray | SliceError]:
    with quiet_pydicom():
        elements = read_elements(data)
        return list(stored_frames(elements, read_header(elements)))


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
def test_uncompressed_values_of_an_odd_size_are_exact_in_every_byte_order(syntax):
    (frame,) = frames_of(dicom_bytes(ODD, syntax=syntax, **UNSIGNED))
    np.testing.assert_array_equal(frame, ODD)
    assert frame.dtype == np.uint16
    assert frame.dtype.isnative


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_eight_bit_values_of_an_odd_number_of_pixels_are_exact(syntax):
    stored = np.arange(15, dtype=np.uint8).reshape(3, 5)
    padded = stored.tobytes() + b"\0"
    words = np.frombuffer(padded, "<u2").astype(">u2").tobytes() if syntax == ExplicitVRBigEndian else padded
    (frame,) = frames_of(dicom_bytes(stored, syntax=syntax, PixelData=words, **EIGHT_BITS))
    np.testing.assert_array_equal(frame, stored)


@pytest.mark.parametrize("encoded", [rle_file, jpeg_2000_file, jpeg_lossless_file])
def test_lossless_codecs_give_back_every_value(encoded):
    values = np.random.default_rng(0).integers(0, 65536, (33, 40), dtype=np.uint16)
    (frame,) = frames_of(encoded(values, **UNSIGNED))
    np.testing.assert_array_equal(frame, values)


@pytest.mark.parametrize("encoded", [rle_file, jpeg_2000_file])
def test_signed_values_survive_lossless_codecs(encoded):
    values = np.array([[-32768, -1024], [-1, 32767]] * 16, np.int16).repeat(16, axis=1)
    (frame,) = frames_of(encoded(values))
    np.testing.assert_array_equal(frame.astype(np.int16), values)


def test_baseline_jpeg_keeps_a_constant_grey():
    (frame,) = frames_of(jpeg_file(np.full((16, 24), 77, np.uint8)))
    np.testing.assert_array_equal(frame, np.full((16, 24), 77))


def test_compressed_colour_comes_out_as_rgb():
    """Baseline JPEG stores YCbCr: green of 200 must not come out as (luminance, chroma, chroma)."""
    green = np.zeros((16, 16, 3), np.uint8)
    green[..., 1] = 200
    colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422", "PlanarConfiguration": 0}
    (frame,) = frames_of(jpeg_file(green, **colour))
    np.testing.assert_allclose(frame, green, atol=3)


def test_uncompressed_ybr_comes_out_as_rgb():
    """Y 128 with neutral chroma is grey 128 (PS3.3 C.7.6.3.1.2)."""
    grey = np.full((4, 4, 3), 128, np.uint8)
    colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL", "PlanarConfiguration": 0, **EIGHT_BITS}
    (frame,) = frames_of(dicom_bytes(grey, **colour))
    np.testing.assert_array_equal(frame, grey)


@pytest.mark.parametrize("encoded", [dicom_bytes, rle_file])
@pytest.mark.parametrize("high_bit", [15, 13])
def test_values_that_do_not_start_at_bit_0_are_shifted_down(encoded, high_bit):
    """12 bits stored up to bit 15 lie four bits above the lowest (PS3.5 8.1.1, before 2014)."""
    values = np.array([[0, 1, 4095], [2048, 100, 1024]], np.uint16)
    (frame,) = frames_of(encoded(values << (high_bit - 11), BitsStored=12, HighBit=high_bit, **UNSIGNED))
    np.testing.assert_array_equal(frame & 4095, values)


def test_every_frame_of_a_compressed_file_is_decoded():
    frames = np.arange(3 * 32 * 32, dtype=np.uint16).reshape(3, 32, 32)
    for encoded in (rle_file, jpeg_2000_file):
        np.testing.assert_array_equal(np.stack(frames_of(encoded(frames, NumberOfFrames=3, **UNSIGNED))), frames)


def test_a_damaged_frame_costs_no_other():
    first, second = (jpeg_lossless(np.full((8, 8), value, np.uint16), bits=16) for value in (5, 6))
    plain = dicom_bytes(np.zeros((3, 8, 8), np.uint16), NumberOfFrames=3, **UNSIGNED)
    damaged = second[:30] + b"\xff\xd9"
    results = frames_of(with_codestreams(plain, "1.2.840.10008.1.2.4.70", [first, damaged, second]))
    assert (results[0][0, 0], results[2][0, 0]) == (5, 6)
    assert isinstance(results[1], SliceError)
    assert results[1].args[0] == "decode_failed"


class Panic(BaseException):
    """As a decoder written in Rust raises it: pyo3's PanicException is no Exception."""


def failing_at_one(error: BaseException):
    """Return a decoder's `iter_array` that raises at frame 1."""

    def frames(_, *, indices):
        for index in indices:
            if index == 1:
                raise error
            yield np.full((8, 8), index, np.uint16), {}

    return frames


def test_a_decoder_that_panics_costs_one_frame(monkeypatch):
    data = rle_file(np.zeros((3, 8, 8), np.uint16), NumberOfFrames=3, **UNSIGNED)
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.iter_array", lambda _, *a, **b: failing(*a, **b))
    failing = failing_at_one(Panic())
    first, second, third = frames_of(data)
    assert (first[0, 0], second.args[0], third[0, 0]) == (0, "decode_failed", 2)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, MemoryError])
def test_what_ends_the_process_is_no_damaged_frame(monkeypatch, stop):
    data = rle_file(np.zeros((3, 8, 8), np.uint16), NumberOfFrames=3, **UNSIGNED)
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.iter_array", lambda _, *a, **b: failing(*a, **b))
    failing = failing_at_one(stop())
    with pytest.raises(stop):
        frames_of(data)


@pytest.mark.parametrize(
    ("codestream", "refusal"),
    [
        (
            jpeg_lossless(np.zeros((8, 8), np.uint16), bits=16),
            "encoded frame of 8 x 8 x 1, the header declares 9 x 8 x 1",
        ),
        (jpeg_lossless(np.zeros((9, 8), np.uint16), bits=16)[:-4], "without an end"),
        (b"no codestream at all", "no frame header"),
    ],
)
def test_a_codestream_that_differs_from_the_header_is_not_decoded(codestream, refusal):
    plain = dicom_bytes(np.zeros((9, 8), np.uint16), **UNSIGNED)
    (result,) = frames_of(with_codestreams(plain, "1.2.840.10008.1.2.4.70", [codestream]))
    assert isinstance(result, SliceError)
    assert refusal in result.args[1]


def test_fewer_encoded_frames_than_promised_are_truncated():
    codestream = jpeg_lossless(np.zeros((8, 8), np.uint16), bits=16)
    plain = dicom_bytes(np.zeros((2, 8, 8), np.uint16), NumberOfFrames=2, **UNSIGNED)
    with pytest.raises(SliceError, match="1 of 2 encoded frames"):
        frames_of(with_codestreams(plain, "1.2.840.10008.1.2.4.70", [codestream]))


def test_an_unknown_transfer_syntax_is_not_repeated_in_the_detail():
    data = dicom_bytes(ODD, **UNSIGNED).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.999.77.55.4\0")
    with pytest.raises(SliceError, match="transfer syntax unknown"):
        frames_of(data)


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("MR_small_expb.dcm", "MR_small.dcm"),
        ("MR_small_implicit.dcm", "MR_small.dcm"),
    ],
)
def test_other_peoples_encoders_give_the_same_values(shared_data: Path, name: str, same_as: str):
    ours, wanted = (frames_of(as_ct(shared_data / "dicom_odd" / file))[0] for file in (name, same_as))
    assert wanted.std() > 10
    np.testing.assert_array_equal(ours, wanted)


def test_near_lossless_and_extended_jpeg_are_decoded(shared_data: Path):
    """12-bit extended JPEG and near-lossless JPEG-LS, as pydicom's own test files have them."""
    for name, shape in (("JPGExtended.dcm", (1024, 256)), ("JPEGLSNearLossless_16.dcm", (50, 10))):
        (frame,) = frames_of(as_ct(shared_data / "dicom_odd" / name))
        assert frame.shape == shape
        assert frame.std() > 1


def as_ct(path: Path) -> bytes:
    """Return a file of another modality as a CT slice."""
    with disable_value_validation():
        dataset = pydicom.dcmread(path)
        dataset.Modality = "CT"
        return written(dataset)


def test_the_deflated_end_may_be_missing_but_not_in_silence():
    whole = dicom_bytes(ODD, syntax=DeflatedExplicitVRLittleEndian, **UNSIGNED)
    with pytest.raises(SliceError, match="without an end"):
        frames_of(whole[:-12])


def test_jpeg_2000_within_a_jp2_box_is_found():
    values = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32)
    bare = pydicom.dcmread(io.BytesIO(jpeg_2000_file(values, **UNSIGNED))).PixelData
    codestream = bare[bare.index(b"\xff\x4f\xff\x51") : bare.rindex(b"\xff\xd9") + 2]
    boxed = jp2_file(codestream, rows=32, cols=32)
    (frame,) = frames_of(with_codestreams(dicom_bytes(values, **UNSIGNED), JPEG2000Lossless, [boxed]))
    np.testing.assert_array_equal(frame, values)


def jp2_file(codestream: bytes, *, rows: int, cols: int) -> bytes:
    """Return a codestream of 16-bit grey in the boxes of ITU-T T.800 annex I."""

    def box(kind: bytes, content: bytes) -> bytes:
        return (len(content) + 8).to_bytes(4) + kind + content

    header = box(b"ihdr", rows.to_bytes(4) + cols.to_bytes(4) + b"\0\x01\x0f\x07\0\0")
    colour = box(b"colr", b"\x01\0\0" + (17).to_bytes(4))
    start = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return start + box(b"jp2h", header + colour) + box(b"jp2c", codestream)


def test_the_size_of_a_jpeg_is_in_its_frame_header():
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


def test_boxes_without_length_cause_no_loop():
    """Going on by a length of 0 would never end."""
    assert encoded_size(b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\0free" * 9) is None


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xda\0\x02", b"\xff\xd8\xff\xc0\0\x11", b"\xff\x4f\xff\x51"]
)
def test_what_has_no_frame_header_has_no_size(data):
    assert encoded_size(data) is None
