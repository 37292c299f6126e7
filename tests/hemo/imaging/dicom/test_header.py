from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from hemo.errors import SliceError
from hemo.imaging.dicom.elements import BIG_ENDIAN, IMPLICIT_LITTLE_ENDIAN, Elements, read_elements
from hemo.imaging.dicom.header import (
    CAPTURE_CLASS,
    geometry_of_frame,
    length,
    position_along_normal,
    read_header,
    rescale_of_frame,
)
from hemo.imaging.dicom.read import images_of_dicom, quiet_pydicom
from hemo.imaging.settings import ImageSettings
from hemo.pseudonym import Pseudonymiser
from tests.dicom_files import dicom_bytes, head_file, head_hu


def header_of(data: bytes):
    return read_header(read_elements(data))


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


def test_the_lowest_bit_follows_from_high_bit_and_bits_stored():
    assert header_of(head_file()).low_bit == 0
    assert header_of(head_file(HighBit=None, BitsStored=12)).low_bit == 0
    assert header_of(head_file(HighBit=15, BitsStored=12)).low_bit == 4


def test_a_capture_with_a_rescale_is_measured_all_the_same():
    """A derived CT image may call itself a capture and still hold HU."""
    header = header_of(head_file(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"))
    assert (header.is_capture, header.is_picture) == (True, False)
    assert header_of(head_file(SOPClassUID="1.2.840.10008.5.1.4.1.1.7", RescaleIntercept=None)).is_picture


CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
REFORMAT, ORIGINAL = ["DERIVED", "SECONDARY", "REFORMATTED"], ["ORIGINAL", "PRIMARY", "AXIAL"]


@pytest.mark.parametrize(
    ("tags", "is_capture"),
    [
        ({"SOPClassUID": CT, "ConversionType": "WSD", "ImageType": REFORMAT}, False),  # reformatted at a workstation
        ({"SOPClassUID": CT, "ConversionType": "DI", "ImageType": ORIGINAL}, False),
        ({"SOPClassUID": ENHANCED_CT, "ConversionType": "SYN"}, False),
        ({"SOPClassUID": CT, "ConversionType": "DF", "ImageType": ORIGINAL}, True),  # digitised film
        ({"SOPClassUID": CT, "ConversionType": "DV", "ImageType": REFORMAT}, True),  # digitised video
        ({"SOPClassUID": CT, "ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, True),
        ({"SOPClassUID": CT, "ImageType": ["DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT"]}, True),
        ({"SOPClassUID": CT, "BurnedInAnnotation": "YES"}, True),
        ({"SOPClassUID": CAPTURE_CLASS}, True),
        ({"SOPClassUID": f"{CAPTURE_CLASS}.3", "ImageType": ORIGINAL}, True),  # multi-frame grey
        ({"SOPClassUID": "1.2.3", "ConversionType": "WSD", "ImageType": REFORMAT}, True),
        ({"SOPClassUID": "1.2.3", "ConversionType": "DI", "ImageType": ORIGINAL}, False),
        (
            {"SOPClassUID": None, "ConversionType": "WSD", "ImageType": REFORMAT},
            True,
        ),  # CT in the file meta only
        ({"SOPClassUID": None, "ConversionType": "WSD"}, True),
        ({"SOPClassUID": None, "ConversionType": "DI", "ImageType": ORIGINAL}, False),
        ({"SOPClassUID": None}, False),
    ],
)
def test_a_capture_is_told_by_class_conversion_and_image_type_together(tags, is_capture):
    header = header_of(head_file(**tags))
    assert header.is_capture is is_capture
    assert ("secondary_capture" in header.flags) is is_capture
    derived = tags.get("ImageType", ORIGINAL)[0] == "DERIVED"
    assert ("derived" in header.flags) is (derived and not is_capture)


def test_the_identity_rescale_of_a_multi_frame_capture_gives_no_hounsfield_units():
    capture = {"SOPClassUID": f"{CAPTURE_CLASS}.3", "RescaleIntercept": "0"}
    assert header_of(head_file(**capture, RescaleType="US")).is_picture
    assert not header_of(head_file(**capture, RescaleType="HU")).is_picture
    assert not header_of(head_file(RescaleType="US")).is_picture


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
        ([1, 2, 3], [0, 0, 0, 0, 0, 0]),
        ([1, 2, 3], [1, 0, 0, 1, 0, 0]),
        ([1, 2, 3], [1e20, 0, 0, 0, 1e-20, 0]),
        ([1, 2, 3], [np.nan, 0, 0, 0, 1, 0]),
    ],
)
def test_a_position_that_is_none_is_not_known(origin, axes):
    assert position_along_normal(origin, axes) is None


def test_cosines_with_few_decimals_still_span_a_plane():
    """A tilt of 18 degrees as (0.9, -0.3): the normal, (0, 0.3, 0.9), is 0.949 long."""
    assert position_along_normal([0, 0, 10], [1, 0, 0, 0, 0.9, -0.3]) == 9
    assert position_along_normal([0, 0, 10], [0.5, 0, 0, 0, 0.5, 0]) is None


def test_spacing_is_that_of_the_rows():
    assert length([0.5, 0.7]) == 0.5
    assert [length(given) for given in ([], [0.0], [-1.0], [np.nan], [1e7])] == [None] * 5


def test_a_slice_thickness_that_is_no_number_costs_no_image():
    thicknesses = [header_of(head_file(SliceThickness=text)).geometry.slice_thickness_mm for text in ("5.00", "0", "")]
    assert thicknesses == [5, None, None]
    data = head_file(SliceThickness="5.00")
    assert header_of(data.replace(b"DS\x04\x005.00", b"DS\x04\x005 mm")).geometry.slice_thickness_mm is None


def test_padding_that_is_no_16_bit_number_is_left_out():
    assert header_of(head_file()).padding == ()
    assert header_of(head_file(PixelPaddingValue=-2000)).padding == (63536,)
    data = head_file(PixelPaddingValue=-2000)
    value = b"\x28\x00\x20\x01SS\x02\x00\x30\xf8"
    assert value in data
    assert header_of(data.replace(value, value[:6] + b"\x04\x00DOE ")).padding == ()


def test_a_frame_count_of_thousands_of_digits_is_no_number():
    with pytest.raises(SliceError, match="more than 16384 frames"):
        header_of(head_file().replace(b"CS\x0c\x00MONOCHROME2 ", b"CS\x0c\x00MONOCHROME2 " + frame_count("9" * 4000)))


def frame_count(text: str) -> bytes:
    """Return the element (0028,0008) in explicit little endian."""
    return b"\x28\x00\x08\x00IS" + len(text).to_bytes(2, "little") + text.encode()


def group(**macros: dict[str, Any]) -> Dataset:
    """Return functional groups, such as `PixelMeasures={"PixelSpacing": [0.5, 0.5]}`."""
    item = Dataset()
    for name, values in macros.items():
        macro = Dataset()
        for keyword, value in values.items():
            setattr(macro, keyword, value)
        setattr(item, f"{name}Sequence", [macro])
    return item


def enhanced(frames: list[Dataset], shared: Dataset | None = None, **changes: Any) -> Elements:
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
    return read_elements(dicom_bytes(stored, NumberOfFrames=2, **options))


def rescale(intercept: str) -> dict[str, str]:
    return {"RescaleSlope": "2", "RescaleIntercept": intercept}


def test_each_frame_has_its_own_rescale():
    elements = enhanced([group(PixelValueTransformation=rescale(value)) for value in ("-1024", "-1000")])
    header = read_header(elements)
    found = [rescale_of_frame(elements, header, frame)[0] for frame in (0, 1)]
    assert [(each.slope, each.intercept) for each in found] == [(2, -1024), (2, -1000)]


def test_a_frame_without_its_own_takes_the_shared_one():
    own = group(PixelValueTransformation=rescale("-5"))
    elements = enhanced([own, Dataset()], group(PixelValueTransformation=rescale("-7")))
    header = read_header(elements)
    assert [rescale_of_frame(elements, header, frame)[0].intercept for frame in (0, 1)] == [-5, -7]


def test_each_frame_has_its_own_units():
    types = ("HU", "US", "Z_EFF")
    frames = [group(PixelValueTransformation={**rescale("-5"), "RescaleType": name}) for name in types]
    elements = enhanced(frames, RescaleType="MGML")  # of no rescale: slope and intercept are those of the groups
    header = read_header(elements)
    assert [rescale_of_frame(elements, header, frame)[1] for frame in (0, 1)] == [[], ["uncertain_units"]]
    with pytest.raises(SliceError, match=r"not_hu.*rescale type \(0028,1054\): Z_EFF"):
        rescale_of_frame(elements, header, 2)


def test_position_and_spacing_are_those_of_the_frame():
    planes = [group(PlanePosition={"ImagePositionPatient": [0, 0, height]}) for height in (10, 15.5)]
    axes = group(
        PlaneOrientation={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        PixelMeasures={"PixelSpacing": [0.25, 0.5], "SliceThickness": 5},
    )
    elements = enhanced(planes, axes)
    header = read_header(elements)
    axial = (1, 0, 0, 0, 1, 0)
    found = [geometry_of_frame(elements, header, frame) for frame in (0, 1)]
    assert found == [(10, axial, 0.25, 5), (15.5, axial, 0.25, 5)]


def test_what_the_file_itself_says_comes_before_the_groups():
    shared = group(
        PlanePosition={"ImagePositionPatient": [0, 0, 1]},
        PlaneOrientation={"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
        PixelMeasures={"PixelSpacing": [0.25, 0.5], "SliceThickness": 5},
    )
    elements = enhanced([Dataset()], shared, ImagePositionPatient=[0, 0, 7], ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    found = geometry_of_frame(elements, read_header(elements), 0)
    assert found == (7, (1, 0, 0, 0, 1, 0), 0.25, 5)


def test_without_functional_groups_values_are_none():
    elements = enhanced([Dataset(), Dataset()])
    header = read_header(elements)
    assert geometry_of_frame(elements, header, 0) == (None, None, None, None)
    with pytest.raises(SliceError, match="no_rescale"):
        rescale_of_frame(elements, header, 0)


def test_a_frame_beyond_the_groups_is_refused():
    elements = enhanced([group(PixelValueTransformation=rescale("-5"))])
    with pytest.raises(SliceError, match="IndexError in a functional group"):
        rescale_of_frame(elements, read_header(elements), 1)


@pytest.mark.parametrize(
    ("slope", "intercept"), [("nan", "0"), ("1e308", "0"), ("1", "inf"), ("1", "-1e7"), ("0", "1")]
)
def test_a_rescale_that_gives_no_hounsfield_units_is_refused(slope, intercept):
    elements = read_elements(dicom_bytes(np.zeros((8, 8), np.uint16), RescaleSlope=slope, RescaleIntercept=intercept))
    with pytest.raises(SliceError, match="rescale slope"):
        rescale_of_frame(elements, read_header(elements), 0)


def test_groups_too_large_to_read_are_refused():
    """pydicom would take minutes over a megabyte of empty elements in each frame."""
    elements = enhanced([Dataset(), Dataset()])
    header = read_header(elements)
    element = elements.dataset.get_item(0x52009230)
    elements.dataset._dict[element.tag] = element._replace(value=bytes(3 << 17))
    with pytest.raises(SliceError, match="bytes of functional groups"):
        rescale_of_frame(elements, header, 0)
