"""The slice before and the slice after."""

import numpy as np
import pytest

from hemo.curation.neighbours import adjacent
from hemo.errors import ConfigError
from tests.made_shards import index_of

ONE_PATIENT = np.zeros(5, np.int64)


def test_neighbours_are_by_position_within_the_series():
    """Series A lies at 5, -5 and 0 mm in rows 0, 2 and 3; series B at 1 and 2 mm in rows 1 and 4."""
    places = [("A", 5.0), ("B", 1.0), ("A", -5.0), ("A", 0.0), ("B", 2.0)]
    before, after = adjacent(index_of([{"series": series, "position_mm": at} for series, at in places]), ONE_PATIENT)
    assert before.tolist() == [3, 1, 2, 2, 1]
    assert after.tolist() == [0, 4, 3, 0, 4]


def test_what_lies_in_no_stack_is_its_own_neighbour():
    images = [
        {"series": "A", "position_mm": 1.0},
        {"series": "A", "position_mm": 2.0, "flags": ["localizer"]},
        {"series": "A", "position_mm": None},
        {"series": None, "position_mm": 2.5},
        {"series": "A", "position_mm": 3.0},
    ]
    before, after = adjacent(index_of(images), ONE_PATIENT)
    assert before.tolist() == [0, 1, 2, 3, 0]
    assert after.tolist() == [4, 1, 2, 3, 4]


def test_slices_of_different_patients_are_no_neighbours():
    index = index_of([{"series": "A", "position_mm": float(at)} for at in range(4)])
    before, after = adjacent(index, np.array([0, 1, 0, 2]))
    assert before.tolist() == [0, 1, 0, 3]
    assert after.tolist() == [2, 1, 2, 3]


def test_a_corpus_without_stacks_is_refused():
    with pytest.raises(ConfigError, match="neighbours: 1 needs slices with a series and a position"):
        adjacent(index_of([{"series": "A"}, {"position_mm": 1.0}]), ONE_PATIENT[:2])
