"""How near calibrated probabilities come to the true ones, and what intervals of predictive values cover, simulated.

    python benchmarks/bench_calibration.py

Prints tables in Markdown. Half a minute on one core.

The simulation: a patient has 1 + Poisson(4) images, all with one label. An image gives evidence whose log likelihood
ratio is known: normal with mean +-d^2/2 and variance d^2, so that AUROC is Phi(d / sqrt(2)). A network trained on a
sample with prevalence 1/2 has the logit `temperature x ratio`; the true probability in the population is the sigmoid of
`ratio + logit(prevalence)`. Calibrations are fitted on validation patients of the population, and compared with the
truth on 20,000 other images.
"""

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, logit, ndtr

from hemo.stats.calibration import (
    Calibration,
    LabelledLogits,
    SampledClass,
    TrainPrior,
    calibrated_logits,
    fit_calibration,
    smoothed_targets,
    to_probabilities,
)
from hemo.stats.intervals import Interval
from hemo.stats.operating_points import decision_curve, threshold_rates

DISTANCE = 2.0
"""AUROC 0.92."""
TEST_IMAGES = 20_000
SUBTYPE = 0.3
"""Part of the images of the sampled class that have the subtype."""


def main(argv: list[str] | None = None) -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200, help="simulations a row of the first two tables")
    parser.add_argument("--splits", type=int, default=1000, help="simulations a row of the third")
    given = parser.parse_args(argv)
    for title, rows in (
        ("One class sampled 1 : 1: mean distance to the true probability", errors(given.repeats)),
        ("A subtype of the sampled class", subtype_errors(given.repeats)),
        ("Coverage of 95 % intervals at a prevalence of 0.05", coverage(given.splits)),
    ):
        lines = list(rows)
        print(f"\n## {title}\n\n{lines[0]}\n|{' --- |' * (lines[0].count('|') - 1)}")
        print("\n".join(lines[1:]))


def simulate(
    patients: int, prevalence: float, temperature: float, generator: np.random.Generator
) -> tuple[LabelledLogits, NDArray[np.float64]]:
    """Return logits as trained at 1 : 1, and the true probability of each image in the population."""
    images = 1 + generator.poisson(4, patients)
    labels = np.repeat(generator.random(patients) < prevalence, images).astype(np.uint8)
    ratio = generator.normal(np.where(labels == 1, DISTANCE**2 / 2, -(DISTANCE**2) / 2), DISTANCE)
    numbers = np.repeat(np.arange(patients), images)
    split = LabelledLogits((temperature * ratio)[:, None], labels[:, None], numbers, exclusive=False)
    return split, expit(ratio + logit(prevalence))


def prior_before_temperature(split: LabelledLogits, sampled: SampledClass) -> Calibration:
    """Return the other order: the prior is corrected first and the sum is divided by the temperature."""
    targets, logits = smoothed_targets(split)[:, 0], split.logits[:, 0] + sampled.log_odds

    def loss(log_slope: float) -> float:
        scaled = np.exp(log_slope) * logits
        return -float((targets * log_expit(scaled) + (1 - targets) * log_expit(-scaled)).mean())

    slope = float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))
    return Calibration("platt", slopes=(slope,), intercepts=(slope * sampled.log_odds,))


def errors(repeats: int) -> Iterator[str]:
    """Yield the first table."""
    heads = ("as trained", "prior", "prior, then temperature", "temperature, then prior", "Platt")
    yield f"| prevalence | temperature | patients | {' | '.join(heads)} |"
    for prevalence in (0.05, 0.14):
        sampled = SampledClass(0, 0.5, prevalence, implied=True)
        prior = TrainPrior(sampled)
        methods: list[Callable[[LabelledLogits], Calibration]] = [
            lambda split: Calibration(),
            lambda split, sampled=sampled: Calibration("prior", "", (1.0,), (0.0,), sampled),
            lambda split, sampled=sampled: prior_before_temperature(split, sampled),
            lambda split, prior=prior: fit_calibration("temperature", split, prior, ["any"]),
            lambda split, prior=prior: fit_calibration("platt", split, prior, ["any"]),
        ]
        for temperature in (1.0, 2.0):
            for patients in (100, 400, 2000):
                found = []
                for seed in range(repeats):
                    generator = np.random.default_rng(seed)
                    validation, _ = simulate(patients, prevalence, temperature, generator)
                    test, truth = simulate(TEST_IMAGES // 5, prevalence, temperature, generator)
                    found.append([distance(method(validation), test, truth) for method in methods])
                cells = " | ".join(f"{value:.4f}" for value in np.mean(found, axis=0))
                yield f"| {prevalence} | {temperature:g} | {patients} | {cells} |"


def distance(calibration: Calibration, split: LabelledLogits, truth: NDArray[np.float64]) -> float:
    """Return the mean distance of calibrated probabilities of the last class to the true ones."""
    final = to_probabilities(calibrated_logits(split.logits, calibration, exclusive=False), exclusive=False)
    return float(np.abs(final[:, -1] - truth).mean())


def subtype_errors(repeats: int) -> Iterator[str]:
    """Yield the second table: a class that implies the sampled one, by each way of correcting it."""
    yield "| prevalence of any | patients | as trained | own prevalence | p' = p p_any' / p_any | Platt |"
    for prevalence in (0.05, 0.14):
        sampled = SampledClass(0, 0.5, prevalence, implied=True)
        own = SampledClass(1, 0.5 * SUBTYPE, prevalence * SUBTYPE, implied=False)
        ones, zeros = (1.0, 1.0), (0.0, 0.0)
        for patients in (400, 2000):
            found = []
            for seed in range(repeats):
                generator = np.random.default_rng(seed)
                validation, _ = with_subtype(patients, prevalence, generator)
                test, truth = with_subtype(TEST_IMAGES // 5, prevalence, generator)
                ways = [
                    Calibration(),
                    Calibration("prior", "", ones, zeros, own),
                    Calibration("prior", "", ones, zeros, sampled),
                    fit_calibration("platt", validation, TrainPrior(sampled), ["any", "subtype"]),
                ]
                found.append([distance(way, test, truth) for way in ways])
            cells = " | ".join(f"{value:.4f}" for value in np.mean(found, axis=0))
            yield f"| {prevalence} | {patients} | {cells} |"


def with_subtype(
    patients: int, prevalence: float, generator: np.random.Generator
) -> tuple[LabelledLogits, NDArray[np.float64]]:
    """Return logits of `any` and a subtype, calibrated for a sample of 1 : 1, and the subtype's true probability.

    Evidence of the subtype among the images of `any` is of its own: P(subtype) = P(any) P(subtype | any).
    """
    split, any_truth = simulate(patients, prevalence, 1.0, generator)
    rows = len(split.labels)
    shown = (split.labels[:, 0] == 1) & (generator.random(rows) < SUBTYPE)
    evidence = generator.normal(np.where(shown, DISTANCE**2 / 2, -(DISTANCE**2) / 2), DISTANCE)
    of_any = expit(evidence + logit(SUBTYPE))
    subtype_logits = logit(np.clip(expit(split.logits[:, 0]) * of_any, 1e-12, 1 - 1e-12))
    logits = np.stack([split.logits[:, 0], subtype_logits], axis=1)
    labels = np.stack([split.labels[:, 0], shown], axis=1).astype(np.uint8)
    return LabelledLogits(logits, labels, split.patients, exclusive=False), any_truth * of_any


def coverage(splits: int) -> Iterator[str]:
    """Yield the third table: predictive values and net benefit at a threshold of 0.2, at another prevalence."""
    yield "| patients | prevalence of the images | shown | PPV | NPV | net benefit |"
    wanted, threshold = 0.05, 0.2
    for patients in (30, 100, 300):
        for prevalence in (0.14, 0.5):
            cut = logit(threshold) - logit(prevalence)
            sensitivity, specificity = (ndtr((DISTANCE**2 / 2 - sign * cut) / DISTANCE) for sign in (1, -1))
            right, wrong = wanted * sensitivity, (1 - wanted) * (1 - specificity)
            missed = wanted * (1 - sensitivity)
            truths = (right / (right + wrong), 1 - missed / (missed + (1 - wanted) * specificity))
            benefit = right - wrong * threshold / (1 - threshold)
            inside = []
            for seed in range(splits):
                split, probabilities = simulate(patients, prevalence, 1.0, np.random.default_rng(seed))
                labels, numbers = split.labels[:, 0], np.asarray(split.patients)
                rates = threshold_rates(probabilities > threshold, labels, numbers, wanted)
                if rates is None or rates.ppv is None or rates.npv is None or rates.ppv.ends is None:
                    continue
                (point,) = decision_curve(probabilities, labels, numbers, [threshold], wanted)
                pairs = zip((rates.ppv, rates.npv, point.model), (*truths, benefit), strict=True)
                inside.append([covers(interval, truth) for interval, truth in pairs])
            cells = " | ".join(f"{100 * value:.1f}" for value in np.mean(inside, axis=0))
            yield f"| {patients} | {prevalence} | {len(inside) / splits:.0%} | {cells} |"


def covers(interval: Interval, truth: float) -> bool:
    """Return whether an interval holds the truth."""
    low, high = interval.ends or (np.nan, np.nan)
    return bool(low <= truth <= high)


if __name__ == "__main__":
    main()
