"""The best cell against each other one, on the same test images: is the difference real?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hemo.errors import SourceError
from hemo.reporting.cells import Cell
from hemo.reporting.table_format import number
from hemo.reporting.trial_row import ByPatient
from hemo.stats.intervals import CONFIDENCE, Interval, patient_resamples
from hemo.stats.paired_tests import difference_interval, holm, sign_flip_p

SIGNIFICANCE = 1 - CONFIDENCE


@dataclass(frozen=True, eq=False)
class Difference:
    """Accuracy on test of the best cell minus that of another."""

    best: Cell
    other: Cell
    accuracy: Interval
    p: float
    p_corrected: float  # for the number of cells the best one is compared with
    images: int
    patients: int
    compared: int

    @property
    def real(self) -> bool:
        """Whether chance is ruled out at 5 %, after the correction."""
        return self.p_corrected < SIGNIFICANCE


def differences(cells: Sequence[Cell], *, samples: int, seed: int) -> tuple[Difference, ...]:
    """Compare the first cell that read test with each later one that did, patient by patient.

    Of several seeds the mean counts, so that what is compared is the setting. The order of the cells is validation's,
    so that test does not choose what it judges.

    Args:
        cells: Best first.
        samples: Resamples of patients, and permutations where they cannot all be gone through.
        seed: Of both.

    Raises:
        SourceError: If trials of one training set were tested on different images.
    """
    tested = [(cell, mean) for cell in cells if (mean := _mean_by_patient(cell)) is not None]
    if len(tested) < 2:
        return ()
    (best, first), others = tested[0], tested[1:]
    for _, mean in others:
        _refuse_other_images(first, mean)
    draws, _ = patient_resamples(first.patients, samples, seed)
    gaps = [first.right - mean.right for _, mean in others]
    p_values = [sign_flip_p(gap, samples, seed) for gap in gaps]
    return tuple(
        Difference(
            best,
            other,
            difference_interval(gap, first.images, draws),
            p,
            corrected,
            int(first.images.sum()),
            len(first.images),
            len(others),
        )
        for (other, _), gap, p, corrected in zip(others, gaps, p_values, holm(p_values), strict=True)
    )


def _mean_by_patient(cell: Cell) -> ByPatient | None:
    """Return the mean over a cell's seeds; None if a seed did not read test."""
    parts = [row.by_patient for row in cell.rows]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    right: NDArray[np.float64] = np.mean([part.right for part in known], axis=0)
    return ByPatient(known[0].patients, known[0].images, right)


def _refuse_other_images(first: ByPatient, other: ByPatient) -> None:
    if not first.same_images(other):
        raise SourceError(
            "records of one training set were tested on different images; keep such records in folders of their own"
        )


def verdict(found: Sequence[Difference]) -> str:
    """Return one plain sentence on the two best cells; `found` as `differences` gives it, with at least one."""
    first = found[0]
    gap, low, high = first.accuracy.value, first.accuracy.low, first.accuracy.high
    if gap:
        leader, apart = (first.best, gap) if gap > 0 else (first.other, -gap)
        low, high = (low, high) if gap > 0 else (-high, -low)
        distance = f"{leader.name} is right on {number(apart)} more of the same {first.images:,} test images"
    else:
        distance = f"both are right on the same share of the same {first.images:,} test images"
    counted = "" if first.compared == 1 else f", {_p(first.p_corrected)} corrected for {first.compared} comparisons"
    return (
        f"of the cells tested, {first.best.name} and {first.other.name} have the lowest validation losses; {distance} "
        f"(95 % interval {number(low)} to {number(high)}; "
        f"swaps within {first.patients:,} patients: {_p(first.p)}{counted}). {_judgement(first)}"
    )


def _judgement(first: Difference) -> str:
    said = "The difference is real" if first.real else "The difference may be chance"
    seeds = min(len(first.best.rows), len(first.other.rows))
    if seeds == 1:
        return f"{said} between these trained models; another seed may change the order."
    return f"{said}, with the mean of {seeds} seeds for each."


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
