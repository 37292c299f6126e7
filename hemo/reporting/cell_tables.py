"""Tables of cells on test: AUROC with both sources of variation, which cells can be told apart, and what it would take.

The best cell minus each other one is a view of the same comparison, as is the file of all pairs.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from hemo.reporting.cells import CellComparison, Difference, Order, TestedCell
from hemo.reporting.table_format import MISSING, Table, decimals, number
from hemo.reporting.trial_row import estimate, interval_ends, p_text
from hemo.stats import SIGNIFICANCE
from hemo.stats.intervals import Interval

NOT_KNOWN = "not known"
MOST_TIMES = 100
"""Multiple of seeds and patients beyond which their numbers are not given: nobody has them."""


def cells_table(comparison: CellComparison, order: Order = "val_loss") -> Table:
    """Return the cells in the order of validation, each with its difference from the next.

    Args:
        comparison: Of the cells.
        order: What they are ordered by.
    """
    differences = [*comparison.neighbours, None]
    rows = tuple(
        _cell_row(cell, difference, comparison) for cell, difference in zip(comparison.cells, differences, strict=True)
    )
    head = (
        *("cell", "seeds", "AUROC (95 %)", "group", "SE patients", "SE seeds"),
        *("minus the next (95 %)", "P(not better)", "80 % power needs"),
    )
    return Table("Cells on test", head, rows, notes=tuple(_cell_notes(comparison, order)))


def _cell_row(cell: TestedCell, difference: Difference | None, comparison: CellComparison) -> tuple[str, ...]:
    needs = (
        (estimate(difference.auroc, signed=True), p_text(difference.not_better), _needs(difference, comparison))
        if difference
        else (MISSING,) * 3
    )
    return (
        *(cell.cell.name, str(len(cell.cell.rows)), estimate(cell.auroc), cell.letters or MISSING),
        *(_error(cell.patients_error, cell), _seeds_error(cell), *needs),
    )


def _error(error: float | None, cell: TestedCell) -> str:
    """Return a standard error with the decimals of the cell's AUROC."""
    if error is None or cell.auroc.ends is None:
        return MISSING
    return number(error, decimals((cell.auroc.ends[1] - cell.auroc.ends[0]) / 2))


def _seeds_error(cell: TestedCell) -> str:
    if cell.auroc.ends is None:
        return MISSING
    if cell.seeds_error is None:
        return NOT_KNOWN
    return _error(cell.seeds_error, cell) + (" (borrowed)" if cell.borrowed else "")


def _needs(difference: Difference, comparison: CellComparison) -> str:
    """Return which further seeds or patients would find the observed difference with 80 % power."""
    seeds, times, both = difference.further_seeds, difference.times_patients, difference.times_both
    if difference.p_holm is None or seeds is None or times is None or both is None:
        return MISSING
    if difference.p_holm < SIGNIFICANCE:
        return "told apart"
    if math.isnan(seeds):
        return "several seeds first"
    if both > MOST_TIMES:
        return f"over {MOST_TIMES} times as many seeds and patients"
    if math.isinf(seeds) and math.isinf(times):
        fewer = min(len(difference.first.cell.rows), len(difference.second.cell.rows))
        return f"{_seeds(math.ceil((both - 1) * fewer))} and {_patients(both, comparison)}"
    if math.isinf(seeds):
        return f"{_patients(times, comparison)}; no number of seeds"
    if math.isinf(times):
        return f"{_seeds(seeds)}; no number of patients"
    return f"{_seeds(seeds)}, or {_patients(times, comparison)}"


def _seeds(further: float) -> str:
    return f"{further:,.0f} more {'seed' if further == 1 else 'seeds'} each"


def _patients(times: float, comparison: CellComparison) -> str:
    return f"{math.ceil(times * comparison.patients):,} patients"


def _cell_notes(comparison: CellComparison, order: Order) -> Iterator[str]:
    first = {"val_loss": "validation loss, lowest first", "val_auroc": "validation AUROC, highest first"}[order]
    yield f"In the order of mean {first}; means over seeds, on {_tested_on(comparison)}."
    if comparison.reason:
        yield f"No intervals and no tests: {comparison.reason}."
        return
    yield from _seed_notes(comparison)
    if comparison.pairs:
        yield (
            "group: cells that share a letter cannot be told apart (Holm-adjusted p of the difference in AUROC, "
            f"{_pairs(comparison)}). P(not better): probability that, of this cell and the next, the one with the "
            "higher AUROC is not the better one, not adjusted for the number of pairs."
        )
        yield (
            "80 % power needs: what would tell this cell and the next apart with that power, if the true difference "
            f"is the observed one, at Holm's level for the next pair ({comparison.auroc.next_level:.2g}); now "
            f"{comparison.patients:,} patients. An observed difference is a poor guide to the true one: `pairs.csv` "
            "has the smallest that would be found (`auroc_detectable`)."
        )
        yield _bootstrap_note(comparison)


def _seed_notes(comparison: CellComparison) -> Iterator[str]:
    if comparison.cells[0].seeds_error is None:
        yield (
            "Variance over seeds is not known, as each cell has one seed: intervals, p and groups are of these trained "
            "models on other patients. Another seed may change the order."
        )
        return
    yield (
        "Intervals, p and groups cover the choice of test patients and of seeds. SE patients: standard error over "
        "patients, of these trained models. SE seeds: over seeds, from the variance that all cells with several seeds "
        "have in common, or from the cell's own if that is larger."
    )
    if any(cell.borrowed for cell in comparison.cells):
        yield "borrowed: a cell with one seed takes the variance over seeds of the others, which need not be its own."


def _bootstrap_note(comparison: CellComparison) -> str:
    """Return how a crossed bootstrap of patients and seeds compares.

    Source:
        benchmarks/results/2026-11-27-ranking.md for the coverage.
    """
    known = comparison.auroc.variances > 0  # else two cells rank all images alike
    ratios = np.sqrt(comparison.bootstrap.variances[known] / comparison.auroc.variances[known])
    ratios = ratios[np.isfinite(ratios)]
    span = f"{ratios.min():.2f} to {ratios.max():.2f}" if len(ratios) else "undefined"
    differing = int((comparison.bootstrap.significant != comparison.auroc.significant).sum())
    verdicts = f"{differing} of {_pairs(comparison)} would get another verdict"
    note = f"Check by a crossed bootstrap: its standard errors are {span} of these, and {verdicts}."
    if comparison.cells[0].seeds_error is None:
        return note
    return f"{note} It is too wide where seeds agree and too narrow where few seeds differ much."


def _tested_on(comparison: CellComparison) -> str:
    """Return `the same 786 test images of 300 patients`, or studies."""
    return f"the same {comparison.images:,} test {comparison.noun.many} of {comparison.patients:,} patients"


def _pairs(comparison: CellComparison) -> str:
    return "1 pair" if comparison.pairs == 1 else f"{comparison.pairs:,} pairs"


def differences_table(comparison: CellComparison) -> Table | None:
    """Return the first cell minus each other one; None where there is no other."""
    differences = comparison.from_best
    if not differences:
        return None
    rows = tuple(
        (
            *(each.second.cell.name, str(len(each.second.cell.rows)), estimate(each.auroc, signed=True)),
            *(p_text(each.p), p_text(each.p_holm), each.verdict),
            *(estimate(each.average_precision, signed=True), estimate(each.log_loss, signed=True)),
        )
        for each in differences
    )
    best = differences[0].first.cell.name
    notes = (
        f"Paired differences on {_tested_on(comparison)}. Above 0 in AUROC and AP, below 0 in log loss: {best} is "
        "better.",
        "p of the difference in AUROC: DeLong's variance with patients as clusters (Obuchowski 1997) plus the variance "
        "over seeds, where it is known (Obuchowski and Rockette 1995). p (Holm): adjusted for all "
        f"{_pairs(comparison)} of cells. Variances of AP and log loss over patients are those of resampled patients; "
        "these differences are not tested, nor are accuracies.",
    )
    head = ("other cell", "seeds", "AUROC (95 %)", "p", "p (Holm)", "verdict", "AP (95 %)", "log loss (95 %)")
    return Table(f"{best} minus the others, on test", head, rows, notes=notes)


def describe_difference(comparison: CellComparison, order: Order = "val_loss") -> str:
    """Return sentences on the two cells that are best on validation: difference, test, verdict, what it takes.

    Args:
        comparison: Of the cells.
        order: What they are ordered by.
    """
    difference = comparison.neighbours[0]
    interval = difference.auroc
    leader = difference.first if interval.value >= 0 else difference.second
    if interval.value < 0:
        low, high = interval.ends or (0.0, 0.0)
        interval = replace(interval, value=-interval.value, ends=interval.ends and (-high, -low))
    gap, _, ends = estimate(interval, signed=True).partition(" (")
    higher = f"the AUROC of {leader.cell.name} is higher by {gap.removeprefix('+')}"
    result = higher if interval.value else "both have the same AUROC"
    where = f"on {_tested_on(comparison)}"
    names = f"{difference.first.cell.name} and {difference.second.cell.name}"
    first = {"val_loss": "lowest validation losses", "val_auroc": "highest validation AUROCs"}[order]
    start = f"{names} have the {first} of the cells evaluated on test; {result} {where}"
    if difference.p is None or interval.ends is None:
        return f"{start}; {difference.verdict}."
    adjusted = f", p (Holm, {_pairs(comparison)}) {p_text(difference.p_holm)}" if comparison.pairs > 1 else ""
    return (
        f"{start} (95 % interval {ends[:-1]}; p {p_text(difference.p)}{adjusted}). "
        f"The difference is {difference.verdict}; {_scope(difference)}. {_outlook(difference, leader, comparison)}"
    )


def _scope(difference: Difference) -> str:
    """Return over which seeds the difference is a mean, and whether their variance counts."""
    first, second = (len(each.cell.rows) for each in (difference.first, difference.second))
    if difference.first.seeds_error is None:
        return "one seed only: another may change the order, which the interval does not cover"
    seeds = f"mean of {first} seeds each" if first == second else f"means of {first} and {second} seeds"
    if first == second == 1:
        seeds = "one seed each"
    borrowed = ", variance over seeds borrowed from other cells" if min(first, second) == 1 else ""
    return f"{seeds}{borrowed}; the interval covers the choice of patients and seeds"


def _outlook(difference: Difference, leader: TestedCell, comparison: CellComparison) -> str:
    """Return how probable it is that the leader is not better, what can be found, and what would tell both apart."""
    chance = f"The probability that {leader.cell.name} is not the better one is {p_text(difference.not_better)}."
    if difference.auroc.value == 0:
        chance = ""
    found = f"A true difference of {number(difference.detectable, 3)} would be found with 80 % power"
    if math.isnan(difference.further_seeds or 0.0):
        return f"{chance} {found}, other seeds aside.".strip()
    if (difference.p_holm or 0.0) < SIGNIFICANCE or difference.auroc.value == 0:
        return f"{chance} {found}.".strip()
    return f"{chance} {found}; the observed one would need {_needs_in_words(difference, comparison)}."


def _needs_in_words(difference: Difference, comparison: CellComparison) -> str:
    limits = {
        "; no number of seeds": ": no number of seeds will do, patients limit it",
        "; no number of patients": ": no number of patients will do, seeds limit it",
    }
    text = _needs(difference, comparison)
    for short, long in limits.items():
        text = text.replace(short, long)
    return text


def pair_rows(comparison: CellComparison) -> Iterator[dict[str, Any]]:
    """Yield every pair of cells as a row of numbers in full precision, None where there are too few patients."""
    for pair, difference in enumerate(comparison.differences(range(comparison.pairs))):
        known = not comparison.reason
        area, bootstrap = comparison.auroc, comparison.bootstrap
        yield {
            "first": difference.first.cell.name,
            "second": difference.second.cell.name,
            "first_seeds": len(difference.first.cell.rows),
            "second_seeds": len(difference.second.cell.rows),
            "test_images": comparison.images,
            "test_patients": comparison.patients,
            **_columns("auroc", difference.auroc),
            "auroc_error_patients": float(np.sqrt(area.from_patients[pair])) if known else None,
            "auroc_error_seeds": float(np.sqrt(area.from_seeds[pair])) if known and area.seed_degrees else None,
            "auroc_degrees": float(area.degrees[pair]) if known else None,
            "auroc_error_bootstrap": float(np.sqrt(bootstrap.variances[pair])) if known else None,
            "p": difference.p,
            "p_holm": difference.p_holm,
            "p_not_better": difference.not_better,
            "auroc_detectable": difference.detectable,
            "further_seeds": difference.further_seeds,
            "times_patients": difference.times_patients,
            "times_both": difference.times_both,
            **_columns("average_precision", difference.average_precision),
            **_columns("log_loss", difference.log_loss),
        }


def _columns(name: str, interval: Interval) -> dict[str, float | None]:
    return {f"{name}_difference": interval.value, **interval_ends(name, interval)}
