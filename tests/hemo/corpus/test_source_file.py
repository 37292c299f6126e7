import pytest

from hemo.config.convert import ConvertConfig
from hemo.corpus.source_file import belongs, class_and_split, image_stem, patient_in_name

PATTERN = ConvertConfig.model_fields["patient_pattern"].default


@pytest.mark.parametrize(
    ("path", "corpus", "stem"),
    [
        ("stage_2_train/ID_000012eaf.dcm", "rsna", "ID_000012eaf"),
        ("S21570/S4010/I30", "dicom", "S21570/S4010/I30"),
        ("GE/01.dcm", "dicom", "GE/01"),
        ("x/1.2.840.113", "dicom", "x/1.2.840.113"),  # a UID's last number is no ending
        ("train/NORMAL/IM-0001.jpeg", "image_folder", "train/NORMAL/IM-0001"),
        ("S1/I10.gz", "dicom", "S1/I10.gz"),
    ],
)
def test_ids_come_from_paths(path, corpus, stem):
    assert image_stem(path, corpus) == stem


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("train/NORMAL/a.jpeg", ("NORMAL", "train")),
        ("NORMAL/a.jpeg", ("NORMAL", None)),
        ("a.jpeg", (None, None)),
        ("chest/test/PNEUMONIA/a.jpeg", ("PNEUMONIA", "test")),
    ],
)
def test_folders_name_class_and_split(path, wanted):
    assert class_and_split(path) == wanted


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person1000_bacteria_2931.jpeg", "person1000"),
        ("person93_virus_174_0.jpeg", "person93"),
        ("IM-0115-0001.jpeg", "IM-0115"),
        ("NORMAL2-IM-0115-0001-0002.jpeg", "IM-0115"),
        ("something_else.jpeg", None),
    ],
)
def test_chest_xray_names_hold_the_patient(name, patient):
    """NORMAL2-IM-0115 and IM-0115 may be one person: they are kept together, to be safe."""
    assert patient_in_name(f"train/X/{name}", PATTERN) == patient


@pytest.mark.parametrize(
    ("path", "corpus", "counts"),
    [
        ("stage_2_train/ID_a.dcm", "rsna", True),
        ("stage_2_train/ID_a.DCM", "rsna", True),
        ("stage_2_train.csv", "rsna", False),
        ("S1/I10", "dicom", True),
        ("train/NORMAL/a.JPEG", "image_folder", True),
        ("__MACOSX/train/NORMAL/._a.jpeg", "image_folder", False),
        ("._I10", "dicom", False),
        ("dot._dot/a.dcm", "rsna", True),
        (".png", "image_folder", False),
    ],
)
def test_endings_tell_what_belongs_to_a_corpus(path, corpus, counts):
    assert belongs(path, corpus) == counts
