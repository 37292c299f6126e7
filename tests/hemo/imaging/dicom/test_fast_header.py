import io
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from hemo.imaging.dicom import tags
from hemo.imaging.dicom.fast_header import scan
from hemo.imaging.dicom.read import quiet_pydicom
from hemo.imaging.dicom.tags import texts, whole
from tests.dicom_files import head_file, head_hu


def all_values(elements: tags.Elements) -> dict[int, object]:
    found: dict[int, object] = {tag: whole(elements, tag, -1) for tag in tags.WHOLE_TAGS}
    return found | {tag: texts(elements, tag) for tag in tags.TEXT_TAGS if tag >> 16 != 2}


def by_pydicom(data: bytes) -> dict[int, object]:
    with quiet_pydicom():
        return all_values(pydicom.dcmread(io.BytesIO(data)))


def with_sequence(*, undefined: bool) -> bytes:
    inner = Dataset()
    inner.PatientID = "of another"
    dataset = pydicom.dcmread(io.BytesIO(head_file()))
    dataset.ReferencedStudySequence = [inner]
    dataset["ReferencedStudySequence"].is_undefined_length = undefined
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        head_file(),
        head_file(syntax=ImplicitVRLittleEndian),
        head_file(RescaleSlope=" 1.50 ", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"], PixelRepresentation=None),
        with_sequence(undefined=False),
    ],
)
def test_every_value_is_the_one_pydicom_reads(data):
    scanned = scan(data)
    assert scanned is not None
    assert all_values(scanned) == by_pydicom(data)
    assert bytes(scanned[tags.PIXEL_DATA]) == (head_hu() + 1024).astype("<i2").tobytes()


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
        with_sequence(undefined=True),
    ],
)
def test_what_is_not_plain_is_left_to_pydicom(data):
    assert scan(data) is None


def test_a_file_cut_within_its_header_is_left_to_pydicom():
    data = head_file()
    for length in range(132, len(data) - 2 * 32 * 32, 7):
        assert scan(data[:length]) is None or tags.PIXEL_DATA not in scan(data[:length])


def test_cut_pixels_are_handed_on_as_far_as_they_go():
    assert len(scan(head_file()[:-100])[tags.PIXEL_DATA]) == 2 * 32 * 32 - 100


def test_elements_out_of_order_are_left_to_pydicom():
    data = head_file()
    rows = data.index(b"\x28\x00\x10\x00US")
    columns = rows + 10
    swapped = data[:rows] + data[columns : columns + 10] + data[rows:columns] + data[columns + 10 :]
    assert scan(swapped) is None


def test_every_tag_hemo_asks_for_is_kept():
    numbers = {name: value for name, value in vars(tags).items() if name.isupper() and isinstance(value, int)}
    named = {value for name, value in numbers.items() if not name.startswith("LARGEST")}
    assert named == tags.TEXT_TAGS | tags.WHOLE_TAGS | {tags.PIXEL_DATA}


def test_real_headers_read_the_same(shared_data: Path):
    files = [file.read_bytes() for file in sorted((shared_data / "rsna").rglob("*.dcm"))]
    files += [file.read_bytes() for file in sorted((shared_data / "head_ct_bsd").rglob("*")) if file.is_file()]
    plain = [(all_values(scanned), by_pydicom(data)) for data in files if (scanned := scan(data)) is not None]
    assert len(plain) == 66
    for ours, theirs in plain:
        assert ours == theirs
