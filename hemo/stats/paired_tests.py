"""Paired comparison of two models on the same images: sign-flip permutation test, Holm's correction, interval."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hemo.stats.intervals import Interval, percentile_interval

EXACT_PATIENTS = 14
"""Patients up to which all 2^n sign flips are evaluated instead of a random sample of them."""
ROUNDING = 1e-9
"""Sums that differ by less are ties."""


def sign_flip_p(differences: NDArray[np.float64], samples: int, seed: int) -> float:
    """Return the p-value of a two-sided sign-flip permutation test, clustered by patient.

    Under the null hypothesis the two models are exchangeable within each patient, so that each patient's difference has
    either sign with equal probability. The p-value is the fraction of sign flips whose |sum| is at least the observed
    one: of all flips up to `EXACT_PATIENTS` patients with a difference, else of a random sample and the observed sum.

    Args:
        differences: Images classified correctly by one model minus those by the other, for each patient, shape
            (patients,).
        samples: Number of random sign flips where there are too many to evaluate all.
        seed: Of the random generator.

    Source:
        Phipson and Smyth, Permutation p-values should never be zero, Stat. Appl. Genet. Mol. Biol. 9 (2010).
    """
    differing = differences[differences != 0]
    observed = abs(float(differing.sum())) - ROUNDING
    if len(differing) <= EXACT_PATIENTS:
        signs = np.array(list(itertools.product((-1, 1), repeat=len(differing))), np.float64)
        return float((np.abs(signs @ differing) >= observed).mean())
    generator = np.random.default_rng(seed)
    reached = sum(
        abs(float(generator.choice((-1.0, 1.0), size=len(differing)) @ differing)) >= observed for _ in range(samples)
    )
    return (1 + reached) / (1 + samples)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for multiple comparisons, in the order of `p_values`.

    The smallest is multiplied by their number, the next by one less, and so on; none is less than a smaller one's.

    Source:
        Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6 (1979).
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def difference_interval(
    differences: NDArray[np.float64], images: NDArray[np.int64], draws: NDArray[np.int64]
) -> Interval:
    """Return the difference of two accuracies with its percentile interval over resampled patients.

    Args:
        differences: As `sign_flip_p` takes them, shape (patients,).
        images: Images of each patient, shape (patients,).
        draws: How often each patient was drawn, shape (samples, patients).
    """
    return percentile_interval(float(differences.sum() / images.sum()), (draws @ differences) / (draws @ images))
