"""Labels, groups and the part to recalibrate on, of images of another place."""

import numpy as np
import pyarrow as pa
import pytest

from hemo.curation.evaluated_rows import columns_of_classes, grouped, image_group, recalibrated_on, table_groups, usable
from hemo.errors import ConfigError, LabelError
from hemo.pseudonym import Pseudonymiser, pseudonymiser
from tests.made_shards import index_of

PUBLIC = Pseudonymiser()


def test_columns_follow_the_classes_of_the_checkpoint():
    assert columns_of_classes(("a", "b", "c"), ("c", "a"), {}) == [2, 0]
    assert columns_of_classes(("bleeding", "b"), ("any",), {"any": "bleeding"}) == [0]
    with pytest.raises(LabelError, match=r"no class 'anny' \(did you mean any\?\); they have any, b: .*'{anny: any}'"):
        columns_of_classes(("any", "b"), ("anny",), {})
    with pytest.raises(ConfigError, match="class_names: 'x' is no class of the checkpoint; it has any"):
        columns_of_classes(("any",), ("any",), {"x": "any"})


def test_images_without_labels_and_with_flags_are_left_out_and_counted():
    index = index_of([{"flags": ["blank"]}, {}, {}, {"flags": ["blank"]}])
    labels = np.array([[1, 0], [0, 255], [1, 1], [255, 255]], np.uint8)
    kept, reasons = usable(index, labels, ("blank",), exclusive=False)
    assert (kept.tolist(), reasons) == (
        [False, False, True, False],
        {"without a label of every class": 2, "flagged": 1},
    )
    with pytest.raises(LabelError, match="none of 4 images has labels of all classes"):
        usable(index, np.full((4, 1), 255, np.uint8), (), exclusive=False)
    with pytest.raises(ConfigError, match=r"^drop_flags: blank leaves none of the labelled images; drop fewer$"):
        usable(index, np.array([[1], [255], [255], [0]], np.uint8), ("blank",), exclusive=False)
    with pytest.raises(LabelError, match="exclude each other, and image ID_002 has none or several"):
        usable(index, labels, ("blank",), exclusive=True)


def test_whole_patients_are_recalibrated_on_and_more_of_them_with_a_larger_fraction():
    patients = pa.array([f"P{number // 3}" for number in range(60)])
    small, large = (recalibrated_on(patients, fraction, seed=1) for fraction in (0.25, 0.5))
    assert (int(small.sum()), int(large.sum())) == (15, 30)
    assert not (small & ~large).any()
    names = np.array(patients.to_pylist())
    assert set(names[small]).isdisjoint(names[~small])
    assert recalibrated_on(patients, 0.25, seed=2).tolist() != small.tolist()


def test_groups_of_images():
    index = index_of([{"spacing_mm": 0.5, "scanner": "A"}, {"spacing_mm": None, "source_rows": 9}])
    assert image_group(index, "spacing_mm") == ["0.5", ""]
    assert image_group(index, "scanner") == ["A", ""]
    assert image_group(index, "source_size") == ["2 x 2", "9 x 2"]


def test_many_numbers_are_cut_at_their_quartiles_and_rare_words_are_others():
    assert grouped(["0.4", "", "0.5"]) == ["0.4", "unknown", "0.5"]
    ages = grouped([str(number) for number in range(101)])
    assert [ages[0], ages[24], ages[25], ages[99], ages[100]] == [
        *("0 to 25", "0 to 25", "25 to 50", "75 to 100", "75 to 100"),
    ]
    words = grouped([f"w{number}" for number in range(9) for _ in range(10 - number)])
    assert sorted(set(words)) == [*("others",), *(f"w{number}" for number in range(7))]
    assert words.count("others") == 3 + 2


def test_a_table_is_matched_by_image_path_or_patient():
    index = index_of([{"patient": f"P{number // 2}"} for number in range(4)])
    by_image = b"image_id,age\nID_001,40\nID_003,\n"
    assert table_groups(by_image, "t.csv", index, "", ["age"], PUBLIC) == {"age": ["", "40", "", ""]}
    by_patient = b"age,patient,sex\n40,P0,f\n60,P1,m\n"
    found = table_groups(by_patient, "t.csv", index, "patient", ["sex", "age"], PUBLIC)
    assert found == {"sex": ["f", "f", "m", "m"], "age": ["40", "40", "60", "60"]}


def test_under_a_key_true_names_are_matched_by_their_pseudonyms():
    key = pseudonymiser(b"a secret of sixteen bytes")
    rows = [{"image_id": key("image", name), "patient": key("patient", f"P{name}")} for name in "ab"]
    index = index_of(rows)
    assert table_groups(b"image_id,sex\nb,f\n", "t.csv", index, "", ["sex"], key) == {"sex": ["", "f"]}
    assert table_groups(b"patient,sex\nPa,m\n", "t.csv", index, "patient", ["sex"], key) == {"sex": ["m", ""]}


def test_under_a_key_frames_have_the_groups_of_their_own_rows():
    key = pseudonymiser(b"a secret of sixteen bytes")
    path = key("path", "a.dcm")
    index = index_of([{"image_id": f"{key('image', 'a')}#{frame}", "source_path": path} for frame in range(3)])
    by_frame = b"image_id,sex\na#0,f\na#2,m\n"
    assert table_groups(by_frame, "t.csv", index, "", ["sex"], key) == {"sex": ["f", "", "m"]}
    assert table_groups(b"path,sex\na.dcm,f\n", "t.csv", index, "", ["sex"], key) == {"sex": ["f", "f", "f"]}


def test_groups_of_texts_are_counted_in_one_pass():
    """By comparisons of texts: each value would be compared with each distinct one."""
    compared = [0]

    class Word(str):
        def __eq__(self, other: object) -> bool:
            compared[0] += 1
            return super().__eq__(other)

        __hash__ = str.__hash__

    words = [Word(f"w{number}") for number in range(300)]
    assert grouped(words).count("others") == 300 - 7
    assert compared[0] < 20 * 300


@pytest.mark.parametrize(
    ("content", "key", "message"),
    [
        (b"patient,sex\nP0,f\n", "", "subgroup_table: t.csv has no column 'age'"),
        (b"patient,age\nP0,3\nP0,4\n", "patient", "subgroup_table: t.csv has several age for P0"),
        (b"patient,age\nP7,3\n", "patient", "no row of t.csv belongs to an image; give the column by --subgroup_key"),
    ],
)
def test_wrong_tables_are_refused(content, key, message):
    with pytest.raises(LabelError, match=message):
        table_groups(content, "t.csv", index_of([{"patient": "P0"}]), key, ["age"], PUBLIC)
