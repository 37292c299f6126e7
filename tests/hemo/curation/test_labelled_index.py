"""Index and labels side by side."""

import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hemo.corpus.labels import NULL_LABEL, LabelTable, parse_labels
from hemo.curation.hash_order import hash_texts
from hemo.curation.labelled_index import has_flag, join_labels, labels_for, match_keys, pseudonymise_keys, read_index
from hemo.errors import LabelError, SourceError
from hemo.pseudonym import Pseudonymiser, pseudonymiser
from hemo.shards.card import read_finished_card
from tests.made_shards import index_of, write_conversion


def labels(keys: list[str], values: list[int]) -> LabelTable:
    return LabelTable(("any",), pa.array(keys), np.array(values, np.uint8)[:, None], repeated=0)


def test_labels_meet_images_by_id_in_any_order():
    rows = join_labels(index_of([{}, {}, {}]), labels(["ID_002", "elsewhere", "ID_000"], [1, 1, 0]))
    assert rows.labels[:, 0].tolist() == [0, NULL_LABEL, 1]
    assert rows.labelled.tolist() == [True, False, True]


def test_labels_meet_images_by_path_if_no_id_fits():
    rows = join_labels(index_of([{}, {}]), labels(["train/ID_001.dcm"], [1]))
    assert rows.labels[:, 0].tolist() == [NULL_LABEL, 1]


STUDIES = [{"study": "S1", "patient": "A"}, {"study": "S1", "patient": "A"}, {"study": "S2"}, {"study": None}]


@pytest.mark.parametrize("key", [b"", b"a secret of enough bytes"])
def test_a_row_of_a_study_is_one_of_all_its_images(key):
    """Rows without an image and images without a row are left out, and a key that is the name of an image is none."""
    pseudonyms = Pseudonymiser(key)
    index = index_of([row | {"study": row["study"] and pseudonyms("study", row["study"])} for row in STUDIES])
    table = replace(labels(["S1", "S9", "S2", "ID_003"], [1, 1, 0, 1]), keyed_by="study")
    rows = join_labels(index, table if pseudonyms.keeps_ids else pseudonymise_keys(table, index, pseudonyms))
    assert rows.labels[:, 0].tolist() == [1, 1, 0, NULL_LABEL]
    assert rows.labelled.tolist() == [True, True, True, False]
    assert rows.matched_keys == 2


def test_the_column_of_a_key_says_what_a_row_is_about():
    file = b"study,patient,finding\n1.2.3,A,1\n1.2.4,A,0\n"
    read = parse_labels(file, "labels.csv", key="study")
    assert (read.keyed_by, read.keys.to_pylist(), read.classes) == ("study", ["1.2.3", "1.2.4"], ("finding",))
    assert parse_labels(file, "labels.csv").keyed_by == "image"  # the first column, which nobody has named


def test_keys_of_studies_that_are_taken_for_images_are_named():
    expected = r"image ids are like 'ID_000', .*, label keys like 'S1'; they are ids of the study: name their column "
    with pytest.raises(LabelError, match=expected + "'study', and give --label_key study$"):
        join_labels(index_of(STUDIES), labels(["S1"], [1]))
    secret = pseudonymiser(b"a secret of enough bytes")
    hidden = index_of([{"study": secret("study", "S1")}])
    with pytest.raises(LabelError, match=r"none of the 1 keys .*; they are ids of the study: .* --label_key study$"):
        pseudonymise_keys(labels(["S1"], [1]), hidden, secret)
    with pytest.raises(LabelError, match=r"none matches an image: study ids are like 'S1', 'S1', 'S2', label keys"):
        join_labels(index_of(STUDIES), replace(labels(["S9"], [1]), keyed_by="study"))


NAMES = [{"image_id": "GE/01", "source_path": "GE/01.dcm"}, {"image_id": "P/I30", "source_path": "P/I30"}]
"""Of a file without ending the id is the path."""


def test_an_umlaut_of_one_character_or_two_is_the_same_name():
    """macOS decomposes names of files. Where files differ by that alone, each meets the exact key."""
    one, two = "b\u00e4r/01", "ba\u0308r/01"
    decomposed = {"image_id": two, "source_path": f"{two}.png"}
    assert join_labels(index_of([decomposed]), labels([one], [1])).labels[:, 0].tolist() == [1]
    assert join_labels(index_of([decomposed]), labels([f"{one}.png"], [1])).labels[:, 0].tolist() == [1]
    composed = {"image_id": one, "source_path": f"{one}.png"}
    assert join_labels(index_of([composed]), labels([f"x/{two}.png"], [1])).labels[:, 0].tolist() == [1]
    both = join_labels(index_of([decomposed, composed]), labels([one, two], [1, 0]))
    assert both.labels[:, 0].tolist() == [0, 1]


def test_each_label_meets_its_image_by_id_or_path():
    rows = join_labels(index_of(NAMES), labels(["GE/01.dcm", "P/I30"], [1, 0]))
    assert rows.labels[:, 0].tolist() == [1, 0]


def test_under_pseudonyms_too_each_label_meets_its_image_by_id_or_path():
    name = pseudonymiser(b"a secret of tests")
    index = index_of(
        [{"image_id": name("image", row["image_id"]), "source_path": name("path", row["source_path"])} for row in NAMES]
    )
    for keys in (["GE/01.dcm", "P/I30"], ["GE/01", "P/I30"]):
        table = labels_for(index, labels(keys, [1, 0]), name)
        assert join_labels(index, table).labels[:, 0].tolist() == [1, 0]


def test_without_a_table_the_class_of_an_image_is_its_label():
    index = index_of([{"source_class": "NORMAL"}, {"source_class": "BLOOD"}])
    found = labels_for(index, None, Pseudonymiser())
    assert (found.classes, found.keys.to_pylist()) == (("BLOOD", "NORMAL"), ["ID_000", "ID_001"])
    assert found.values.tolist() == [[0, 1], [1, 0]]
    table = labels(["ID_000"], [1])
    assert labels_for(index, table, Pseudonymiser()) is table


def test_a_path_that_fits_every_frame_of_a_file_is_one_matched_key():
    frames = [{"image_id": f"a#{frame}", "source_path": "a.dcm"} for frame in range(4)]
    rows = join_labels(index_of([*frames, {"source_path": "b.dcm"}]), labels(["a.dcm", "c.dcm"], [1, 0]))
    assert rows.labels[:, 0].tolist() == [1, 1, 1, 1, NULL_LABEL]
    assert rows.matched_keys == 1


def test_frames_keep_their_numbers_under_a_pseudonym():
    name = pseudonymiser(b"a secret of tests")
    index = index_of([{"image_id": f"{name('image', 'x/a')}#{frame}"} for frame in range(2)])
    table = pseudonymise_keys(labels(["x/a#1", "y"], [1, 0]), index, name)
    assert join_labels(index, table).labels[:, 0].tolist() == [NULL_LABEL, 1]


def test_labels_that_fit_no_image_are_refused_with_a_sample_of_both():
    with pytest.raises(LabelError, match="image ids are like 'ID_000', 'ID_001', label keys like 'x', 'y', 'z'; give"):
        join_labels(index_of([{}, {}]), labels(["x", "y", "z", "w"], [1, 1, 1, 1]))


IN_FOLDERS = [{"image_id": name, "source_path": f"{name}.png"} for name in ("x/a", "y/b", "x/c")]


@pytest.mark.parametrize("key", ["a", "a.png", "a.JPG", "x/a", "/data/x/a.png", "./x/a.png", "data\\x\\a.png"])
def test_a_name_fits_with_or_without_folders_and_ending(key):
    rows = join_labels(index_of(IN_FOLDERS), labels(["x/c", key, "b.png"], [1, 1, 0]))
    assert rows.labels[:, 0].tolist() == [1, 0, 1]
    assert rows.matched_keys == 3


def test_a_name_in_another_folder_does_not_fit():
    rows = join_labels(index_of(IN_FOLDERS), labels(["y/a.png", "b", "xx/c"], [1, 1, 0]))
    assert rows.labels[:, 0].tolist() == [NULL_LABEL, 1, NULL_LABEL]


def test_a_name_fits_every_frame_of_its_file():
    frames = [{"image_id": f"x/a#{frame}", "source_path": "x/a.dcm"} for frame in range(3)]
    assert join_labels(index_of(frames), labels(["a"], [1])).labels[:, 0].tolist() == [1, 1, 1]


def test_a_name_that_fits_two_images_is_refused():
    images = [{"image_id": name, "source_path": f"{name}.png"} for name in ("x/a", "y/a")]
    with pytest.raises(LabelError, match=r"'a\.png' fits x/a\.png and y/a\.png; give paths below the source"):
        join_labels(index_of(images), labels(["a.png"], [1]))
    with pytest.raises(LabelError, match=r"'p/x/a' and 'q/x/a' both fit image x/a\.png"):
        join_labels(index_of(images), labels(["p/x/a", "q/x/a"], [1, 1]))


def test_keys_without_their_leading_zeros_are_named_with_their_images():
    """Of 0, 1 and 10 for 000, 001 and 010; 100 fits as it is."""
    images = [{"image_id": f"x/{n:03d}", "source_path": f"x/{n:03d}.png"} for n in (0, 1, 10, 100)]
    with pytest.raises(
        LabelError, match=r"3 of 4 keys .* but for leading zeros: '0' for image 'x/000', '1' for .*'10'"
    ):
        join_labels(index_of(images), labels(["0", "1", "10", "100"], [1, 0, 1, 0]))


@pytest.mark.parametrize(
    ("image", "key"),
    [
        ("ID_03e12e27c", "ID_3e012e27c"),  # of RSNA: hexadecimal
        ("ID_3e012e27c", "ID_03e12e27c"),
        ("P1/001", "P7/1.png"),
        ("x/P1/001", "P7/1"),
        ("P1/001", "P01/1"),
        ("slice 001", "slice 1"),
    ],
)
def test_other_names_are_no_names_without_their_zeros(image, key):
    index = index_of([{}, {"image_id": image, "source_path": f"{image}.png"}])
    rows = join_labels(index, labels(["ID_000", key], [1, 0]))
    assert rows.labels[:, 0].tolist() == [1, NULL_LABEL]


@pytest.mark.parametrize(("image", "key"), [("P1/001", "P1/1.png"), ("P1/001", "/data/P1/1"), ("x/P1/000", "P1/0.dcm")])
def test_keys_in_the_folder_of_their_image_may_lack_zeros_too(image, key):
    index = index_of([{}, {"image_id": image, "source_path": f"{image}.png"}])
    with pytest.raises(LabelError, match=rf"1 of 2 keys .* but for leading zeros: '{key}' for image '{image}'; write"):
        join_labels(index, labels(["ID_000", key], [1, 0]))


def calls_to_join(folders: int) -> int:
    """Return how many functions are called to join 20 images a folder with keys that lack the folder above it."""
    names = [f"P{folder:06d}/{number:03d}.png" for folder in range(folders) for number in range(20)]
    index = index_of([{"source_path": f"images/{name}"} for name in reversed(names)])
    counted = [0]

    def count(_: object, event: str, __: object) -> None:
        counted[0] += event.endswith("call")

    sys.setprofile(count)
    try:
        positions = match_keys(index, pa.array(names[:-1]).slice(1))  # one image and one key have no other
    finally:
        sys.setprofile(None)
    assert positions.to_pylist() == [None, *reversed(range(len(names) - 2)), None]
    return counted[0]


def test_joining_by_name_takes_twice_as_long_for_twice_as_many_folders():
    assert calls_to_join(100) < 2.05 * calls_to_join(50)


@pytest.mark.parametrize("path", ["ID_1.dcm", "train/ID_1.dcm"])
def test_two_keys_of_one_image_with_other_labels_are_refused(path):
    index = index_of([{"image_id": "ID_1", "source_path": path}, {"image_id": "ID_2"}])
    with pytest.raises(
        LabelError, match=r"labels: conflicting rows for ID_1 \('ID_1' and 'ID_1.dcm'\); keep one row of"
    ):
        join_labels(index, labels(["ID_2", "ID_1", "ID_1.dcm"], [0, 1, 0]))
    rows = join_labels(index, labels(["ID_2", "ID_1", "ID_1.dcm"], [0, 1, 1]))
    assert rows.labels[:, 0].tolist() == [1, 0]


def test_a_frame_has_its_own_label_beside_that_of_its_file():
    frames = [{"image_id": f"a#{frame}", "source_path": "a.dcm"} for frame in range(2)]
    assert join_labels(index_of(frames), labels(["a.dcm", "a#1"], [0, 1])).labels[:, 0].tolist() == [0, 1]


def test_a_key_that_fits_several_images_with_keys_of_their_own_contradicts_none():
    images = [{"image_id": name, "source_path": f"{name}.png"} for name in ("x/a", "y/a")]
    assert join_labels(index_of(images), labels(["x/a", "a", "y/a"], [1, 0, 1])).labels[:, 0].tolist() == [1, 1]


def test_without_patient_study_and_series_an_image_is_a_patient_of_its_own():
    index = index_of([{"patient": "A"}, {"patient": None}, {"patient": None}, {"patient": "A"}])
    rows = join_labels(index, labels(["ID_000"], [1]))
    assert rows.patient.tolist() == [0, 1, 2, 0]
    assert rows.patient_names.to_pylist() == ["patient A", "image ID_001", "image ID_002"]
    assert rows.patient_ids.to_pylist() == ["A", "image ID_001", "image ID_002", "A"]


@pytest.mark.parametrize("blank", [None, "", "   "])
def test_where_the_patient_is_blank_the_study_is_taken_then_the_series(blank):
    ids = [("A", "S1", "X1"), (blank, "S2", "X2"), (blank, "S2", "X3"), (blank, blank, "X4"), (blank, blank, "X4")]
    index = index_of([dict(zip(("patient", "study", "series"), row, strict=True)) for row in ids])
    rows = join_labels(index, labels(["ID_000"], [1]))
    assert rows.patient.tolist() == [0, 1, 1, 2, 2]
    assert rows.patient_names.to_pylist() == ["patient A", "study S2", "series X4"]
    assert rows.patient_ids.to_pylist() == ["A", "study S2", "study S2", "series X4", "series X4"]
    assert rows.level.tolist() == [0, 1, 1, 2, 2]
    assert rows.count(np.arange(5)).grouped_by == {"patient": 1, "study": 2, "series": 2}


def test_a_study_with_and_without_patient_is_of_that_patient():
    """Row 2 has no patient but the study of row 0; row 3 has the series of row 2, and nothing else."""
    index = index_of(
        [
            {"patient": "B", "study": "S1"},
            {"patient": "A", "study": "S2"},
            {"patient": None, "study": "S1", "series": "X1"},
            {"patient": None, "series": "X1"},
        ]
    )
    rows = join_labels(index, labels(["ID_000"], [1]))
    assert rows.patient.tolist() == [0, 1, 0, 0]
    assert rows.patient_ids.to_pylist() == ["B", "A", "B", "B"]
    assert rows.level.tolist() == [0, 0, 1, 2]
    assert rows.shared_studies == 0


def test_patient_ids_that_share_a_study_are_several_patients():
    """As where all files have one made-up series, or a table numbers the studies within each patient."""
    index = index_of([{"patient": name, "study": "S", "series": "X"} for name in "CBA"])
    rows = join_labels(index, labels(["ID_000"], [1]))
    assert rows.patient_ids.to_pylist() == ["C", "B", "A"]
    assert rows.shared_studies == 2


def test_an_image_that_may_be_of_two_patients_makes_them_one_named_by_the_first():
    """Row 2 has no id, and the series of B and C; D is in their study, which nobody without id has."""
    ids = [("C", "S", "X"), ("B", "S", "X"), (None, None, "X"), ("D", "S", "Y")]
    index = index_of([dict(zip(("patient", "study", "series"), row, strict=True)) for row in ids])
    rows = join_labels(index, labels(["ID_000"], [1]))
    assert rows.patient_ids.to_pylist() == ["B", "B", "B", "D"]
    assert rows.shared_studies == 2


def test_official_splits_share_no_patient_study_or_series():
    index = index_of([{"patient": name, "study": "S"} for name in ("A", "A", None)])
    rows = join_labels(
        index, labels(["ID_000"], [1]), within=pa.array(["train patient", "test patient", "test patient"])
    )
    assert rows.patient.tolist() == [0, 1, 1]
    assert rows.shared_studies == 0
    assert rows.patient_names.to_pylist() == ["train patient patient A", "test patient patient A"]
    assert rows.patient_ids.to_pylist() == ["A", "A", "A"]


def test_a_blank_label_is_neither_positive_nor_negative():
    """200 images of 100 patients: 90 positive, 90 negative, 20 blank; patients 0 to 44 are positive, 45 to 89 not."""
    index = index_of([{"patient": f"P{n // 2}"} for n in range(200)])
    values = [1] * 90 + [0] * 90 + [NULL_LABEL] * 20
    count = join_labels(index, labels([f"ID_{n:03d}" for n in range(200)], values)).count(np.arange(200))
    assert (count.rows, count.positives, count.blanks) == (200, {"any": 90}, {"any": 20})
    assert (count.patients, count.patients_with, count.patients_without) == (100, {"any": 45}, {"any": 45})


def test_count_by_patient_label_and_format():
    index = index_of([{"patient": "A"}, {"patient": "A"}, {"pixel_format": "i16"}])
    count = join_labels(index, labels(["ID_000", "ID_001", "ID_002"], [1, 0, 1])).count(np.array([0, 1, 2]))
    assert (count.rows, count.patients, count.positives) == (3, 2, {"any": 2})
    assert count.pixel_formats == {"i16": 1, "u12": 2}


def test_flags_are_found_wherever_they_stand():
    index = index_of([{"flags": ["blank"]}, {"flags": []}, {"flags": ["padded", "noise"]}, {"flags": ["padded"]}])
    assert has_flag(index, ["noise", "blank"]).tolist() == [True, False, True, False]
    assert not has_flag(index, []).any()


def test_hashes_depend_on_text_purpose_and_seed_only():
    """Pinned: another value would move patients between the splits of existing training sets."""
    texts = pa.array(["patient A", "patient B"])
    first = hash_texts(texts, "split", 0)
    assert first.tolist() == [15680746125818246568, 17030567246436406274]
    assert hash_texts(texts.take([1, 0]), "split", 0).tolist() == [17030567246436406274, 15680746125818246568]
    others = [hash_texts(texts, "balance", 0), hash_texts(texts, "split", 1)]
    assert all(first[0] != other[0] for other in others)


def test_an_index_without_rows_or_columns_is_refused(tmp_path):
    shards = write_conversion(tmp_path / "shards", [{}, {}])
    assert len(read_index(shards)) == 2
    place = tmp_path / "shards" / "index.parquet"
    whole = pq.read_table(place)
    pq.write_table(whole.slice(0, 0), place)
    with pytest.raises(SourceError, match="has no rows"):
        read_index(shards)
    pq.write_table(whole.drop_columns(["unit", "flags"]), place)
    with pytest.raises(SourceError, match="lacks the columns flags, unit"):
        read_index(shards)
    place.write_bytes(place.read_bytes()[:-9])
    with pytest.raises(
        SourceError, match=r"index\.parquet is damaged; run `hemo convert` again: it makes that one again"
    ):
        read_index(shards)
    assert read_finished_card(shards) is None
    place.unlink()
    with pytest.raises(SourceError, match=r"index\.parquet does not exist"):
        read_index(shards)
