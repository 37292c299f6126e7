import io
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from hemo.errors import SliceError
from hemo.imaging.dicom.enhanced import place_of_frame, rescale_of_frame
from hemo.imaging.dicom.header import read_header
from tests.dicom_files import dicom_bytes


def group(**macros: dict[str, Any]) -> Dataset:
    """Return functional groups, such as `PixelMeasures={"PixelSpacing": [0.5, 0.5]}`."""
    item = Dataset()
    for name, values in macros.items():
        macro = Dataset()
        for keyword, value in values.items():
            setattr(macro, keyword, value)
        setattr(item, f"{name}Sequence", [macro])
    return item


def enhanced(frames: list[Dataset], shared: Dataset | None = None, **changes: Any) -> pydicom.FileDataset:
    """Return a multi-frame file whose geometry and rescale stand in functional groups only."""
    nowhere_else = (
        "RescaleIntercept",
        "RescaleSlope",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
    )
    options: dict[str, Any] = {**dict.fromkeys(nowhere_else), "PerFrameFunctionalGroupsSequence": frames, **changes}
    if shared is not None:
        options["SharedFunctionalGroupsSequence"] = [shared]
    stored = np.zeros((2, 8, 8), np.uint16)
    return pydicom.dcmread(io.BytesIO(dicom_bytes(stored, NumberOfFrames=2, **options)))


def rescale(intercept: str) -> dict[str, str]:
    return {"RescaleSlope": "2", "RescaleIntercept": intercept}


def test_each_frame_has_its_own_rescale():
    dataset = enhanced([group(PixelValueTransformation=rescale(value)) for value in ("-1024", "-1000")])
    header = read_header(dataset)
    found = [rescale_of_frame(dataset, header, frame) for frame in (0, 1)]
    assert [(each.slope, each.intercept) for each in found] == [(2, -1024), (2, -1000)]


def test_a_frame_without_its_own_takes_the_shared_one():
    own = group(PixelValueTransformation=rescale("-5"))
    dataset = enhanced([own, Dataset()], group(PixelValueTransformation=rescale("-7")))
    header = read_header(dataset)
    assert [rescale_of_frame(dataset, header, frame).intercept for frame in (0, 1)] == [-5, -7]


def test_position_and_spacing_are_those_of_the_frame():
    planes = [group(PlanePosition={"ImagePositionPatient": [0, 0, height]}) for height in (10, 15.5)]
    axes = group(
        PlaneOrientation={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, PixelMeasures={"PixelSpacing": [0.25, 0.5]}
    )
    dataset = enhanced(planes, axes)
    header = read_header(dataset)
    assert [place_of_frame(dataset, header, frame) for frame in (0, 1)] == [(10, 0.25), (15.5, 0.25)]


def test_what_is_said_nowhere_is_not_known():
    dataset = enhanced([Dataset(), Dataset()])
    header = read_header(dataset)
    assert place_of_frame(dataset, header, 0) == (None, None)
    with pytest.raises(SliceError, match="no_rescale"):
        rescale_of_frame(dataset, header, 0)


def test_a_frame_beyond_the_groups_is_refused():
    dataset = enhanced([group(PixelValueTransformation=rescale("-5"))])
    with pytest.raises(SliceError, match="IndexError in a functional group"):
        rescale_of_frame(dataset, read_header(dataset), 1)


@pytest.mark.parametrize(
    ("slope", "intercept"), [("nan", "0"), ("1e308", "0"), ("1", "inf"), ("1", "-1e7"), ("0", "1")]
)
def test_a_rescale_that_gives_no_hounsfield_units_is_refused(slope, intercept):
    dataset = pydicom.dcmread(
        io.BytesIO(dicom_bytes(np.zeros((8, 8), np.uint16), RescaleSlope=slope, RescaleIntercept=intercept))
    )
    with pytest.raises(SliceError, match="rescale slope"):
        rescale_of_frame(dataset, read_header(dataset), 0)


def test_groups_too_large_to_read_are_refused():
    """pydicom would take minutes over a megabyte of empty elements in each frame."""
    dataset = enhanced([Dataset(), Dataset()])
    header = read_header(dataset)
    element = dataset.get_item(0x52009230)
    dataset._dict[element.tag] = element._replace(value=bytes(3 << 17))
    with pytest.raises(SliceError, match="bytes of functional groups"):
        rescale_of_frame(dataset, header, 0)
