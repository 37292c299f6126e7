"""Every image of equal pixels, by hand."""

import numpy as np
import pyarrow as pa

from hemo.corpus.labels import LabelTable
from hemo.curation.audit import equal_pixels, group_names, link_patients
from hemo.curation.evidence import equal_pixel_table, link_examples
from hemo.curation.rows import join_labels
from hemo.curation.split import TEST, TRAIN
from tests.made_shards import index_of

IMAGES = [
    {"patient": "B", "pixel_digest": b"s" * 16},
    {"patient": "C"},
    {"patient": "A", "pixel_digest": b"s" * 16},
    {"patient": "D", "pixel_digest": b"o" * 16},
    {"patient": "D", "pixel_digest": b"o" * 16},
    {"patient": "E", "pixel_digest": b"n" * 16, "flags": ["blank"]},
    {"patient": "F", "pixel_digest": b"n" * 16, "flags": ["blank"]},
]


def table_of(labels: list[int]) -> pa.Table:
    index = index_of(IMAGES)
    keys = index["image_id"].combine_chunks()
    rows = join_labels(index, LabelTable(("any",), keys, np.array(labels, np.uint8)[:, None], 0))
    pixels = equal_pixels(rows)
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
    empty = equal_pixel_table(rows, equal_pixels(rows), groups, (np.array([0]), np.array([TRAIN], np.int8)))
    assert len(empty) == 0
    assert empty.schema == full.schema
