"""Two models on the same images: how far apart, how surely, and what many comparisons do to that."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hemo.stats.intervals import Interval, percentile

EXACT_PATIENTS = 14
"""Patients up to which all 2^n changes of sign are gone through instead of a sample of them."""
ROUNDING = 1e-9
"""Sums that differ by less are ties."""


def sign_flip_p(differences: NDArray[np.float64], samples: int, seed: int) -> float:
    """Return the two-sided p-value of a permutation test that swaps the two models within patients.

    Were the models alike, each patient's difference would as soon have the other sign. The p-value is the share of
    changes of sign whose sum lies at least as far from 0 as the sum found; exact up to `EXACT_PATIENTS` patients that
    differ, else of a sample that counts what was found as one of it.

    Args:
        differences: Images right by one model minus those by the other, of each patient, shape (patients,).
        samples: Changes of sign to draw where there are too many to go through.
        seed: Of the draw.

    Source:
        Phipson and Smyth, Permutation p-values should never be zero, Stat. Appl. Genet. Mol. Biol. 9 (2010).
    """
    differing = differences[differences != 0]
    found = abs(float(differing.sum())) - ROUNDING
    if len(differing) <= EXACT_PATIENTS:
        signs = np.array(list(itertools.product((-1, 1), repeat=len(differing))), np.float64)
        return float((np.abs(signs @ differing) >= found).mean())
    generator = np.random.default_rng(seed)
    reached = sum(
        abs(float(generator.choice((-1.0, 1.0), size=len(differing)) @ differing)) >= found for _ in range(samples)
    )
    return (1 + reached) / (1 + samples)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, in the order given.

    The smallest is multiplied by their number, the next by one less, and so on; none is less than a smaller one's.

    Source:
        Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6 (1979).
    """
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def difference_interval(
    differences: NDArray[np.float64], images: NDArray[np.int64], draws: NDArray[np.int64]
) -> Interval:
    """Return the difference of two accuracies with its percentile interval over resampled patients.

    Args:
        differences: As `sign_flip_p` has them, shape (patients,).
        images: Images of each patient, shape (patients,).
        draws: How often each patient was drawn, shape (samples, patients).
    """
    return percentile(float(differences.sum() / images.sum()), (draws @ differences) / (draws @ images))
