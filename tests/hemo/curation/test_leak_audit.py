"""Patients linked by pixels, and labels in conflict."""

import numpy as np
import pyarrow as pa
import pytest

from hemo.corpus.labels import LabelTable
from hemo.curation.labelled_index import Rows, join_labels
from hemo.curation.leak_audit import (
    audit,
    conflicting_labels,
    equal_pixel_table,
    equal_pixels,
    group_names,
    in_two_splits,
    link_examples,
    link_patients,
    positives_by_format,
    require_apart,
    split_examples,
)
from hemo.curation.split import TEST, TRAIN, VAL
from hemo.errors import SplitError
from hemo.imaging.slice_image import hounsfield_flags
from tests.made_shards import index_of

SAME, OTHER = b"s" * 16, b"o" * 16

IMAGES = [
    {"patient": "B", "pixel_digest": b"s" * 16},
    {"patient": "C"},
    {"patient": "A", "pixel_digest": b"s" * 16},
    {"patient": "D", "pixel_digest": b"o" * 16},
    {"patient": "D", "pixel_digest": b"o" * 16},
    {"patient": "E", "pixel_digest": b"n" * 16, "flags": ["blank"]},
    {"patient": "F", "pixel_digest": b"n" * 16, "flags": ["blank"]},
]

IDS = pa.array(["a", "b", "c", "d", "e", "f"])
SPLITS = np.array([TRAIN, TEST, VAL, VAL, TRAIN, TEST], np.int8)


def joined(images: list[dict], labels: dict[int, list[int]], classes: tuple[str, ...] = ("any",)) -> Rows:
    keys = pa.array([f"ID_{number:03d}" for number in labels])
    return join_labels(index_of(images), LabelTable(classes, keys, np.array(list(labels.values()), np.uint8), 0))


def test_patients_are_linked_through_a_chain_of_equal_images():
    """A and B share one image, B and C another, D shares none."""
    groups = link_patients(np.array([0, 1, 1, 2, 3]), np.array([0, 0, 1, 1, 2]))
    assert groups.tolist() == [0, 0, 0, 1]


def test_images_that_say_nothing_never_link():
    assert link_patients(np.array([0, 1, 2]), np.array([-1, -1, 0])).tolist() == [0, 1, 2]


def black() -> np.ndarray:
    return np.full((512, 512), -1024, np.int16)


def dithered() -> np.ndarray:
    """Constant but for 1 HU in every other pixel."""
    return black() + np.indices((512, 512)).sum(axis=0).astype(np.int16) % 2


def padded() -> np.ndarray:
    """Air within a field of view, padding of -3024 HU around it."""
    rows, cols = np.indices((512, 512)) - 256
    return np.where(rows**2 + cols**2 < 250**2, black(), np.int16(-3024)).astype(np.int16)


@pytest.mark.parametrize("picture", [black, dithered, padded])
def test_a_thousand_patients_who_share_a_constant_image_stay_a_thousand(picture):
    flags = hounsfield_flags(picture(), brain=0.0)
    images = [{"flags": flags, "pixel_digest": SAME} for _ in range(1000)]
    rows = joined(images, {0: [0]})
    assert len(set(link_patients(rows.patient, equal_pixels(rows.index)).tolist())) == 1000


def test_a_thousand_patients_who_share_a_capture_stay_a_thousand_and_a_slice_makes_them_one():
    """The last line shows that the thousand would be joined, were it not for the flag."""
    for flags, groups in ((["secondary_capture"], 1000), (["secondary_capture", "padded"], 1000), (["padded"], 1)):
        rows = joined([{"flags": flags, "pixel_digest": SAME} for _ in range(1000)], {0: [0]})
        assert len(set(link_patients(rows.patient, equal_pixels(rows.index)).tolist())) == groups


def test_captures_and_images_without_digest_do_not_link_but_padded_ones_do():
    images = [
        {"pixel_digest": SAME, "flags": ["secondary_capture"]},
        {"pixel_digest": SAME, "flags": ["secondary_capture", "padded"]},
        {"pixel_digest": None},
        {"pixel_digest": None},
        {"pixel_digest": OTHER, "flags": ["padded"]},
        {"pixel_digest": OTHER},
    ]
    rows = joined(images, {0: [0]})
    assert link_patients(rows.patient, equal_pixels(rows.index)).tolist() == [0, 1, 2, 3, 4, 4]


def test_a_group_is_named_by_the_first_name_in_it():
    names = group_names(np.array([1, 0, 0]), pa.array(["patient C", "patient B", "patient A"]))
    assert names.to_pylist() == ["patient A", "patient C"]


def test_conflicts_are_groups_with_both_values_of_a_class():
    """Images 0 and 2 disagree on sdh; 1 and 3 agree; 4 and 5 differ only in what is unknown."""
    digests = [SAME, OTHER, SAME, OTHER, b"u" * 16, b"u" * 16]
    labels = {0: [1, 0], 1: [1, 1], 2: [1, 1], 3: [1, 1], 4: [1, 255], 5: [1, 0]}
    rows = joined([{"pixel_digest": digest} for digest in digests], labels, ("any", "sdh"))
    assert [group.tolist() for group in conflicting_labels(rows, equal_pixels(rows.index))] == [[0, 2]]


def test_unlabelled_copies_are_no_conflict():
    rows = joined([{"pixel_digest": SAME}, {"pixel_digest": SAME}, {"pixel_digest": SAME}], {0: [1], 2: [1]})
    assert conflicting_labels(rows, equal_pixels(rows.index)) == []


def test_the_audit_counts_what_it_found():
    images = [
        {"patient": "A", "pixel_digest": SAME},
        {"patient": "B", "pixel_digest": SAME, "pixel_format": "i16"},
        {"patient": "C", "pixel_format": "i16"},
    ]
    rows = joined(images, {0: [1], 1: [0], 2: [1]})
    pixels = equal_pixels(rows.index)
    found = audit(rows, link_patients(rows.patient, pixels), pixels)
    assert found == {
        "images": 3,
        "patients": 3,
        "studies_of_several_patients": 0,
        "linked_groups": 1,
        "linked_patients": 2,
        "largest_group_patients": 2,
        "equal_pixel_groups": 1,
        "equal_pixel_conflicts": 1,
        "equal_pixel_conflict_examples": [["ID_000", "ID_001"]],
        "positives_by_pixel_format": {
            "i16": {"any": {"positive": 1, "labelled": 2}},
            "u12": {"any": {"positive": 1, "labelled": 1}},
        },
    }


def test_positives_of_a_format_are_counted_among_its_labelled_images():
    """Of 200 images 90 are positive and 20 blank: 90 of 180, not 90 of 200."""
    labels = {number: [1] if number < 90 else [255] if number >= 180 else [0] for number in range(200)}
    assert positives_by_format(joined([{} for _ in range(200)], labels)) == {
        "u12": {"any": {"positive": 90, "labelled": 180}}
    }


def table_of(labels: list[int]) -> pa.Table:
    index = index_of(IMAGES)
    keys = index["image_id"].combine_chunks()
    rows = join_labels(index, LabelTable(("any",), keys, np.array(labels, np.uint8)[:, None], 0))
    pixels = equal_pixels(rows.index)
    patient_group = link_patients(rows.patient, pixels)
    groups = patient_group[rows.patient], group_names(patient_group, rows.patient_names)
    placed = np.array([0, 1, 3, 4, 5, 6]), np.array([TRAIN, TRAIN, TEST, TEST, TRAIN, TRAIN], np.int8)
    return equal_pixel_table(rows, pixels, groups, placed)


def test_each_image_that_another_equals_is_listed_with_what_it_links():
    """Images 0 and 2 link B and A and disagree; 3 and 4 are one patient's; blank ones say nothing; 2 is not used."""
    assert table_of([1, 0, 0, 1, 255, 0, 1]).drop_columns(["source_path"]).to_pylist() == [
        line("ID_000", "B", (0, "patient A", True, True, "train"), 1),
        line("ID_002", "A", (0, "patient A", True, True, None), 0),
        line("ID_003", "D", (1, "patient D", False, False, "test"), 1),
        line("ID_004", "D", (1, "patient D", False, False, "test"), None),
    ]


def test_examples_say_who_is_linked_through_what():
    """Images 3 and 4 are equal as well, but of one patient."""
    assert link_examples(table_of([0] * 7)) == ["ID_000 of B = ID_002 of A"]


def line(image_id: str, patient: str, found: tuple[int, str, bool, bool, str | None], label: int | None) -> dict:
    number, linked, links, conflict, split = found
    return {
        "equal_pixels": number,
        "image_id": image_id,
        "patient": patient,
        "linked_patient": linked,
        "links_patients": links,
        "conflict": conflict,
        "split": split,
        "label_any": label,
    }


def test_a_corpus_without_equal_images_gives_an_empty_table_of_the_same_columns():
    full = table_of([0] * 7)
    index = index_of(IMAGES[1:3])
    rows = join_labels(index, LabelTable(("any",), index["image_id"].combine_chunks(), np.zeros((2, 1), np.uint8), 0))
    groups = rows.patient, rows.patient_names
    empty = equal_pixel_table(rows, equal_pixels(rows.index), groups, (np.array([0]), np.array([TRAIN], np.int8)))
    assert len(empty) == 0
    assert empty.schema == full.schema


def test_values_in_two_splits_are_found_and_minus_one_is_ignored():
    """0 is in train and test, 1 in val twice, and -1 in train and test is no value."""
    assert in_two_splits(np.array([0, 0, 1, 1, -1, -1]), SPLITS).tolist() == [0]
    assert in_two_splits(np.array([0, 1, 2, 2, 3, 4]), SPLITS).tolist() == []


def test_the_evidence_is_an_image_of_each_split():
    assert split_examples(np.array([5, 5, 5, 9, 9, -1]), SPLITS, IDS) == [
        "a in train and c in val and b in test",
        "e in train and d in val",
    ]


def test_a_group_in_two_splits_is_an_error_with_examples():
    with pytest.raises(
        SplitError, match="2 linked patients in two splits, such as a in train and b in test; e in train and f in test"
    ):
        require_apart(np.array([0, 0, 1, 1, 2, 2]), SPLITS, IDS, "linked patients")
    require_apart(np.array([0, 1, 2, 2, 3, 4]), SPLITS, IDS, "linked patients")


def test_five_of_many_are_shown():
    kind = np.repeat(np.arange(8), 2)
    shown = split_examples(kind, np.tile([TRAIN, VAL], 8).astype(np.int8), pa.array([f"i{n}" for n in range(16)]))
    assert len(shown) == 5
    assert shown[4] == "i8 in train and i9 in val"
