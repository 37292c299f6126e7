"""Similar images of different patients, found by made-up embeddings."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hemo.corpus.labels import LabelTable
from hemo.curation.labelled_index import join_labels
from hemo.curation.leak_audit import equal_pixels
from hemo.curation.near_duplicates import (
    LISTED,
    NearDuplicates,
    find_near_duplicates,
    near_duplicate_findings,
    vectors_of,
)
from hemo.errors import ConfigError
from hemo.stats import similarity
from tests.hemo.library.test_embeddings import VECTORS, write_embeddings
from tests.made_shards import index_of


def pairs_of(
    patients: str, digests: str, at_least: float = 0.7, flagged: int | None = None, listed: int = LISTED
) -> NearDuplicates:
    """Return the pairs among six images whose vectors are `VECTORS`: right, left, up, down, and two diagonals."""
    rows = [
        {"patient": patient, "pixel_digest": digest.encode() * 16, "flags": ["blank"] if number == flagged else []}
        for number, (patient, digest) in enumerate(zip(patients, digests, strict=True))
    ]
    index = index_of(rows)
    labels = LabelTable(("any",), pa.array([f"ID_{n:03d}" for n in range(6)]), np.ones((6, 1), np.uint8), 0)
    placed = (np.array([0, 1, 2, 4, 5]), np.array([0, 0, 1, 2, 2], np.int8))  # image 3 is in no split
    rows, pixels = join_labels(index, labels), equal_pixels(index)
    return find_near_duplicates(rows, placed, pixels, VECTORS, at_least, listed=listed)


def table(patients: str, digests: str, flagged: int | None = None) -> pa.Table:
    return pairs_of(patients, digests, flagged=flagged).table


def test_pairs_of_different_patients_with_their_splits() -> None:
    """Right and up are at 45 degrees to the upper diagonal, left and down to the lower one."""
    found = table("abcdef", "uvwxyz").to_pylist()
    pairs = [(row["image_id_1"], row["image_id_2"], row["split_1"], row["split_2"]) for row in found]
    assert sorted(pairs, key=str) == [
        ("ID_000", "ID_004", "train", "test"),
        ("ID_001", "ID_005", "train", "test"),
        ("ID_002", "ID_004", "val", "test"),
        ("ID_003", "ID_005", None, "test"),
    ]
    assert [row["cosine"] for row in found] == pytest.approx([0.5**0.5] * 4)
    assert near_duplicate_findings(pairs_of("abcdef", "uvwxyz"), 0.7) == {
        "near_duplicates": {"cosine": 0.7, "pairs": 4, "images": 6, "pairs_in_two_splits": 3, "listed": 4},
        "near_duplicates_examples": [
            f"{row['image_id_1']} of {row['patient_1']} ~ {row['image_id_2']} of {row['patient_2']}" for row in found
        ],
    }


def test_images_of_one_patient_or_of_equal_pixels_are_no_finding() -> None:
    """0 and 4 are of one patient, 1 and 5 have equal pixels."""
    found = table("abcdae", "uvwxyv")
    assert set(zip(found["image_id_1"].to_pylist(), found["image_id_2"].to_pylist(), strict=True)) == {
        ("ID_002", "ID_004"),
        ("ID_003", "ID_005"),
    }


def test_blank_images_are_no_finding_however_alike() -> None:
    found = table("abcdef", "uvwxyz", flagged=5)
    assert set(zip(found["image_id_1"].to_pylist(), found["image_id_2"].to_pylist(), strict=True)) == {
        ("ID_000", "ID_004"),
        ("ID_002", "ID_004"),
    }


@pytest.mark.parametrize("block_rows", [1, 2048])
def test_the_most_similar_pairs_are_listed_and_all_counted(monkeypatch: pytest.MonkeyPatch, block_rows: int) -> None:
    """Eight pairs reach a cosine of 0, four of them of 0.7: those come first, by number, and three are listed."""
    monkeypatch.setattr(similarity, "BLOCK_ROWS", block_rows)
    found = pairs_of("abcdef", "uvwxyz", -1e-3, listed=3)
    assert [(row["image_id_1"], row["image_id_2"]) for row in found.table.to_pylist()] == [
        *(("ID_000", "ID_004"), ("ID_001", "ID_005"), ("ID_002", "ID_004")),
    ]
    counts = near_duplicate_findings(found, 0)["near_duplicates"]
    assert counts == {"cosine": 0, "pairs": 8, "images": 6, "pairs_in_two_splits": 5, "listed": 3}


def test_no_pairs_are_a_finding_of_none() -> None:
    found = near_duplicate_findings(pairs_of("abcdef", "uvwxyz", 0.99), 0.99)
    assert found["near_duplicates"] == {"cosine": 0.99, "pairs": 0, "images": 0, "pairs_in_two_splits": 0, "listed": 0}
    assert found["near_duplicates_examples"] == []


def test_vectors_are_brought_into_the_order_of_the_index(tmp_path: Path) -> None:
    folder = write_embeddings(tmp_path, images="0123456789abcdef")
    index = index_of([{"image_id": f"image-{row}"} for row in (5, 0, 3)])
    found = vectors_of(folder, "runs/shards", "0123456789abcdef", index)
    np.testing.assert_array_equal(found, VECTORS[[5, 0, 3]])
    with pytest.raises(ConfigError, match="vectors of other images than runs/shards; run `hemo embed --source"):
        vectors_of(folder, "runs/shards", "feedfacefeedface", index)
