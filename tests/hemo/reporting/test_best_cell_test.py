"""The best cell against the others, with p-values worked out by hand."""

import numpy as np
import pytest

from hemo.errors import SourceError
from hemo.reporting.best_cell_test import differences, verdict
from hemo.reporting.cells import Cell
from hemo.reporting.trial_row import ByPatient, Row


@pytest.fixture
def cell(make_record):
    """Return a function that makes a cell of six patients with ten images each, from the images right by each seed."""

    def make(name, *seeds, images=10):
        rows = []
        for number, right in enumerate(seeds):
            patients = np.array([f"p{place}" for place in range(len(right))])
            by_patient = ByPatient(patients, np.full(len(right), images), np.array(right, np.float64))
            rows.append(Row(make_record({"name": name, "seed": number}), by_patient=by_patient))
        return Cell(name, tuple(rows))

    return make


ALL = [10] * 6
FEWER = [9] * 6


def test_two_cells_need_no_correction(cell):
    """One image more right in each of six patients: 2 of 64 swaps reach that; 6 of 60 images."""
    (found,) = differences([cell("a", ALL), cell("b", FEWER)], samples=50, seed=0)
    assert (found.p, found.p_corrected, found.real) == (2 / 64, 2 / 64, True)
    assert (found.accuracy.value, found.accuracy.low, found.accuracy.high) == pytest.approx((0.1, 0.1, 0.1))
    assert verdict([found]) == (
        "of the cells tested, a and b have the lowest validation losses; a is right on 0.1000 more of the same "
        "60 test images (95 % interval 0.1000 to 0.1000; swaps within 6 patients: p = 0.031). "
        "The difference is real between these trained models; another seed may change the order."
    )


def test_three_cells_are_corrected(cell):
    """p of 2/64 and 1: Holm doubles the first, which is chance then."""
    found = differences([cell("a", ALL), cell("b", FEWER), cell("c", [10, 10, 10, 10, 10, 9])], samples=50, seed=0)
    assert [(each.other.name, each.p, each.p_corrected) for each in found] == [("b", 1 / 32, 1 / 16), ("c", 1, 1)]
    assert "p = 0.031, p = 0.062 corrected for 2 comparisons). The difference may be chance" in verdict(found)


def test_seeds_are_averaged_and_told(cell):
    """Seeds with all and none right in turn: the mean is half, as the other cell's."""
    found = differences([cell("a", ALL, [0] * 6), cell("b", [5] * 6, [5] * 6)], samples=50, seed=0)
    assert (found[0].accuracy.value, found[0].p) == (0, 1)
    assert "both are right on the same share" in verdict(found)
    assert verdict(found).endswith("The difference may be chance, with the mean of 2 seeds for each.")


def test_a_better_second_is_named(cell):
    text = verdict(differences([cell("a", FEWER), cell("b", ALL)], samples=50, seed=0))
    assert "b is right on 0.1000 more" in text
    assert "interval 0.1000 to 0.1000" in text


def test_an_interval_that_ends_at_zero_has_no_minus(cell):
    """b has one image of one patient more, who is in some resamples and not in others."""
    found = differences([cell("a", [9, 10, 10, 10, 10, 10]), cell("b", ALL)], samples=200, seed=0)
    assert found[0].accuracy.high == 0
    assert "(95 % interval 0.0000 to " in verdict(found)


def test_nothing_is_compared_where_test_was_read_once(cell, make_record):
    unread = Cell("b", (Row(make_record({"seed": 9}, test=False)),))
    assert differences([cell("a", ALL), unread], samples=10, seed=0) == ()


def test_other_images_are_refused(cell):
    with pytest.raises(SourceError, match="tested on different images"):
        differences([cell("a", ALL), cell("b", FEWER, images=11)], samples=10, seed=0)
