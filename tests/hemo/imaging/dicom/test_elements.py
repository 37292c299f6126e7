import io
from pathlib import Path

import pydicom
import pytest
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from hemo.imaging.dicom import elements as dicom
from hemo.imaging.dicom.elements import Elements, decimals, elements_of, read_elements, scan, short, text, texts
from hemo.imaging.dicom.read import quiet_pydicom
from tests.dicom_files import head_file, head_hu


def all_values(elements: Elements) -> dict[int, object]:
    found: dict[int, object] = {tag: short(elements, tag, -1) for tag in dicom.NUMBER_TAGS}
    return found | {tag: texts(elements, tag) for tag in dicom.TEXT_TAGS if tag >> 16 != 2}


def by_pydicom(data: bytes) -> dict[int, object]:
    with quiet_pydicom():
        return all_values(elements_of(pydicom.dcmread(io.BytesIO(data))))


def with_sequence(*, undefined: bool, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """Return a file with items in items: two studies, each with a series and an icon that has pixels of its own."""
    studies = []
    for number in range(2):
        icon, series, study = Dataset(), Dataset(), Dataset()
        icon.Rows, icon.PixelData = 7, bytes(8)
        icon["PixelData"].VR = "OW"
        series.Modality, series.IconImageSequence = "MR", [icon]
        study.PatientID, study.ReferencedSeriesSequence = f"of another {number}", [series]
        for item in (icon, series, study):
            item.is_undefined_length_sequence_item = undefined
        series["IconImageSequence"].is_undefined_length = undefined
        study["ReferencedSeriesSequence"].is_undefined_length = undefined
        studies.append(study)
    dataset = pydicom.dcmread(io.BytesIO(head_file(syntax=syntax)))
    dataset.ReferencedStudySequence = studies
    dataset["ReferencedStudySequence"].is_undefined_length = undefined
    dataset.ReferencedImageSequence = []
    dataset["ReferencedImageSequence"].is_undefined_length = undefined
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        head_file(),
        head_file(syntax=ImplicitVRLittleEndian),
        head_file(RescaleSlope=" 1.50 ", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"], PixelRepresentation=None),
        head_file(RescaleType="HU_MOD", ConversionType="WSD", SliceThickness="5.0", PixelPaddingValue=-2000),
        head_file(
            RescaleType="", SliceThickness="", PixelPaddingValue=0, PixelPaddingRangeLimit=65535, PixelRepresentation=0
        ),
        with_sequence(undefined=False),
        with_sequence(undefined=True),
        with_sequence(undefined=False, syntax=ImplicitVRLittleEndian),
        with_sequence(undefined=True, syntax=ImplicitVRLittleEndian),
    ],
)
def test_every_value_is_the_one_pydicom_reads(data):
    scanned = scan(data)
    assert scanned is not None
    assert all_values(scanned) == by_pydicom(data)
    assert bytes(scanned.pixel_data) == (head_hu() + 1024).astype("<i2").tobytes()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no DICOM at all",
        head_file()[132:],
        head_file(syntax=ExplicitVRBigEndian),
        head_file(syntax=DeflatedExplicitVRLittleEndian),
        head_file(PatientID="Müller", SpecificCharacterSet="ISO_IR 100"),
        head_file(PatientID="a\x1bb"),
        head_file(SharedFunctionalGroupsSequence=[Dataset()]),
    ],
)
def test_what_is_not_plain_is_left_to_pydicom(data):
    assert scan(data) is None


def test_a_file_cut_within_its_header_is_left_to_pydicom():
    data = head_file()
    for length in range(132, len(data) - 2 * 32 * 32, 7):
        assert scan(data[:length]) is None or scan(data[:length]).pixel_data is None


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_file_cut_within_a_sequence_of_undefined_length_is_left_to_pydicom(syntax):
    data = with_sequence(undefined=True, syntax=syntax)
    for length in range(132, len(data) - 2 * 32 * 32):
        assert scan(data[:length]) is None or scan(data[:length]).pixel_data is None


SEQUENCE = b"\x08\x00\x10\x11SQ\x00\x00\xff\xff\xff\xff"
"""Referenced Study Sequence (0008,1110) of undefined length; then come its items."""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (SEQUENCE, SEQUENCE.replace(b"SQ", b"UN")),  # its items would be implicit, PS3.5 6.2.2
        (SEQUENCE, SEQUENCE.replace(b"\x10\x11", b"\x60\x00")),  # Modality as a sequence
        (b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"),  # an item ended as a sequence
        (b"\xfe\xff\xdd\xe0", b"\xfe\xff\x0d\xe0"),
        (SEQUENCE, SEQUENCE + b"\xfe\xff\x00\xe0\xf0\xff\xff\xff"),  # an item beyond the end
        (SEQUENCE, SEQUENCE + b"\x08\x00\x10\x11"),  # no item
        (SEQUENCE, SEQUENCE + (b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + SEQUENCE) * 20_000),  # nested
    ],
)
def test_a_damaged_sequence_of_undefined_length_is_left_to_pydicom(old, new):
    data = with_sequence(undefined=True)
    assert old in data
    assert scan(data) is not None
    assert scan(data.replace(old, new)) is None


def test_cut_pixels_are_handed_on_as_far_as_they_go():
    assert len(scan(head_file()[:-100]).pixel_data) == 2 * 32 * 32 - 100


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_padding_is_read_as_the_bits_that_are_stored(syntax):
    """-2000 is 63536 in 16 bits, whether a reader takes it for signed or not; both readers give the same."""
    data = head_file(syntax=syntax, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1900)
    tags = (dicom.PIXEL_PADDING_VALUE, dicom.PIXEL_PADDING_RANGE_LIMIT)
    read = [elements_of(dataset(data)), scan(data)]
    assert [[each.numbers[tag] for tag in tags] for each in read if each] == [[63536, 63636]] * (2 - (read[1] is None))


def test_elements_out_of_order_are_left_to_pydicom():
    data = head_file()
    rows = data.index(b"\x28\x00\x10\x00US")
    columns = rows + 10
    swapped = data[:rows] + data[columns : columns + 10] + data[rows:columns] + data[columns + 10 :]
    assert scan(swapped) is None


def test_a_stray_delimiter_before_the_pixels_is_left_to_pydicom():
    """Its tag is above that of the pixels; some writers end a sequence of a stated length with it."""
    data = with_sequence(undefined=False)
    rows = data.rindex(b"\x28\x00\x10\x00US")
    stray = data[:rows] + b"\xfe\xff\xdd\xe0\0\0\0\0" + data[rows:]
    assert scan(stray) is None
    assert short(read_elements(stray), dicom.ROWS, 0) == 32
    assert read_elements(stray).pixel_data == bytes(scan(data).pixel_data)


def test_every_named_tag_is_read():
    numbers = {name: value for name, value in vars(dicom).items() if name.isupper() and isinstance(value, int)}
    others = ("_", "LARGEST", "FEWEST_READS", "BYTES_A_READ", "DATA_SET_AT")
    tags = {value for name, value in numbers.items() if not name.startswith(others)}
    assert tags == dicom.TEXT_TAGS | dicom.NUMBER_TAGS | {dicom.PIXEL_DATA}


def test_real_headers_read_the_same(shared_data: Path):
    files = [file.read_bytes() for file in sorted((shared_data / "rsna").rglob("*.dcm"))]
    files += [file.read_bytes() for file in sorted((shared_data / "head_ct_bsd").rglob("*")) if file.is_file()]
    plain = [(all_values(scanned), by_pydicom(data)) for data in files if (scanned := scan(data)) is not None]
    assert len(plain) == 66
    for ours, theirs in plain:
        assert ours == theirs


def dataset(data: bytes):
    return pydicom.dcmread(io.BytesIO(data))


def test_converted_values_are_those_of_pydicom():
    data = head_file(RescaleSlope=" 1.50 ", NumberOfFrames="1", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
    with quiet_pydicom():
        ours, theirs = elements_of(dataset(data)), dataset(data)
        assert short(ours, dicom.ROWS, 0) == theirs.Rows == 32
        assert short(ours, dicom.BITS_STORED, 0) == theirs.BitsStored == 16
        assert decimals(ours, dicom.RESCALE_SLOPE) == [theirs.RescaleSlope] == [1.5]
        assert decimals(ours, dicom.IMAGE_POSITION) == list(theirs.ImagePositionPatient) == [-125.0, -120.0, 47.25]
        assert texts(ours, dicom.IMAGE_TYPE) == list(theirs.ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL"]
        assert text(ours, dicom.STUDY_UID) == theirs.StudyInstanceUID == "ID_study"


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, ImplicitVRLittleEndian])
def test_byte_order_and_implicit_representations_are_heeded(syntax):
    read = elements_of(dataset(head_file(syntax=syntax)))
    assert short(read, dicom.COLUMNS, 0) == 32
    assert decimals(read, dicom.RESCALE_INTERCEPT) == [-1024]


def test_names_beyond_ascii_are_read_in_their_character_set():
    data = head_file(PatientID="Müller", SpecificCharacterSet="ISO_IR 100")
    assert text(elements_of(dataset(data)), dicom.PATIENT_ID) == "Müller"


def test_values_pydicom_has_converted_are_read_too():
    read = dataset(head_file())
    with quiet_pydicom():
        assert (read.Rows, read.PatientID, list(read.PixelSpacing)) == (32, "ID_patient", [0.5, 0.5])
    elements = elements_of(read)
    assert (short(elements, dicom.ROWS, 0), text(elements, dicom.PATIENT_ID)) == (32, "ID_patient")
    assert decimals(elements, dicom.PIXEL_SPACING) == [0.5, 0.5]


def test_what_is_missing_has_its_default():
    read = elements_of(dataset(head_file(RescaleSlope=None, PixelRepresentation=None)))
    assert decimals(read, dicom.RESCALE_SLOPE) == []
    assert text(read, dicom.CONVERSION_TYPE) == ""
    assert short(read, dicom.PIXEL_REPRESENTATION, 7) == 7


def test_a_text_that_is_no_number_is_refused():
    with disable_value_validation():
        data = head_file(PatientID="12x")
    with pytest.raises(ValueError, match="could not convert"):
        decimals(elements_of(dataset(data)), dicom.PATIENT_ID)


@pytest.mark.parametrize("text_there", [b"DOE^JANE", b"DOE "])
def test_a_text_in_the_place_of_a_number_is_not_repeated(text_there):
    """`DOE ` read as four bytes would be 541,413,188, which gives the name away as well."""
    rows = b"\x28\x00\x10\x00US\x02\x00\x20\x00"
    data = head_file()
    assert rows in data
    elements = scan(data.replace(rows, rows[:6] + len(text_there).to_bytes(2, "little") + text_there))
    with pytest.raises(ValueError, match="more than an unsigned short holds"):
        short(elements, dicom.ROWS, 0)
    assert short(scan(data), dicom.ROWS, 0) == 32


def test_an_enhanced_file_of_many_frames_may_have_sequences_of_undefined_length():
    """13 functional groups a frame, as scanners write them: pydicom reads some 200 times a frame."""
    groups = []
    for _ in range(800):
        item = Dataset()
        item.add_new(0x00090010, "LO", "hemo")
        for number in range(13):
            inner = Dataset()
            inner.ImageComments = inner.PatientComments = inner.StudyID = "x"
            item.add_new(0x00091000 + number, "SQ", [inner])
            item[0x00091000 + number].is_undefined_length = inner.is_undefined_length_sequence_item = True
        item.is_undefined_length_sequence_item = True
        groups.append(item)
    dataset = pydicom.dcmread(io.BytesIO(head_file(NumberOfFrames=800, PerFrameFunctionalGroupsSequence=groups)))
    dataset["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    with quiet_pydicom():
        found = read_elements(buffer.getvalue())
    assert text(found, dicom.NUMBER_OF_FRAMES) == "800"
