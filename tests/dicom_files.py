"""Small DICOM files made for tests, in the manner of the RSNA corpus."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

DEFAULTS: dict[str, Any] = {
    "Modality": "CT",
    "PatientID": "ID_patient",
    "StudyInstanceUID": "ID_study",
    "SeriesInstanceUID": "ID_series",
    "ImagePositionPatient": [-125.0, -120.0, 47.25],
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "PixelSpacing": [0.5, 0.5],
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
    "PixelRepresentation": 1,
    "WindowCenter": ["00040", "00040"],
    "RescaleIntercept": "-1024",
    "RescaleSlope": "1",
}


def dicom_bytes(stored: np.ndarray, *, syntax: str = ExplicitVRLittleEndian, **changes: Any) -> bytes:
    """Return a DICOM file of `stored`, shape (rows, cols) or (frames, rows, cols); None leaves a tag out."""
    with disable_value_validation():  # the corpus's UIDs are invalid, and so are ours
        return _encoded(stored, syntax, changes)


def _encoded(stored: np.ndarray, syntax: str, changes: dict[str, Any]) -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    rows_at = 1 if stored.ndim == 3 and "NumberOfFrames" in changes else 0
    dataset.Rows, dataset.Columns = stored.shape[rows_at : rows_at + 2]
    values = {**DEFAULTS, **changes}
    for keyword, value in values.items():
        if value is not None and keyword != "PixelData":
            setattr(dataset, keyword, value)
    in_file_order = stored.astype(stored.dtype.newbyteorder("<" if UID(syntax).is_little_endian else ">"))
    dataset.PixelData = values.get("PixelData", in_file_order.tobytes())
    dataset["PixelData"].VR = "OW"
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def head_hu(side: int = 32) -> np.ndarray:
    """Return a slice in HU: air, and a quarter of it tissue at 30 to 37; shape (side, side), int16."""
    hu = np.full((side, side), -1000, np.int16)
    hu[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 30 + np.arange(side // 2) % 8
    return hu


def head_file(**changes: Any) -> bytes:
    """Return the file of a slice with tissue, stored as HU + 1024."""
    return dicom_bytes(head_hu() + np.int16(1024), **changes)


def write_slices(folder: Path, count: int) -> Path:
    """Make a folder of slices ID_0.dcm, ID_1.dcm, ..., each of other pixels; two in a row are of one patient."""
    folder.mkdir()
    for number in range(count):
        pixels = head_hu() + 1024
        pixels[0, 0] = number
        (folder / f"ID_{number}.dcm").write_bytes(dicom_bytes(pixels, PatientID=f"ID_p{number // 2}"))
    return folder
