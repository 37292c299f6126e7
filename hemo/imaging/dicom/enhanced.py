"""What the functional groups of a multi-frame file say about one of its frames (DICOM PS3.3 C.7.6.16)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from hemo.errors import SliceError
from hemo.imaging.dicom.header import CtHeader, position_along_normal, spacing
from hemo.imaging.dicom.tags import Elements
from hemo.imaging.hounsfield import Rescale

PER_FRAME_GROUPS, SHARED_GROUPS = 0x52009230, 0x52009229
LARGEST_GROUP_BYTES = 1 << 16  # a frame: pydicom reads all groups to find one
LARGEST_RESCALE = 1e6  # of slope and intercept: HU are 16-bit numbers


def rescale_of_frame(dataset: Elements, header: CtHeader, frame: int) -> Rescale:
    """Return how a frame stores HU: by the file, else by its groups (Pixel Value Transformation).

    Raises:
        SliceError: `no_rescale` if the file does not say; `bad_header` if slope or intercept is no usable number.
    """
    slope, intercept = header.slope, header.intercept
    if intercept is None:
        with _faults_told():
            values = _group(dataset, header, "PixelValueTransformationSequence", frame)
            if values is None:
                raise SliceError("no_rescale", "no rescale intercept (0028,1052)")
            slope, intercept = float(values.RescaleSlope), float(values.RescaleIntercept)
    slope = 1.0 if slope is None else slope
    if slope == 0 or not (abs(slope) <= LARGEST_RESCALE and abs(intercept) <= LARGEST_RESCALE):
        raise SliceError("bad_header", f"rescale slope {slope}, intercept {intercept}")
    return Rescale(slope, intercept, header.bits_stored, header.signed)


def place_of_frame(dataset: Elements, header: CtHeader, frame: int) -> tuple[float | None, float | None]:
    """Return position along the normal and spacing, both in mm, None where not said: by the file, else by its groups.

    Raises:
        SliceError: `bad_header` if a group holds no usable numbers.
    """
    position_mm, spacing_mm = header.position_mm, header.spacing_mm
    if position_mm is not None and spacing_mm is not None:
        return position_mm, spacing_mm
    with _faults_told():
        if position_mm is None:
            plane = _numbers(_group(dataset, header, "PlanePositionSequence", frame), "ImagePositionPatient")
            axes = _numbers(_group(dataset, header, "PlaneOrientationSequence", frame), "ImageOrientationPatient")
            position_mm = position_along_normal(plane, axes)
        if spacing_mm is None:
            spacing_mm = spacing(_numbers(_group(dataset, header, "PixelMeasuresSequence", frame), "PixelSpacing"))
    return position_mm, spacing_mm


def _group(dataset: Elements, header: CtHeader, keyword: str, frame: int) -> Dataset | None:
    """Return a functional group of a frame: its own, else the one shared by all; None where there is neither."""
    if isinstance(dataset, dict):  # of a plain file, which has none
        return None
    for sequence, item in ((PER_FRAME_GROUPS, frame), (SHARED_GROUPS, 0)):
        if sequence in dataset:
            raw: Any = dataset.get_item(sequence)
            if isinstance(raw.value, bytes) and len(raw.value) > LARGEST_GROUP_BYTES * (header.frames + 1):
                raise SliceError("bad_header", f"{len(raw.value)} bytes of functional groups")
            values = dataset[sequence].value[item].get(keyword)
            if values:
                return values[0]  # type: ignore[no-any-return]
    return None


def _numbers(values: Dataset | None, keyword: str) -> list[float]:
    found: Any = None if values is None else values.get(keyword)
    return [] if found is None else [float(each) for each in np.atleast_1d(found)]


@contextmanager
def _faults_told() -> Iterator[None]:
    """Turn what pydicom raises on damaged values, over a dozen kinds, into a reject."""
    try:
        yield
    except (SliceError, MemoryError):
        raise
    except Exception as error:
        raise SliceError("bad_header", f"{type(error).__name__} in a functional group") from error
