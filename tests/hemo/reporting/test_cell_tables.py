"""Tables and sentences of cells on test, from a comparison whose numbers are given."""

import math
from dataclasses import replace

import numpy as np
import pytest

from hemo.config.trial import IMAGES, STUDIES
from hemo.reporting.cell_tables import cells_table, describe_difference, differences_table, pair_rows
from hemo.reporting.cells import Cell, CellComparison, Difference, TestedCell
from hemo.stats.crossed import Measured, compare_cells, seed_variance
from hemo.stats.intervals import Interval
from hemo.stats.planning import design_of


def cell_of(name, seeds, value, seeds_error=0.01, letters="a", borrowed=False):
    interval = Interval(value, (value - 0.04, value + 0.04))
    return TestedCell(Cell(name, (None,) * seeds), interval, 0.015, seeds_error, borrowed, letters)


def comparison_of(*cells, deviation=0.02, patients=100, reason=""):
    """Return a comparison of cells whose seeds differ by 0.01 about the cell's value, with this error over patients."""
    counts = [len(cell.cell.rows) for cell in cells]
    groups = np.repeat(np.arange(len(cells)), counts)
    values = np.concatenate(
        [cell.auroc.value + 0.01 * np.linspace(-1, 1, n) * (n > 1) for cell, n in zip(cells, counts, strict=True)]
    )
    measured = Measured(values, deviation * np.eye(len(cells))[groups], np.zeros(len(groups)))
    found = compare_cells(measured, groups, patients - 1.0)
    design = design_of(found, seed_variance(measured, groups))
    return CellComparison(cells, found, found, found, design, found, 400, patients, reason, reason, IMAGES)


def column(table, name):
    return [row[table.head.index(name)] for row in table.rows]


def test_each_cell_has_both_parts_and_its_difference_from_the_next():
    """0.90 and 0.85: 0.05 over sqrt(2 x .0004 + 2 x .0001 / 3) = .0294, with 99 degrees; half-width 1.984 x .0294."""
    found = comparison_of(cell_of("a", 3, 0.9), cell_of("b", 3, 0.85, letters="ab"), cell_of("c", 3, 0.7, letters="b"))
    table = cells_table(found)
    assert column(table, "cell") == ["a", "b", "c"]
    assert column(table, "seeds") == ["3", "3", "3"]
    assert column(table, "AUROC (95 %)") == ["0.900 (0.860-0.940)", "0.850 (0.810-0.890)", "0.700 (0.660-0.740)"]
    assert column(table, "group") == ["a", "ab", "b"]
    assert column(table, "SE patients") == ["0.015"] * 3
    assert column(table, "SE seeds") == ["0.010"] * 3
    assert column(table, "minus the next (95 %)") == ["+0.050 (-0.008 to +0.108)", "+0.150 (+0.092 to +0.208)", "-"]
    assert column(table, "P(not better)") == ["0.046", "< 0.001", "-"]
    assert column(table, "80 % power needs")[1:] == ["told apart", "-"]
    assert table.notes[0] == (
        "In the order of mean validation loss, lowest first; means over seeds, on the same 400 test images of 100 "
        "patients."
    )
    assert cells_table(found, "val_auroc").notes[0].startswith("In the order of mean validation AUROC, highest first;")
    assert "cells that share a letter cannot be told apart" in table.notes[2]
    assert table.notes[-1] == (
        "Check by a crossed bootstrap: its standard errors are 1.00 to 1.00 of these, and 0 of 3 pairs would get "
        "another verdict. It is too wide where seeds agree and too narrow where few seeds differ much."
    )


def test_seeds_or_patients_that_would_tell_them_apart():
    """Seeds leave .0008, which finds 0.05 in 41 %; patients leave .000067: .0008 / ((.05 / 2.8)^2 - .000067) = 3.2."""
    (needs, _) = column(cells_table(comparison_of(cell_of("a", 3, 0.9), cell_of("b", 3, 0.85))), "80 % power needs")
    assert needs == "329 patients; no number of seeds"


def difference(comparison, **fields):
    made = replace(comparison.neighbours[0], **fields)

    class One(CellComparison):
        neighbours = property(lambda self: [made])

    return One(**{name: getattr(comparison, name) for name in CellComparison.__dataclass_fields__})


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({"further_seeds": 1, "times_patients": 2.005}, "1 more seed each, or 201 patients"),
        ({"further_seeds": 12, "times_patients": math.inf}, "12 more seeds each; no number of patients"),
        ({"further_seeds": math.inf, "times_patients": 3.0}, "300 patients; no number of seeds"),
        (
            {"further_seeds": math.inf, "times_patients": math.inf, "times_both": 3.0},
            "6 more seeds each and 300 patients",
        ),
        ({"times_both": math.inf}, "over 100 times as many seeds and patients"),
        ({"further_seeds": math.nan}, "several seeds first"),
        ({"p_holm": 0.04}, "told apart"),
        ({"p_holm": None}, "-"),
    ],
)
def test_what_a_pair_needs(fields, needs):
    base = {"p_holm": 0.2, "further_seeds": 1.0, "times_patients": 2.0, "times_both": 1.5}
    found = difference(comparison_of(cell_of("a", 3, 0.9), cell_of("b", 3, 0.88)), **{**base, **fields})
    assert column(cells_table(found), "80 % power needs")[0] == needs


def test_one_seed_everywhere_is_said():
    cells = cell_of("a", 1, 0.9, seeds_error=None), cell_of("b", 1, 0.8, seeds_error=None, letters="b")
    table = cells_table(comparison_of(*cells))
    assert column(table, "SE seeds") == ["not known", "not known"]
    assert table.notes[1].startswith("Variance over seeds is not known, as each cell has one seed")
    assert "too narrow" not in table.notes[-1]
    assert describe_difference(comparison_of(*cells)).endswith(
        "one seed only: another may change the order, which the interval does not cover. The probability that a is not "
        "the better one is < 0.001. A true difference of 0.080 would be found with 80 % power, other seeds aside."
    )


def test_a_borrowed_variance_is_marked():
    found = comparison_of(cell_of("a", 3, 0.9), cell_of("b", 1, 0.88, borrowed=True))
    assert column(cells_table(found), "SE seeds") == ["0.010", "0.010 (borrowed)"]
    assert any(note.startswith("borrowed: a cell with one seed takes") for note in cells_table(found).notes)
    assert "means of 3 and 1 seeds, variance over seeds borrowed from other cells" in describe_difference(found)


def test_the_two_best_cells_in_words():
    """b is better on test, though a has the lower validation loss."""
    found = comparison_of(cell_of("a", 3, 0.85), cell_of("b", 3, 0.9), cell_of("c", 3, 0.6))
    text = describe_difference(found)
    assert text.startswith(
        "a and b have the lowest validation losses of the cells evaluated on test; the AUROC of b is higher by 0.050 "
        "on the same 400 test images of 100 patients (95 % interval -0.008 to +0.108; p 0.092, p (Holm, 3 pairs) 0.092)"
        ". The difference is not significant; mean of 3 seeds each; the interval covers the choice of patients and "
        "seeds. The probability that b is not the better one is 0.046. A true difference of 0.083 would be found with "
        "80 % power; the observed one would need "
    )
    assert text.endswith("patients: no number of seeds will do, patients limit it.")
    told = describe_difference(comparison_of(cell_of("a", 3, 0.9), cell_of("b", 3, 0.6)))
    assert told.endswith("would be found with 80 % power.")


def test_equal_cells_have_no_leader():
    text = describe_difference(comparison_of(cell_of("a", 3, 0.9), cell_of("b", 3, 0.9)))
    assert "both have the same AUROC on the same" in text
    assert "not the better one" not in text


def test_the_best_against_the_others():
    found = comparison_of(cell_of("a", 3, 0.9), cell_of("b", 3, 0.88), cell_of("c", 2, 0.6))
    table = differences_table(found)
    assert table.caption == "a minus the others, on test"
    assert [row[:2] for row in table.rows] == [("b", "3"), ("c", "2")]
    assert column(table, "verdict") == ["not significant", "statistically significant (Holm-adjusted p < 0.05)"]
    assert "adjusted for all 3 pairs of cells" in table.notes[1]


def test_too_few_patients_have_the_reason():
    reason = "8 patients, at least 10 are needed"
    empty = replace(
        cell_of("a", 1, 0.9), auroc=Interval(0.9, None, reason), patients_error=None, seeds_error=None, letters=""
    )
    found = comparison_of(empty, empty, reason=reason)
    table = cells_table(found)
    assert table.rows[0] == ("a", "1", "0.90", "-", "-", "-", "+0.00", "-", "-")
    assert table.notes[1:] == (f"No intervals and no tests: {reason}.",)
    assert describe_difference(found).endswith(f"; not tested: {reason}.")
    (row,) = pair_rows(found)
    assert (row["p"], row["auroc_low"], row["auroc_error_seeds"], row["further_seeds"]) == (None,) * 4


def test_every_pair_is_a_row_of_numbers():
    found = comparison_of(cell_of("a", 3, 0.9), cell_of("b", 3, 0.85), cell_of("c", 3, 0.7))
    rows = list(pair_rows(found))
    assert [(row["first"], row["second"]) for row in rows] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert rows[0]["auroc_difference"] == pytest.approx(0.05)
    assert rows[0]["auroc_error_patients"] == pytest.approx(0.0008**0.5)
    assert rows[0]["auroc_error_seeds"] == pytest.approx((0.0002 / 3) ** 0.5)
    assert rows[0]["p_not_better"] == rows[0]["p"] / 2
    assert all(isinstance(each, Difference) for each in found.differences(range(3)))


def test_what_cells_are_ordered_by_is_named():
    cells = comparison_of(cell_of("a", 3, 0.9), cell_of("b", 3, 0.6))
    assert describe_difference(cells).startswith("a and b have the lowest validation losses of the cells")
    assert describe_difference(cells, "val_auroc").startswith("a and b have the highest validation AUROCs of the cells")


def test_cells_of_studies_are_compared_on_studies():
    found = replace(comparison_of(cell_of("a", 3, 0.9), cell_of("b", 3, 0.85)), noun=STUDIES)
    where = "on the same 400 test studies of 100 patients"
    assert cells_table(found).notes[0].endswith(f"means over seeds, {where}.")
    assert differences_table(found).notes[0].startswith(f"Paired differences {where}. ")
    assert where in describe_difference(found)
