"""DICOM files whose pixels are compressed, made for tests."""

import io

import numpy as np
import PIL.Image
import pydicom
from pydicom.config import disable_value_validation
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, RLELossless

from tests.dicom_files import dicom_bytes

EIGHT_BITS = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}


def compressed(data: bytes, syntax: str) -> bytes:
    """Return a file with its pixels compressed by pydicom: RLE or lossless JPEG 2000."""
    with disable_value_validation():
        dataset = pydicom.dcmread(io.BytesIO(data))
        dataset.compress(syntax, generate_instance_uid=False)
        return written(dataset)


def with_codestreams(data: bytes, syntax: str, codestreams: list[bytes]) -> bytes:
    """Return a file whose pixel data are replaced by encoded frames."""
    with disable_value_validation():
        dataset = pydicom.dcmread(io.BytesIO(data))
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate(codestreams)
        dataset["PixelData"].is_undefined_length = True
        dataset["PixelData"].VR = "OB"
        return written(dataset)


def written(dataset: pydicom.FileDataset) -> bytes:
    """Return a data set as a file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def rle_file(stored: np.ndarray, **changes: object) -> bytes:
    return compressed(dicom_bytes(stored, **changes), RLELossless)


def jpeg_2000_file(stored: np.ndarray, **changes: object) -> bytes:
    return compressed(dicom_bytes(stored, **changes), JPEG2000Lossless)


def jpeg_lossless_file(stored: np.ndarray, *, bits: int = 16, **changes: object) -> bytes:
    codestream = jpeg_lossless(stored, bits=bits)
    return with_codestreams(dicom_bytes(stored, **changes), JPEGLosslessSV1, [codestream])


def jpeg_file(stored: np.ndarray, **changes: object) -> bytes:
    """Return a file of 8-bit grey or colour pixels in baseline JPEG."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(stored).save(buffer, "JPEG", quality=95)
    plain = dicom_bytes(stored, **{**EIGHT_BITS, **changes})
    return with_codestreams(plain, JPEGBaseline8Bit, [buffer.getvalue()])


def jpeg_lossless(stored: np.ndarray, *, bits: int) -> bytes:
    """Encode unsigned values, shape (rows, cols), by the lossless process with first-order prediction.

    Every category of differences has a code of five bits: its own number. Source: ITU-T T.81, annex H.
    """
    rows, cols = stored.shape
    table = bytes([0, *([0] * 4), 17, *([0] * 11), *range(17)])
    segments = [
        (0xC3, bytes([bits]) + rows.to_bytes(2) + cols.to_bytes(2) + bytes([1, 1, 0x11, 0])),
        (0xC4, table),
        (0xDA, bytes([1, 1, 0, 1, 0, 0])),
    ]
    head = b"".join(bytes([0xFF, kind]) + (len(body) + 2).to_bytes(2) + body for kind, body in segments)
    return b"\xff\xd8" + head + _entropy_coded(stored.astype(np.int64), 1 << (bits - 1)) + b"\xff\xd9"


def _entropy_coded(values: np.ndarray, first: int) -> bytes:
    predicted = np.empty_like(values)
    predicted[:, 1:] = values[:, :-1]
    predicted[1:, 0] = values[:-1, 0]
    predicted[0, 0] = first
    differences = (values - predicted + 32768) % 65536 - 32768
    coded = "".join(_code(int(difference)) for difference in differences.ravel())
    coded += "1" * (-len(coded) % 8)
    return int(coded, 2).to_bytes(len(coded) // 8).replace(b"\xff", b"\xff\x00")


def _code(difference: int) -> str:
    if difference == -32768:
        return f"{16:05b}"
    category = abs(difference).bit_length()
    low_bits = difference if difference > 0 else difference + (1 << category) - 1
    return f"{category:05b}" + (f"{low_bits:0{category}b}" if category else "")
