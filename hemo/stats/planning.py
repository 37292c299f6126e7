"""What it takes to tell two cells apart: power of their comparison, smallest difference it finds, seeds and patients.

The variance of a difference is taken apart into what patients alone, seeds alone, and both together add to it. Further
seeds divide the last two, further patients the first and the last.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtr, stdtrit

from hemo.stats.crossed import Differences, Floats, SeedVariance
from hemo.stats.intervals import combined_degrees

POWER = 0.8
"""Probability with which a planned comparison is to find the difference."""
ANY_NUMBER = 2.0**20
"""Further seeds, or multiple of the patients, that stand for any number of them."""
HALVINGS = 30
"""Steps of the search for a multiple of the patients: to far below a percent."""


@dataclass(frozen=True, eq=False)
class Design:
    """Pairs of cells with the variance components of their differences; pairs of arrays are of first and second cell.

    All arrays have the shape (pairs,).
    """

    seeds: tuple[NDArray[np.int64], NDArray[np.int64]]
    from_patients: Floats  # variance over the present patients that no number of seeds reduces
    noise: tuple[Floats, Floats]  # variance of one seed of each cell that seeds and patients reduce
    from_seeds: Floats  # variance of one seed of either cell that seeds alone reduce
    patient_degrees: Floats
    seed_degrees: float  # 0 where the variance over seeds is not known

    def power(self, true: Floats, level: float, further: Floats | float = 0.0, times: Floats | float = 1.0) -> Floats:
        """Return the probability that a comparison finds which cell is better, shape (pairs,).

        Args:
            true: The true difference of each pair.
            level: Two-sided significance level.
            further: Seeds that each of both cells gets.
            times: Factor of the number of patients.
        """
        variance, degrees = self._with(further, times)
        shift = np.divide(np.abs(true), np.sqrt(variance), out=np.full(len(variance), np.inf), where=variance > 0)
        limit = stdtrit(degrees, 1 - level / 2)
        missed = nctdtr(degrees, shift, limit)
        # NaN stands for a probability too small or large for the series behind it
        return np.asarray(np.where(np.isnan(missed), shift > limit, 1 - missed))

    def detectable(self, level: float) -> Floats:
        """Return the true difference that is found with the power `POWER`, near enough, shape (pairs,).

        Source:
            Julious, Sample sizes for clinical trials with normal data, Stat. Med. 23 (2004): sum of both quantiles.
        """
        variance, degrees = self._with(0.0, 1.0)
        return np.asarray((stdtrit(degrees, 1 - level / 2) + stdtrit(degrees, POWER)) * np.sqrt(variance))

    def further_seeds(self, true: Floats, level: float) -> Floats:
        """Return the fewest further seeds of each cell with which `POWER` is reached, shape (pairs,).

        0 where it is reached, infinite where patients limit it, NaN where the variance over seeds is not known.
        """
        if not self.seed_degrees:
            return np.full(len(true), np.nan)
        low, high = np.zeros(len(true)), np.full(len(true), ANY_NUMBER)
        while (low < high).any():
            middle = np.floor((low + high) / 2)
            enough = self.power(true, level, middle) >= POWER
            low, high = np.where(enough, low, np.minimum(middle + 1, high)), np.where(enough, middle, high)
        return np.where(high < ANY_NUMBER, high, np.inf)

    def times_patients(self, true: Floats, level: float) -> Floats:
        """Return the factor of the number of patients with which `POWER` is reached, shape (pairs,).

        1 where it is reached, infinite where seeds limit it, NaN where the variance over seeds is not known.
        """
        return self._times(true, level, seeds_too=False)

    def times_both(self, true: Floats, level: float) -> Floats:
        """Return the factor of both patients and seeds with which `POWER` is reached, as `times_patients`.

        Infinite only where the true difference is almost 0.
        """
        return self._times(true, level, seeds_too=True)

    def _times(self, true: Floats, level: float, *, seeds_too: bool) -> Floats:
        if not self.seed_degrees:
            return np.full(len(true), np.nan)
        low, high = np.zeros(len(true)), np.full(len(true), np.log(ANY_NUMBER))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            further = self.further_with(np.exp(middle)) if seeds_too else 0.0
            enough = self.power(true, level, further, np.exp(middle)) >= POWER
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        found = np.where(self.power(true, level) >= POWER, 1.0, np.exp(high))
        return np.where(high < np.log(ANY_NUMBER), found, np.inf)

    def further_with(self, times: Floats) -> Floats:
        """Return the further seeds that multiply those of the cell with fewer, rounded up to whole seeds."""
        return np.asarray(np.ceil((times - 1) * np.minimum(*self.seeds)))

    def of_pairs(self, pairs: Sequence[int]) -> "Design":
        """Return the design of some of the pairs, by their places."""
        chosen = list(pairs)
        return Design(
            (self.seeds[0][chosen], self.seeds[1][chosen]),
            self.from_patients[chosen],
            (self.noise[0][chosen], self.noise[1][chosen]),
            self.from_seeds[chosen],
            self.patient_degrees[chosen],
            self.seed_degrees,
        )

    def _with(self, further: Floats | float, times: Floats | float) -> tuple[Floats, Floats]:
        """Return variances and degrees of freedom of the differences with more seeds and patients."""
        first, second = (each + further for each in self.seeds)
        noise = (self.noise[0] / first + self.noise[1] / second) / times
        from_seeds = self.from_seeds * (1 / first + 1 / second)
        from_patients = self.from_patients / times + noise
        degrees = self.patient_degrees * times
        if self.seed_degrees:
            degrees = combined_degrees(from_patients, degrees, from_seeds, noise, self.seed_degrees + 2 * further)
        return from_patients + from_seeds, degrees


def design_of(differences: Differences, seeds: SeedVariance) -> Design:
    """Return the variance components of all pairs, as they were estimated."""
    counts = seeds.seeds[differences.first], seeds.seeds[differences.second]
    return Design(
        counts,
        np.maximum(0.0, differences.from_patients - differences.noise),
        (seeds.noise[differences.first], seeds.noise[differences.second]),
        differences.from_seeds / (1 / counts[0] + 1 / counts[1]),
        differences.patient_degrees,
        differences.seed_degrees,
    )
