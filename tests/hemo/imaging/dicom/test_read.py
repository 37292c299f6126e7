import re
import warnings
import zlib

import numpy as np
import pydicom
import pytest
import xxhash
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGLosslessSV1

from hemo.imaging.dicom import elements
from hemo.imaging.dicom.read import images_of_dicom, quiet_pydicom
from hemo.imaging.image import Image, Reject
from hemo.imaging.settings import ImageSettings, resolve_windows
from hemo.pseudonym import Pseudonymiser, pseudonymiser
from tests.dicom_files import dicom_bytes, head_file, head_hu
from tests.encoded_files import jpeg_lossless, with_codestreams

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


def test_threads_that_overlap_leave_warnings_and_checks_as_they_were():
    """The second enters before the first leaves, and leaves after it."""
    before = list(warnings.filters), pydicom.config.settings.reading_validation_mode
    first, second = quiet_pydicom(), quiet_pydicom()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert warnings.filters[0] == ("ignore", None, Warning, None, 0)
    assert pydicom.config.settings.reading_validation_mode == pydicom.config.IGNORE
    second.__exit__(None, None, None)
    assert (list(warnings.filters), pydicom.config.settings.reading_validation_mode) == before


SCANNER = {"Manufacturer": "GE MEDICAL SYSTEMS", "ManufacturerModelName": "LightSpeed VCT"}


def test_the_scanner_is_known_of_images_and_of_rejects_with_a_header():
    """Not only of CT, and also where the pixels end too early; not of what is no DICOM."""
    assert only(head_file(**SCANNER)).scanner == "GE MEDICAL SYSTEMS LightSpeed VCT"
    assert only(head_file()).scanner is None
    whole = head_file(**SCANNER)
    rejects = [*decode(head_file(Modality="MR", **SCANNER)), *decode(whole[:-100]), *decode(b"no DICOM")]
    assert [(one.code, one.scanner) for one in rejects] == [
        ("not_ct", "GE MEDICAL SYSTEMS LightSpeed VCT"),
        ("truncated", "GE MEDICAL SYSTEMS LightSpeed VCT"),
        ("not_dicom", None),
    ]


def test_the_scanner_of_a_reject_is_a_pseudonym_under_a_key():
    key = pseudonymiser(b"a secret of tests")
    (reject,) = decode(head_file(Modality="MR", **SCANNER), pseudonyms=key)
    assert reject.scanner == key("scanner", "GE MEDICAL SYSTEMS LightSpeed VCT")


def test_no_image_is_lost_for_a_damaged_name_of_its_scanner(monkeypatch):
    """Whatever pydicom raises when it converts a text of another character set."""

    def damaged(dataset: Dataset, tag: int) -> str:
        if tag == elements.MANUFACTURER:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "made for a test")
        return read(dataset, tag)

    read = elements._stored_text
    monkeypatch.setattr(elements, "_stored_text", damaged)
    image = only(head_file(SpecificCharacterSet="ISO_IR 192", Manufacturer="Ångström", ManufacturerModelName="X"))
    assert image.scanner == "X"


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


def test_without_number_of_frames_there_is_one_frame():
    assert only(head_file(NumberOfFrames="0")).frames == 1


def test_a_localizer_is_flagged():
    assert "localizer" in only(head_file(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])).flags


def test_inverted_display_changes_no_hounsfield_unit():
    """MONOCHROME1 is about display, not about the values (PS3.3 C.7.6.3.1.2)."""
    image = only(head_file(PhotometricInterpretation="MONOCHROME1"))
    assert image.flags == ("monochrome1",)
    np.testing.assert_array_equal(image.pixels, only(head_file()).pixels)


def capture(photometric: str, **tags: object) -> bytes:
    """Return a grey capture of 8 bits, 200 everywhere."""
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
    rescale = {"RescaleIntercept": None, "RescaleSlope": None}
    kind = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "PhotometricInterpretation": photometric}
    return dicom_bytes(np.full((16, 16), 200, np.uint8), **{**bits, **rescale, **kind, **tags})


def test_a_capture_for_inverted_display_is_inverted():
    plain, inverted = only(capture("MONOCHROME2")), only(capture("MONOCHROME1"))
    assert np.unique(plain.pixels).tolist() == [200]
    assert np.unique(inverted.pixels).tolist() == [55]
    assert inverted.flags == ("secondary_capture", "monochrome1")


def test_the_grey_levels_of_a_multi_frame_capture_are_no_hounsfield_units():
    """As HU, 200 would be white in a brain window."""
    image = only(capture("MONOCHROME1", RescaleIntercept="0", RescaleSlope="1", RescaleType="US"))
    assert np.unique(image.pixels).tolist() == [55]
    assert image.brain_fraction is None


def test_a_reformat_of_ct_stays_a_slice():
    data = head_file(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2", ConversionType="WSD", ImageType=["DERIVED", "SECONDARY", "REFORMATTED"]
    )
    keyed = pseudonymiser(b"a secret of sixteen bytes")
    assert (only(data).flags, only(data, pseudonyms=keyed).flags) == (("derived",), ("derived",))
    np.testing.assert_array_equal(only(data).pixels, only(head_file()).pixels)


@pytest.mark.parametrize(
    ("rescale_type", "flags"),
    [(None, ()), ("", ()), ("HU", ()), ("US", ("uncertain_units",)), ("HU_MOD", ("uncertain_units",))],
)
def test_hounsfield_units_and_what_may_be_some_are_rows(rescale_type, flags):
    image = only(head_file(RescaleType=rescale_type))
    assert image.flags == flags
    np.testing.assert_array_equal(image.pixels, only(head_file()).pixels)


@pytest.mark.parametrize(
    ("pixels", "padding", "wanted"),
    [
        ("hu16", {"PixelPaddingValue": -26}, -500),  # -1050 HU: declared, below air
        ("hu16", {"PixelPaddingValue": -76, "PixelPaddingRangeLimit": 0}, -500),  # -1100 to -1024 HU
        ("hu16", {"PixelPaddingValue": 1024}, -525),  # 0 HU may be tissue
        ("hu16", {}, -525),
        ("windows", {"PixelPaddingValue": -26}, 0),
    ],
)
def test_declared_padding_is_read_with_the_sign_of_the_pixels(pixels, padding, wanted):
    """A stored -26 with an intercept of -1024 beside water: 65,510 as an unsigned number."""
    stored = np.tile(np.array([-26, 1024], np.int16), (32, 16))
    settings = SETTINGS.model_copy(update={"pixels": pixels, "windows": SETTINGS.windows[:1]})
    image = only(dicom_bytes(stored, **padding), settings=settings)
    assert np.unique(image.pixels).tolist() == [wanted]


def test_zero_direction_cosines_give_no_position():
    image = only(head_file(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]))
    assert (image.position_mm, image.orientation) == (None, None)


def test_overlay_bits_above_those_stored_change_nothing():
    """Before 2004 an overlay could lie in the unused bits of a cell: here all four of them, in half of the slice."""
    stored = (head_hu() + 1024).astype(np.uint16)
    twelve_bits = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0}
    overlaid = stored.copy()
    overlaid[:16] |= 0xF000
    plain, image = (only(dicom_bytes(values, **twelve_bits)) for values in (stored, overlaid))
    np.testing.assert_array_equal(image.pixels, plain.pixels)
    assert image.pixel_digest == plain.pixel_digest


@pytest.mark.parametrize(
    ("bits", "slope", "intercept"), [(8, "5", "-1000"), (10, "2.0", "-1024"), (14, "1.", "-8192.00")]
)
def test_any_number_of_bits_gives_the_same_picture(bits, slope, intercept):
    """Tissue of 40 HU in air of -1000 or below, however many bits and whatever the decimal strings look like."""
    hu = np.where(head_hu() > 0, 40, -1000)
    stored = np.rint((hu - float(intercept)) / float(slope))
    kind = {"BitsAllocated": 8} if bits == 8 else {}
    image = only(
        dicom_bytes(
            stored.astype(np.uint8 if bits == 8 else np.uint16),
            **{"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": 0, **kind},
            RescaleSlope=slope,
            RescaleIntercept=intercept,
        )
    )
    assert (image.pixels[0].max(), image.pixels[0].min(), image.pixel_format) == (128, 0, f"u{bits}")


def test_extreme_outliers_neither_wrap_nor_count_as_padding():
    """-32,768 with an intercept of -1,024 stays far below air; 64 such pixels of a column are padding, 8 are not."""
    stored = head_hu(512) + np.int16(1024)
    stored[::8, 0], stored[511, 511] = -32768, 32767
    image = only(dicom_bytes(stored), settings=SETTINGS.model_copy(update={"side_px": 512}))
    assert image.flags == ("padded",)
    stored[64::8, 0] = 24
    image = only(dicom_bytes(stored), settings=SETTINGS.model_copy(update={"side_px": 512}))
    assert image.flags == ()
    assert (image.pixels[0, 0, 0], image.pixels[0, 511, 511]) == (0, 255)


@pytest.mark.parametrize("padding_hu", [-1500, -2000, -3024])
def test_padding_outside_the_field_of_view_is_black_and_flagged(padding_hu):
    hu = head_hu()
    hu[:4] = padding_hu
    image = only(dicom_bytes(hu + np.int16(1024)))
    assert image.flags == ("padded",)
    np.testing.assert_array_equal(image.pixels[:, 0], 0)


@pytest.mark.parametrize(("rows", "cols"), [(31, 33), (1, 1), (5, 640), (768, 768)])
def test_any_size_becomes_the_configured_square(rows, cols):
    image = only(dicom_bytes(np.full((rows, cols), 1064, np.int16)))
    assert image.pixels.shape == (3, 16, 16)
    assert (image.source_rows, image.source_cols) == (rows, cols)
    assert image.pixels[0, 8, 8] > 0  # 40 HU, in the middle of what is padded


def test_pixels_count_as_square_whatever_their_spacing():
    """The first number, the distance of rows, is kept; nothing is stretched."""
    image = only(head_file(PixelSpacing=[0.4, 0.8]))
    assert image.spacing_mm == pytest.approx(0.4)
    np.testing.assert_array_equal(image.pixels, only(head_file()).pixels)


@pytest.mark.parametrize("spacing", ["0\\0", "-1\\1", "1e30\\1"])
def test_a_spacing_that_is_none_is_not_stored(spacing):
    assert only(head_file(PixelSpacing=spacing)).spacing_mm is None


def test_equal_pixels_of_two_patients_share_a_digest_however_they_are_stored():
    signed = only(head_file(PatientID="ID_one"))
    other = only(dicom_bytes(head_hu() * np.int16(2), PatientID="ID_two", RescaleIntercept="0", RescaleSlope="0.5"))
    assert signed.pixel_digest == other.pixel_digest
    assert signed.patient != other.patient


def test_a_constant_slice_is_blank():
    assert only(dicom_bytes(np.full((32, 32), 24, np.int16))).flags == ("blank", "little_brain")


def test_the_slice_that_is_garbled_from_row_332_on_is_noise():
    hu = head_hu(512)
    stored = (hu + np.int16(1024)).copy()
    stored[332:] = np.random.default_rng(0).integers(-32768, 32768, stored[332:].shape)
    assert "noise" in only(dicom_bytes(stored)).flags


def test_series_and_order_need_none_of_the_tags_the_corpus_lacks():
    image = only(head_file(SOPClassUID=None, InstanceNumber=None, SliceThickness=None))
    assert image.position_mm == pytest.approx(47.25)


def test_hounsfield_units_are_stored_with_hu16():
    settings = ImageSettings(corpus="dicom", pixels="hu16", side_px=32)
    image = only(head_file(), settings=settings)
    np.testing.assert_array_equal(image.pixels, head_hu()[np.newaxis])
    assert (image.flags, image.pixel_digest) == ((), only(head_file()).pixel_digest)


def test_frames_of_an_enhanced_file_have_places_of_their_own():
    groups = []
    for height_mm in (10.0, 15.0):
        plane, item = Dataset(), Dataset()
        plane.ImagePositionPatient = [0, 0, height_mm]
        item.PlanePositionSequence = [plane]
        groups.append(item)
    axes, shared = Dataset(), Dataset()
    axes.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PlaneOrientationSequence = [axes]
    data = dicom_bytes(
        np.stack([head_hu() + np.int16(1024)] * 2),
        NumberOfFrames=2,
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        PerFrameFunctionalGroupsSequence=groups,
        SharedFunctionalGroupsSequence=[shared],
    )
    assert [image.position_mm for image in decode(data)] == [10, 15]


def test_a_frame_that_cannot_be_decoded_is_the_only_reject_of_its_file():
    good = jpeg_lossless(head_hu(32) + 1024, bits=16)
    plain = dicom_bytes(np.zeros((3, 32, 32), np.uint16), NumberOfFrames=3, PixelRepresentation=0)
    data = with_codestreams(plain, JPEGLosslessSV1, [good, good[:-40], good])
    first, second, third = decode(data)
    np.testing.assert_array_equal(first.pixels, only(head_file()).pixels)
    assert (second.code, second.frame, third.frame) == ("truncated", 1, 2)


def test_a_deflated_bomb_is_a_reject(monkeypatch):
    monkeypatch.setattr(elements, "LARGEST_INFLATED_BYTES", 1 << 20)
    bomb = zlib.compress(bytes((1 << 20) + 1), wbits=-15)
    start = head_file(syntax=DeflatedExplicitVRLittleEndian)
    meta_end = 132 + 12 + int.from_bytes(start[140:144], "little")
    (reject,) = decode(start[:meta_end] + bomb)
    assert reject.code == "too_large"


def test_a_deflated_file_within_a_deflated_file_is_a_reject():
    """What is inflated may itself begin with a transfer syntax: by a stream that inflates to itself, without end."""
    meta = b"\x02\x00\x10\x00UI\x16\x001.2.840.10008.1.2.1.99"
    packed = zlib.compress(meta + zlib.compress(b"a data set of any kind", wbits=-15), wbits=-15)
    (reject,) = decode(bytes(128) + b"DICM" + meta + packed)
    assert (reject.code, reject.detail) == ("bad_header", "deflated twice, or behind damaged file meta elements")


def test_no_file_keeps_the_parser_busy_with_empty_elements():
    (reject,) = decode(bytes(128) + b"DICM" + bytes(9 << 20))
    assert (reject.code, reject.detail) == ("bad_header", "more data elements than an image can have")


def test_a_directory_of_files_is_named_as_such(shared_data):
    for file in ("dicom_odd/dicomdirtests/DICOMDIR", "head_ct_bsd/Philips/DICOMDIR"):
        (reject,) = decode((shared_data / file).read_bytes())
        assert reject.code == "dicomdir"


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
        (head_file(RescaleType="MGML"), "not_hu", "MGML$"),
        (head_file(RescaleType="Z_EFF"), "not_hu", "Z_EFF$"),
        (head_file(RescaleType="JANE DOE"), "not_hu", "another than the standard's$"),
        (head_file(RescaleSlope="0"), "bad_header", "slope 0"),
        (head_file(BitsStored=17), "unsupported_pixels", "17 bits stored in 16"),
        (head_file(HighBit=10, BitsStored=12), "unsupported_pixels", "12 bits stored up to bit 10 of 16"),
        (head_file(HighBit=16), "unsupported_pixels", "up to bit 16 of 16"),
        (head_file(BitsAllocated=32, BitsStored=32), "unsupported_pixels", "32 bits"),
        (head_file(SamplesPerPixel=2), "unsupported_pixels", "2 samples"),
        (head_file(Rows=0), "bad_header", "no rows"),
        (head_file(Rows=1, Columns=4097), "too_large", "1 x 4097 pixels"),
        (head_file(RescaleSlope="nan"), "bad_header", "slope nan"),
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
