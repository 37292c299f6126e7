import io

import pydicom
import pytest
from pydicom.config import disable_value_validation
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from hemo.imaging.dicom import tags
from hemo.imaging.dicom.read import quiet_pydicom
from hemo.imaging.dicom.tags import numbers, text, texts, whole
from tests.dicom_files import head_file


def dataset(data: bytes):
    return pydicom.dcmread(io.BytesIO(data))


def test_every_value_is_the_one_pydicom_reads():
    data = head_file(RescaleSlope=" 1.50 ", NumberOfFrames="1", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
    ours, theirs = dataset(data), dataset(data)
    with quiet_pydicom():
        assert whole(ours, tags.ROWS, 0) == theirs.Rows == 32
        assert whole(ours, tags.BITS_STORED, 0) == theirs.BitsStored == 16
        assert numbers(ours, tags.RESCALE_SLOPE) == [theirs.RescaleSlope] == [1.5]
        assert numbers(ours, tags.IMAGE_POSITION) == list(theirs.ImagePositionPatient) == [-125.0, -120.0, 47.25]
        assert texts(ours, tags.IMAGE_TYPE) == list(theirs.ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL"]
        assert text(ours, tags.STUDY_UID) == theirs.StudyInstanceUID == "ID_study"


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, ImplicitVRLittleEndian])
def test_byte_order_and_implicit_representations_are_heeded(syntax):
    read = dataset(head_file(syntax=syntax))
    assert whole(read, tags.COLUMNS, 0) == 32
    assert numbers(read, tags.RESCALE_INTERCEPT) == [-1024]


def test_names_beyond_ascii_are_read_in_their_character_set():
    data = head_file(PatientID="Müller", SpecificCharacterSet="ISO_IR 100")
    assert text(dataset(data), tags.PATIENT_ID) == "Müller"


def test_values_pydicom_has_converted_are_read_too():
    read = dataset(head_file())
    with quiet_pydicom():
        assert (read.Rows, read.PatientID, list(read.PixelSpacing)) == (32, "ID_patient", [0.5, 0.5])
    assert (whole(read, tags.ROWS, 0), text(read, tags.PATIENT_ID)) == (32, "ID_patient")
    assert numbers(read, tags.PIXEL_SPACING) == [0.5, 0.5]


def test_what_is_missing_has_its_default():
    read = dataset(head_file(RescaleSlope=None, PixelRepresentation=None))
    assert numbers(read, tags.RESCALE_SLOPE) == []
    assert text(read, tags.CONVERSION_TYPE) == ""
    assert whole(read, tags.PIXEL_REPRESENTATION, 7) == 7


def test_a_text_that_is_no_number_is_refused():
    with disable_value_validation():
        data = head_file(PatientID="12x")
    with pytest.raises(ValueError, match="could not convert"):
        numbers(dataset(data), tags.PATIENT_ID)


@pytest.mark.parametrize("text_there", [b"DOE^JANE", b"DOE "])
def test_a_text_in_the_place_of_a_number_is_not_told_as_one(text_there):
    """`DOE ` read as four bytes would be 541,413,188, which tells the name as well."""
    with pytest.raises(ValueError, match="more than an unsigned short holds"):
        whole({tags.ROWS: text_there}, tags.ROWS, 0)
    assert whole({tags.ROWS: b"\x00\x02"}, tags.ROWS, 0) == 512
