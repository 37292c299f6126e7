"""Convert a painted section to a DICOM file: noise, streaks, blur, padding, stored values, header."""

import hashlib
import math
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.config import disable_value_validation
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from hemo.synthetic import MANUFACTURER, MODEL
from hemo.synthetic.geometry import SIDE_PX, Field

POINT_SPREAD_PX = 0.75
"""Standard deviation of the blur between what is there and what is reconstructed."""


@dataclass(frozen=True)
class PixelFormat:
    """How one make of scanner writes its files. Numbers are texts, as in the header."""

    bits_stored: int
    signed: bool
    intercept: str
    slope: str
    window_centre: tuple[str, ...]
    window_width: tuple[str, ...]
    implicit_vr: bool
    padding: int | None
    tilts: bool
    wraps: bool = False

    @property
    def stored_range(self) -> tuple[int, int]:
        """Return the smallest and the largest stored value."""
        half = 1 << (self.bits_stored - 1)
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)


FORMATS = (
    PixelFormat(16, True, "-1024", "1", ("30",), ("80",), False, -2000, True),
    PixelFormat(16, True, "-1024.000000", "1.000000", ("35.000000",), ("135.000000",), False, None, False),
    PixelFormat(16, True, "0", "1.0", ("40",), ("150",), False, -2000, True),
    PixelFormat(12, False, "-1024", "1", ("00040", "00040"), ("00080", "00080"), False, None, True),
    PixelFormat(12, False, "-1024", "1", ("00036", "00036"), ("00080", "00080"), True, None, False),
    PixelFormat(12, True, "0", "1", ("40", "600"), ("80", "2800"), False, None, False),
)
"""The format groups of the corpus; each patient has one, independent of the label."""

WRAPPED_FORMAT = PixelFormat(12, False, "0", "1", ("00040", "00040"), ("00080", "00080"), True, None, False, wraps=True)
"""Stored values are 1000 too low, modulo 4096, without an intercept: `(stored + 1000) % 4096 - 1000` is right."""


@dataclass(frozen=True)
class Scanner:
    """One patient's scanner."""

    pixel_format: PixelFormat
    noise_hu: float
    holder: int
    holder_hu: float


def draw_scanner(rng: np.random.Generator, pixel_format: PixelFormat) -> Scanner:
    """Draw noise level and head holder for a pixel format."""
    return Scanner(pixel_format, float(rng.uniform(2.5, 4.5)), int(rng.integers(3)), float(rng.uniform(80, 500)))


def paint_holder(hu: Field, scanner: Scanner, spacing_mm: float) -> None:
    """Paint the head holder (0 none, 1 deep, 2 shallow) into the air of `hu`, float32 (512, 512), in place."""
    if scanner.holder == 0:
        return
    axis = (np.arange(SIDE_PX, dtype=np.float32) + 0.5 - SIDE_PX / 2) * np.float32(spacing_mm)
    deep = scanner.holder == 1
    x, y = axis[None, :] / np.float32(1.0 if deep else 1.55), axis[:, None] - np.float32(18 if deep else -22)
    trough = np.sqrt(x**2 + np.maximum(y, 0) ** 2) - np.float32(88 if deep else 112)
    air = (hu < -900) & (y > (-15 if deep else 60))
    hu[air & (np.abs(trough) < 1.1)] = scanner.holder_hu
    hu[air & (trough > -5) & (trough < -1.1)] = -960


def scan(hu: Field, scanner: Scanner, level: float, noise: np.random.Generator) -> NDArray[np.int16]:
    """Return what the scanner reconstructs of a painted section.

    Args:
        hu: Painted density with sharp edges, float32 (512, 512).
        scanner: Its noise level.
        level: Height in the head: near the base, dense bone casts streaks.
        noise: Source of the noise; its draws do not depend on `hu`.

    Returns:
        HU from -1024 up, int16 (512, 512).
    """
    seen = np.asarray(cv2.GaussianBlur(hu, (5, 5), POINT_SPREAD_PX), np.float32)
    grain = cv2.GaussianBlur(noise.standard_normal(hu.shape, dtype=np.float32), (3, 3), 0.6)
    seen += np.asarray(grain, np.float32) * np.float32(2.0 * scanner.noise_hu)
    streaks = cv2.GaussianBlur(noise.standard_normal((SIDE_PX, 1), dtype=np.float32), (1, 25), 5.0)
    seen += np.asarray(streaks, np.float32) * np.float32(45 * max(0.0, 0.26 - level))
    return np.clip(np.rint(seen), -1024, 3071).astype(np.int16)


def to_stored(hu: NDArray[np.int16], pixel_format: PixelFormat) -> NDArray[np.uint16]:
    """Return the stored words of an image in HU, two's complement where signed: uint16 of the same shape.

    Outside the round field of view a format that pads stores its padding value.
    """
    stored = hu.astype(np.int32)
    if pixel_format.wraps:
        stored = np.maximum(stored, -1000) % 4096
    else:
        stored -= round(float(pixel_format.intercept))
    np.clip(stored, *pixel_format.stored_range, out=stored)
    if pixel_format.padding is not None:
        axis = (np.arange(SIDE_PX) + 0.5 - SIDE_PX / 2) ** 2
        stored[axis[:, None] + axis[None, :] > (SIDE_PX / 2) ** 2] = pixel_format.padding
    return (stored & 0xFFFF).astype(np.uint16)


@dataclass(frozen=True)
class Identity:
    """Ids and position of a slice. The ids are `ID_` and hexadecimal digits, which are no valid UIDs."""

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
    """Return a colour capture, uint8 (rows, cols, 3), with modality CT, as a few files of the corpus have."""
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
        "Manufacturer": ("LO", MANUFACTURER),
        "ManufacturerModelName": ("LO", MODEL),
        "PatientID": ("LO", identity.patient),
        "StudyInstanceUID": ("UI", identity.study),
        "SeriesInstanceUID": ("UI", identity.series),
        "StudyID": ("SH", ""),
        "ImagePositionPatient": ("DS", [f"{value:.6f}" for value in identity.position_mm]),
        "ImageOrientationPatient": ("DS", [f"{value:.6f}" for value in orientation]),
    }


def _encoded(tags: dict[str, tuple[str, Any]], identity: Identity, *, implicit_vr: bool) -> bytes:
    with disable_value_validation():  # `ID_...` is no UID: pydicom would warn for each file
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
