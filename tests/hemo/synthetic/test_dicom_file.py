import io
import math

import numpy as np
import pydicom
import pytest

from hemo.synthetic.dicom_file import Identity, capture_file, ct_file
from hemo.synthetic.scanner import FORMATS, WRAPPED_FORMAT

WHO = Identity(
    "ID_0123456ab", "ID_01234567", "ID_0123456789", "ID_9876543210", (-125.0, -113.0, 77.5), math.asin(0.6), 0.488281
)
HU = np.arange(512 * 512, dtype=np.int32).reshape(512, 512) % 3000 - 1000


pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # `ID_...` is none


def read(data):
    return pydicom.dcmread(io.BytesIO(data))


@pytest.mark.parametrize("pixel_format", [*FORMATS, WRAPPED_FORMAT])
def test_pixels_come_back_in_hu(pixel_format):
    dataset = read(ct_file(HU.astype(np.int16), WHO, pixel_format))
    stored = dataset.pixel_array.astype(np.int32)
    hu = (stored + 1000) % 4096 - 1000 if pixel_format.wraps else stored + round(float(dataset.RescaleIntercept))
    inside = np.s_[200:300, 200:300]
    np.testing.assert_array_equal(hu[inside], HU[inside])
    assert dataset.original_encoding[0] is pixel_format.implicit_vr
    assert dataset.BitsStored == pixel_format.bits_stored


def test_position_and_tilt():
    dataset = read(ct_file(HU.astype(np.int16), WHO, FORMATS[0]))
    assert [float(value) for value in dataset.ImageOrientationPatient] == [1, 0, 0, 0, 0.8, -0.6]
    assert [float(value) for value in dataset.ImagePositionPatient] == [-125, -113, 77.5]


def test_oddities_of_the_corpus():
    dataset = read(ct_file(HU.astype(np.int16), WHO, FORMATS[3]))
    for keyword in ("InstanceNumber", "SliceThickness", "SOPClassUID"):
        assert keyword not in dataset
    assert dataset.SOPInstanceUID == "ID_0123456ab"
    assert dataset.WindowCenter == [40, 40]
    assert dataset.StudyID == ""


def test_writing_says_nothing_about_ids_that_are_no_uids(recwarn):
    ct_file(HU.astype(np.int16), WHO, FORMATS[0])
    assert [str(warning.message) for warning in recwarn] == []


def test_a_capture_is_colour_and_calls_itself_ct():
    rgb = np.random.default_rng(0).integers(0, 256, (512, 512, 3)).astype(np.uint8)
    dataset = read(capture_file(rgb, WHO))
    assert (dataset.Modality, dataset.PhotometricInterpretation, dataset.SamplesPerPixel) == ("CT", "RGB", 3)
    np.testing.assert_array_equal(dataset.pixel_array, rgb)


def test_the_header_has_the_real_one_s_tags_and_types(shared_data):
    ours = read(ct_file(HU.astype(np.int16), WHO, FORMATS[0]))
    real = read((shared_data / "rsna/stage_2_train/ID_000012eaf.dcm").read_bytes())
    assert [(element.keyword, element.VR) for element in ours] == [(element.keyword, element.VR) for element in real]
    assert [element.keyword for element in ours.file_meta] == [element.keyword for element in real.file_meta]
