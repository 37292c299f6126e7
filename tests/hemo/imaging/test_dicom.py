import re

import numpy as np
import pytest
import xxhash
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from hemo.imaging.dicom import images_of_dicom, quiet_pydicom
from hemo.imaging.image import Image, Reject
from hemo.imaging.pseudonym import Pseudonymiser, pseudonymiser
from hemo.imaging.settings import ImageSettings
from hemo.imaging.windows import resolve_windows
from tests.dicom_files import dicom_bytes, head_file, head_hu

SETTINGS = ImageSettings(corpus="dicom", windows=resolve_windows(["brain", "subdural", "soft"]), side_px=16)
RSNA = SETTINGS.model_copy(update={"corpus": "rsna"})
PUBLIC = Pseudonymiser()


def decode(data: bytes, settings: ImageSettings = SETTINGS, pseudonyms: Pseudonymiser = PUBLIC) -> list[Image | Reject]:
    with quiet_pydicom():
        return images_of_dicom(data, settings, pseudonyms)


def only(data: bytes, **options) -> Image:
    (image,) = decode(data, **options)
    assert isinstance(image, Image), image
    return image


def test_a_slice_is_windowed_at_full_size_then_resized():
    """Tissue of 30 to 37 HU: in the brain window the mean of 30 and 31 HU is (96 + 99) / 2, rounded."""
    image = only(head_file())
    assert image.pixels.shape == (3, 16, 16)
    assert image.pixels.dtype == np.uint8
    assert image.pixels.flags.c_contiguous
    assert image.pixels[0, 4, 4] == 98
    np.testing.assert_array_equal(image.pixels[:, 0, 0], [0, 0, 0])


def test_metadata_is_read_from_the_header():
    image = only(head_file())
    assert (image.patient, image.study, image.series) == ("ID_patient", "ID_study", "ID_series")
    assert (image.source_rows, image.source_cols, image.spacing_mm) == (32, 32, 0.5)
    assert (image.pixel_format, image.brain_fraction, image.flags) == ("i16", 0.25, ())
    assert image.pixel_digest == xxhash.xxh3_128_digest(head_hu())


def test_position_is_measured_along_the_normal_of_a_tilted_slice():
    """Tilted by 30 degrees about x, the normal is (0, -.5, .866): (-125, -120, 47.25) lies at 60 + 40.92."""
    cosine, sine = np.cos(np.pi / 6), np.sin(np.pi / 6)
    image = only(head_file(ImageOrientationPatient=[1, 0, 0, 0, round(cosine, 6), round(sine, 6)]))
    assert image.position_mm == pytest.approx(100.92, abs=0.01)


def test_a_slice_without_position_has_none():
    assert only(head_file(ImagePositionPatient=None)).position_mm is None


def test_unsigned_and_signed_storage_give_the_same_picture():
    """NumPy 2 refuses uint16 + (-1024); decimal strings such as -1024.000000 are numbers."""
    signed = only(head_file())
    unsigned = only(
        dicom_bytes(
            (head_hu() + 1024).astype(np.uint16),
            BitsStored=12,
            HighBit=11,
            PixelRepresentation=0,
            RescaleIntercept="-1024.000000",
        )
    )
    np.testing.assert_array_equal(signed.pixels, unsigned.pixels)
    assert (signed.pixel_digest, unsigned.pixel_format) == (unsigned.pixel_digest, "u12")


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_byte_order_and_encoding_change_no_picture(syntax):
    np.testing.assert_array_equal(only(head_file(syntax=syntax)).pixels, only(head_file()).pixels)


def faulty_file() -> bytes:
    """Return a slice with the corpus's intercept fault: HU stored modulo 4096 with an intercept of 1."""
    stored = (head_hu().astype(np.int32) % 4096).astype(np.uint16)
    return dicom_bytes(stored, BitsStored=12, HighBit=11, PixelRepresentation=0, RescaleIntercept="1")


def test_the_intercept_fault_is_repaired_in_the_rsna_corpus():
    image = only(faulty_file(), settings=RSNA)
    np.testing.assert_array_equal(image.pixels, only(head_file()).pixels)
    assert image.flags == ("intercept_repaired",)


def test_and_in_no_other_corpus():
    assert "intercept_repaired" not in only(faulty_file()).flags


def test_multi_valued_windows_and_invalid_uids_give_no_warning(recwarn):
    assert only(head_file(WindowCenter=["00040", "00040"], StudyInstanceUID="ID_1 2")).study == "ID_1 2"
    assert not recwarn.list


def test_every_frame_becomes_an_image():
    frames = np.stack([head_hu(), head_hu() + np.int16(20)]) + np.int16(1024)
    images = decode(dicom_bytes(frames, NumberOfFrames=2))
    assert [(image.frame, image.frames) for image in images] == [(0, 2), (1, 2)]
    assert images[1].pixels[0, 4, 4] > images[0].pixels[0, 4, 4]


def test_a_frame_takes_its_rescale_from_the_functional_groups():
    values, shared = Dataset(), Dataset()
    values.RescaleSlope, values.RescaleIntercept = "1", "-1024"
    shared.PixelValueTransformationSequence = [values]
    frames = (head_hu() + np.int16(1024))[np.newaxis]
    data = dicom_bytes(
        frames, NumberOfFrames=1, RescaleIntercept=None, RescaleSlope=None, SharedFunctionalGroupsSequence=[shared]
    )
    np.testing.assert_array_equal(only(data).pixels, only(head_file()).pixels)


def test_a_colour_capture_is_kept_as_grey_and_flagged():
    colour = np.zeros((8, 8, 3), np.uint8)
    colour[..., 1] = 200
    data = dicom_bytes(
        colour,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelRepresentation=0,
        RescaleIntercept=None,
        RescaleSlope=None,
    )
    image = only(data)
    assert (image.flags, image.pixel_format, image.brain_fraction) == (("secondary_capture",), "rgb8", None)
    np.testing.assert_array_equal(image.pixels, np.full((3, 16, 16), 117))  # 0.587 x 200
    (reject,) = decode(data, pseudonyms=pseudonymiser(b"a secret of sixteen bytes"))
    assert reject.code == "secondary_capture"


def test_identifiers_become_pseudonyms_under_a_key():
    keyed = pseudonymiser(b"a secret of sixteen bytes")
    image = only(head_file(), pseudonyms=keyed)
    assert (image.patient, image.study) == (keyed("patient", "ID_patient"), keyed("study", "ID_study"))


def test_names_burned_into_a_slice_make_it_a_capture():
    data = head_file(BurnedInAnnotation="YES")
    assert only(data).flags == ("secondary_capture",)
    (reject,) = decode(data, pseudonyms=pseudonymiser(b"a secret of sixteen bytes"))
    assert reject.code == "secondary_capture"


def test_an_id_with_a_backslash_stays_whole():
    assert only(head_file(PatientID="A\\1")).patient == "A\\1"


def test_no_frames_said_is_one_frame():
    assert only(head_file(NumberOfFrames="0")).frames == 1


def test_a_localizer_is_flagged():
    assert "localizer" in only(head_file(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])).flags


@pytest.mark.parametrize(
    ("data", "code", "detail"),
    [
        (b"", "not_dicom", "0 bytes"),
        (b"no picture at all" * 20, "not_dicom", "340 bytes"),
        (head_file(Modality="MR"), "not_ct", "modality MR"),
        (head_file(Modality="JANE DOE"), "not_ct", "^another modality$"),
        (head_file(Modality=None), "not_ct", "no modality"),
        (head_file(PixelData=b"\0" * 600), "truncated", "600 of 2048 pixel bytes"),
        (head_file(PixelData=b""), "no_pixels", "7FE0"),
        (head_file(RescaleIntercept=None), "no_rescale", "0028,1052"),
        (head_file(RescaleSlope="0"), "bad_header", "slope 0"),
        (head_file(BitsStored=17), "unsupported_pixels", "17 bits stored in 16"),
        (head_file(PhotometricInterpretation="PALETTE COLOR"), "unsupported_pixels", "palette"),
        (head_file(NumberOfFrames=2_000_000), "too_large", "more than 16384 frames"),
    ],
)
def test_what_is_no_slice_is_a_reject_with_its_reason(data, code, detail):
    (reject,) = decode(data)
    assert isinstance(reject, Reject)
    assert reject.code == code
    assert re.search(detail, reject.detail), reject.detail


def test_a_file_cut_in_its_header_is_a_reject():
    whole = head_file()
    codes = {decode(whole[:end])[0].code for end in range(140, 700, 20)}
    assert codes <= {"bad_header", "not_ct", "no_pixels", "truncated", "not_dicom"}
    assert "no_pixels" in codes or "truncated" in codes
