"""What stands on both sides of a split."""

import numpy as np
import pyarrow as pa
import pytest

from hemo.curation.leakage import require_apart, torn, torn_images
from hemo.curation.split import TEST, TRAIN, VAL
from hemo.errors import SplitError

IDS = pa.array(["a", "b", "c", "d", "e", "f"])
SPLITS = np.array([TRAIN, TEST, VAL, VAL, TRAIN, TEST], np.int8)


def test_values_in_two_splits_are_found_and_nothing_is_never_torn():
    """0 stands in train and test, 1 in val twice, and -1 in train and test is no value."""
    assert torn(np.array([0, 0, 1, 1, -1, -1]), SPLITS).tolist() == [0]
    assert torn(np.array([0, 1, 2, 2, 3, 4]), SPLITS).tolist() == []


def test_the_evidence_is_an_image_of_each_split():
    assert torn_images(np.array([5, 5, 5, 9, 9, -1]), SPLITS, IDS) == [
        "a in train and c in val and b in test",
        "e in train and d in val",
    ]


def test_a_torn_group_is_an_error_with_the_evidence():
    with pytest.raises(
        SplitError, match="2 linked patients in two splits, such as a in train and b in test; e in train and f in test"
    ):
        require_apart(np.array([0, 0, 1, 1, 2, 2]), SPLITS, IDS, "linked patients")
    require_apart(np.array([0, 1, 2, 2, 3, 4]), SPLITS, IDS, "linked patients")


def test_five_of_many_are_shown():
    kind = np.repeat(np.arange(8), 2)
    shown = torn_images(kind, np.tile([TRAIN, VAL], 8).astype(np.int8), pa.array([f"i{n}" for n in range(16)]))
    assert len(shown) == 5
    assert shown[4] == "i8 in train and i9 in val"
