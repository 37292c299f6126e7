"""Cells group trials that differ only by seed; the best is compared with the others, with p-values computed by hand."""

import numpy as np
import pytest

from hemo.errors import SourceError
from hemo.reporting.cells import Cell, cells_of, compare_best_cell, describe_difference
from hemo.reporting.trial_row import PatientResults, Row


@pytest.mark.parametrize(
    ("names", "cell"),
    [(("VGG16, seed 1", "VGG16, seed 2"), "VGG16"), (("one", "two"), "VGG16"), (("same", "same"), "same")],
)
def test_a_cell_is_named_by_what_its_trials_have_in_common(make_record, names, cell):
    records = [
        make_record({"name": name, "seed": seed, "model.backbone": "VGG16"}) for seed, name in enumerate(names, 1)
    ]
    (found,) = cells_of([Row(record) for record in records])
    assert (found.name, len(found.rows)) == (cell, 2)


def test_the_lowest_mean_loss_comes_first_and_only_complete_trials_count(make_record):
    """Losses .1 and .5 have the mean .3, above .2."""
    rows = [
        Row(make_record({"name": name, "seed": seed, "model.dense_width": width}, metrics={"val": {"loss": loss}}))
        for name, seed, width, loss in (("a", 1, 8, 0.1), ("a", 2, 8, 0.5), ("b", 1, 32, 0.2))
    ]
    rows.append(Row(make_record({"name": "c", "seed": 9}, status="failed")))
    assert [(cell.name, cell.values("val", "loss")) for cell in cells_of(rows)] == [("b", [0.2]), ("a", [0.1, 0.5])]


@pytest.fixture
def cell(make_record):
    """Return a function that makes a cell of six patients with ten images each, by each seed's correct images."""

    def make(name, *seeds, images=10, scan=""):
        rows = []
        for number, correct in enumerate(seeds):
            patients = np.array([f"p{index}" for index in range(len(correct))])
            image_ids = np.array([f"{scan}{number}" for number in range(images * len(patients))])
            by_patient = PatientResults(
                image_ids, patients, np.full(len(correct), images), np.array(correct, np.float64)
            )
            rows.append(Row(make_record({"name": name, "seed": number}), by_patient=by_patient))
        return Cell(name, tuple(rows))

    return make


ALL = [10] * 6
FEWER = [9] * 6


def test_two_cells_need_no_adjustment(cell):
    """One more correct image in each of six patients: 2 of 64 sign flips reach that; 6 of 60 images."""
    (found,) = compare_best_cell([cell("a", ALL), cell("b", FEWER)], samples=50, seed=0)
    assert (found.p, found.p_holm, found.significant) == (2 / 64, 2 / 64, True)
    assert (found.accuracy.value, found.accuracy.low, found.accuracy.high) == pytest.approx((0.1, 0.1, 0.1))
    assert describe_difference(found) == (
        "a and b have the lowest validation losses of the cells evaluated on test; a is more accurate by 0.1000 on the "
        "same 60 test images (95 % interval 0.1000 to 0.1000; two-sided sign-flip permutation test, clustered by "
        "patient, 6 patients: p = 0.031). The difference is significant (Holm-adjusted p < 0.05); one seed only: "
        "another may change the order."
    )


def test_three_cells_are_adjusted(cell):
    """p of 2/64 and 1: Holm doubles the first, which is no longer significant."""
    found = compare_best_cell(
        [cell("a", ALL), cell("b", FEWER), cell("c", [10, 10, 10, 10, 10, 9])], samples=50, seed=0
    )
    assert [(each.other.name, each.p, each.p_holm) for each in found] == [("b", 1 / 32, 1 / 16), ("c", 1, 1)]
    text = describe_difference(found[0])
    assert "p = 0.031, p (Holm, 2 comparisons) = 0.062). The difference is not significant (Holm-adjusted p >=" in text


def test_seeds_are_averaged_and_counted(cell):
    """One seed all correct, one none: the mean is half, as the other cell's."""
    found = compare_best_cell([cell("a", ALL, [0] * 6), cell("b", [5] * 6, [5] * 6)], samples=50, seed=0)
    assert (found[0].accuracy.value, found[0].p) == (0, 1)
    assert "both have the same accuracy" in describe_difference(found[0])
    assert describe_difference(found[0]).endswith("is not significant (Holm-adjusted p >= 0.05); mean of 2 seeds each.")


def test_a_more_accurate_second_cell_is_named(cell):
    (found,) = compare_best_cell([cell("a", FEWER), cell("b", ALL)], samples=50, seed=0)
    text = describe_difference(found)
    assert "b is more accurate by 0.1000" in text
    assert "interval 0.1000 to 0.1000" in text


def test_an_interval_that_ends_at_zero_has_no_minus(cell):
    """b has one image of one patient more, who is in some resamples only."""
    found = compare_best_cell([cell("a", [9, 10, 10, 10, 10, 10]), cell("b", ALL)], samples=200, seed=0)
    assert found[0].accuracy.high == 0
    assert "(95 % interval 0.0000 to " in describe_difference(found[0])


def test_nothing_is_compared_where_one_cell_was_evaluated_on_test(cell, make_record):
    unread = Cell("b", (Row(make_record({"seed": 9}, test=False)),))
    assert compare_best_cell([cell("a", ALL), unread], samples=10, seed=0) == ()


def test_other_images_are_refused(cell):
    with pytest.raises(SourceError, match="tested on different images"):
        compare_best_cell([cell("a", ALL), cell("b", FEWER, images=11)], samples=10, seed=0)


def test_as_many_other_images_of_the_same_patients_are_refused(cell):
    with pytest.raises(SourceError, match="tested on different images"):
        compare_best_cell([cell("a", ALL), cell("b", FEWER, scan="second")], samples=10, seed=0)
