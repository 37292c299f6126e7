import pytest

from hemo.config.convert import ConvertConfig
from hemo.corpus.names import class_and_split, image_stem, patient_in_name

PATTERN = ConvertConfig.model_fields["patient_pattern"].default


@pytest.mark.parametrize(
    ("path", "corpus", "stem"),
    [
        ("stage_2_train/ID_000012eaf.dcm", "rsna", "ID_000012eaf"),
        ("S21570/S4010/I30", "dicom", "S21570/S4010/I30"),
        ("GE/01.dcm", "dicom", "GE/01"),
        ("x/1.2.840.113", "dicom", "x/1.2.840.113"),  # a UID's last number is no ending
        ("train/NORMAL/IM-0001.jpeg", "image_folder", "train/NORMAL/IM-0001"),
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
    """Nobody knows whether NORMAL2-IM-0115 and IM-0115 are one person: they are kept together, to be safe."""
    assert patient_in_name(f"train/X/{name}", PATTERN) == patient
