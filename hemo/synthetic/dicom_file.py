"""A rendered slice to the bytes of a DICOM file with the corpus's header: the same tags and oddities, and no more."""

import hashlib
import math
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.config import disable_value_validation
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from hemo.synthetic.scanner import PixelFormat, to_stored


@dataclass(frozen=True)
class Identity:
    """Whose slice it is and where it lies. The ids are `ID_` and hexadecimal digits, which are no valid UIDs."""

    image: str
    patient: str
    study: str
    series: str
    position_mm: tuple[float, float, float]
    tilt_rad: float
    spacing_mm: float


def ct_file(hu: NDArray[np.int16], identity: Identity, pixel_format: PixelFormat) -> bytes:
    """Return a CT file of a slice in HU, int16 (rows, cols), as one make of scanner stores it."""
    tags = _identity_tags(identity) | {
        "SamplesPerPixel": ("US", 1),
        "PhotometricInterpretation": ("CS", "MONOCHROME2"),
        "Rows": ("US", hu.shape[0]),
        "Columns": ("US", hu.shape[1]),
        "PixelSpacing": ("DS", [f"{identity.spacing_mm:.6f}"] * 2),
        "BitsAllocated": ("US", 16),
        "BitsStored": ("US", pixel_format.bits_stored),
        "HighBit": ("US", pixel_format.bits_stored - 1),
        "PixelRepresentation": ("US", int(pixel_format.signed)),
        "WindowCenter": ("DS", list(pixel_format.window_centre)),
        "WindowWidth": ("DS", list(pixel_format.window_width)),
        "RescaleIntercept": ("DS", pixel_format.intercept),
        "RescaleSlope": ("DS", pixel_format.slope),
        "PixelData": ("OW", to_stored(hu, pixel_format).astype("<u2").tobytes()),
    }
    return _encoded(tags, identity, implicit_vr=pixel_format.implicit_vr)


def capture_file(rgb: NDArray[np.uint8], identity: Identity) -> bytes:
    """Return a colour capture, uint8 (rows, cols, 3), that calls itself CT, as a few files of the corpus do."""
    tags = _identity_tags(identity) | {
        "SamplesPerPixel": ("US", 3),
        "PhotometricInterpretation": ("CS", "RGB"),
        "PlanarConfiguration": ("US", 0),
        "Rows": ("US", rgb.shape[0]),
        "Columns": ("US", rgb.shape[1]),
        "PixelSpacing": ("DS", [f"{identity.spacing_mm:.6f}"] * 2),
        "BitsAllocated": ("US", 8),
        "BitsStored": ("US", 8),
        "HighBit": ("US", 7),
        "PixelRepresentation": ("US", 0),
        "WindowCenter": ("DS", "128"),
        "WindowWidth": ("DS", "256"),
        "RescaleIntercept": ("DS", "0"),
        "RescaleSlope": ("DS", "1"),
        "PixelData": ("OW", rgb.tobytes()),
    }
    return _encoded(tags, identity, implicit_vr=False)


def _identity_tags(identity: Identity) -> dict[str, tuple[str, Any]]:
    """Return the tags before the image's own. Rows run along x, columns along y leant back by the gantry tilt."""
    cos, sin = math.cos(identity.tilt_rad), math.sin(identity.tilt_rad)
    orientation = (1.0, 0.0, 0.0, 0.0, cos, -sin)
    return {
        "SOPInstanceUID": ("UI", identity.image),
        "Modality": ("CS", "CT"),
        "PatientID": ("LO", identity.patient),
        "StudyInstanceUID": ("UI", identity.study),
        "SeriesInstanceUID": ("UI", identity.series),
        "StudyID": ("SH", ""),
        "ImagePositionPatient": ("DS", [f"{value:.6f}" for value in identity.position_mm]),
        "ImageOrientationPatient": ("DS", [f"{value:.6f}" for value in orientation]),
    }


def _encoded(tags: dict[str, tuple[str, Any]], identity: Identity, *, implicit_vr: bool) -> bytes:
    with disable_value_validation():  # `ID_...` is no UID, and saying so for each file helps nobody
        content = Dataset()
        for keyword, (vr, value) in tags.items():
            content.add(DataElement(keyword, vr, value))
        file = FileDataset("", content, file_meta=_file_meta(identity, implicit_vr=implicit_vr), preamble=b"\x00" * 128)
        buffer = BytesIO()
        dcmwrite(buffer, file, enforce_file_format=True, implicit_vr=implicit_vr, little_endian=True)
    return buffer.getvalue()


def _file_meta(identity: Identity, *, implicit_vr: bool) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID(
        f"2.25.{int.from_bytes(hashlib.sha256(identity.image.encode()).digest()[:15])}"
    )
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit_vr else ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID("2.25.302043790172249692526321623266752743501")
    meta.ImplementationVersionName = "HEMO_PHANTOM_1"
    return meta
