"""What the intervals cover, how often the verdict is wrong, and what a report costs, on simulated patients.

    python benchmarks/bench_statistics.py

Prints tables in Markdown: coverage of 95 % intervals, false wins among pairs of equal models, the optimism of a chosen
trial before and after correction, and the time for the records of a large grid. About 15 minutes on one core.

The simulation: a patient has 1 + Poisson(mean - 1) images. Labels are beta-binomial: each patient has a prevalence of
its own from a beta distribution whose mean is the prevalence and whose parameters add up to 1/correlation - 1, so that
two labels of a patient have that correlation. A score is `distance x label + sqrt(correlation) x patient +
sqrt(1 - correlation) x image` with normal effects of the patient and the image: two scores of a patient with equal
labels have that correlation, AUROC of images of different patients is Phi(distance / sqrt(2)), and the threshold is
half the distance, so that recall, specificity, accuracy and balanced accuracy are all Phi(distance / 2). A second model
shares a part of both effects; it is equal to the first in truth. The cells with 30 images a patient are like the slices
of a head CT.
"""

import argparse
import itertools
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from hemo.config.trial import TrialConfig
from hemo.config.tune import changed
from hemo.reporting.comparison import compare_trials
from hemo.stats import SIGNIFICANCE
from hemo.stats.auroc import auroc
from hemo.stats.bootstrap import corrected_choice, patient_draws, resampled_means, resampled_ranking
from hemo.stats.crossed import (
    Differences,
    Measured,
    compare_cells,
    measured_auroc,
    measured_by_resampling,
    pair_degrees,
)
from hemo.stats.intervals import Interval, balanced_accuracy_interval, proportion_interval, rate_interval
from hemo.trials.record import PREDICTION_SCHEMA, TrialRecord, write_record

SHARED = 0.7
"""Part of the variance of both effects that two models have in common: their scores are correlated as those of two
networks trained on the same images."""
RESAMPLES = 200
"""Of patients, in simulations that resample; a report takes 1,000."""
LIMITS = (0.93, 0.98)
"""Coverage between which an interval keeps its word."""


class Cell(NamedTuple):
    """One setting of the simulation."""

    area: float  # true AUROC
    patients: int
    prevalence: float
    correlation: float  # within patients, of labels and of scores
    images: int = 5  # of a patient, on average


CELLS = [Cell(*cell) for cell in itertools.product((0.8, 0.95), (30, 100, 300), (0.1, 0.5), (0.0, 0.3))]
CELLS += [Cell(0.95, patients, prevalence, 0.3, 30) for patients in (30, 100) for prevalence in (0.1, 0.5)]
CELLS += [Cell(0.8, patients, prevalence, 0.3, 10) for patients in (10, 20) for prevalence in (0.1, 0.5)]


@dataclass(frozen=True, eq=False)
class Images:
    """Simulated images; scores of shape (images, models)."""

    patients: NDArray[np.int64]
    labels: NDArray[np.uint8]  # (images, 1)
    scores: NDArray[np.float64]


def distance(cell: Cell) -> float:
    """Return by how much positives score higher, in standard deviations."""
    return float(np.sqrt(2) * ndtri(cell.area))


def simulate(
    cell: Cell, generator: np.random.Generator, models: int = 1, sizes: NDArray[np.int64] | None = None
) -> Images:
    """Draw the images of one split, as the head of this file says; of patients with `sizes` images, where given."""
    patients, labels = simulated_labels(cell, generator, sizes)
    effects = [_effects(cell.patients, models, generator)[patients], _effects(len(patients), models, generator)]
    noise = np.sqrt(cell.correlation) * effects[0] + np.sqrt(1 - cell.correlation) * effects[1]
    return Images(patients, labels[:, None].astype(np.uint8), distance(cell) * labels[:, None] + noise)


def simulated_labels(
    cell: Cell, generator: np.random.Generator, sizes: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Draw patient and label of the images of one split, two arrays of shape (images,)."""
    if sizes is None:
        sizes = 1 + generator.poisson(cell.images - 1, cell.patients)
    patients = np.repeat(np.arange(cell.patients), sizes)
    own = np.full(cell.patients, cell.prevalence)
    if cell.correlation:
        total = 1 / cell.correlation - 1
        own = generator.beta(cell.prevalence * total, (1 - cell.prevalence) * total, cell.patients)
    return patients, generator.random(len(patients)) < own[patients]


def _effects(count: int, models: int, generator: np.random.Generator) -> NDArray[np.float64]:
    common, own = generator.normal(size=(count, 1)), generator.normal(size=(count, models))
    return np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own


def coverage(cell: Cell, rounds: int, seed: int) -> dict[str, list[bool]]:
    """Return for each metric and round with an interval whether it covers the truth."""
    generator = np.random.default_rng(seed)
    right = float(ndtr(distance(cell) / 2))
    covered: dict[str, list[bool]] = defaultdict(list)
    for _ in range(rounds):
        images = simulate(cell, generator)
        for name, interval in _intervals(images, distance(cell) / 2):
            truth = cell.area if name.startswith("AUROC") else right
            if interval.ends:
                covered[name].append(interval.ends[0] <= truth <= interval.ends[1])
    return covered


def _intervals(images: Images, threshold: float) -> Iterator[tuple[str, Interval]]:
    labels, predicted = images.labels[:, 0] == 1, images.scores[:, 0] > threshold
    yield "accuracy", proportion_interval(predicted == labels, images.patients)
    for name, label in (("recall", 1), ("specificity", 0)):
        if rate := rate_interval(predicted == label, images.labels[:, 0], images.patients, label):
            yield name, rate
    if balanced := balanced_accuracy_interval(predicted[:, None], images.labels, images.patients):
        yield "balanced accuracy", balanced
    if area := auroc(images.scores, images.labels, images.patients):
        yield "AUROC", area.interval()


def percentile_coverage(cell: Cell, rounds: int, seed: int) -> dict[str, list[bool]]:
    """Return the same of the percentile bootstrap of patients, which hemo used before, for comparison."""
    generator = np.random.default_rng(seed)
    right = float(ndtr(distance(cell) / 2))
    covered: dict[str, list[bool]] = defaultdict(list)
    draws = patient_draws(cell.patients, RESAMPLES, seed)
    for _ in range(rounds):
        images = simulate(cell, generator)
        hits = (images.scores[:, 0] > distance(cell) / 2) == (images.labels[:, 0] == 1)
        covered["accuracy"].append(_within(resampled_means(hits, images.patients, draws), right))
        area = auroc(images.scores, images.labels, images.patients)
        if area is not None and not area.reason:
            resampled = resampled_ranking(images.scores, images.labels, images.patients, draws)[0]
            covered["AUROC"].append(_within(resampled, cell.area))
    return covered


def _within(resampled: NDArray[np.float64], truth: float) -> bool:
    low, high = np.nanquantile(resampled, [SIGNIFICANCE / 2, 1 - SIGNIFICANCE / 2])
    return bool(low <= truth <= high)


def equal_pairs(cell: Cell, pairs: int, seed: int) -> dict[str, list[bool]]:
    """Return for each pair of equal models which tests declare a difference, and which intervals cover 0."""
    generator = np.random.default_rng(seed)
    found: dict[str, list[bool]] = defaultdict(list)
    draws = patient_draws(cell.patients, RESAMPLES, seed)
    for _ in range(pairs):
        images = simulate(cell, generator, models=2)
        columns = images.scores[:, :1], images.scores[:, 1:]
        areas = [auroc(scores, images.labels, images.patients) for scores in columns]
        if areas[0] is None or areas[1] is None or areas[0].reason:
            continue
        known = [area for area in areas if area]
        resampled = [resampled_ranking(scores, images.labels, images.patients, draws) for scores in columns]
        resampled_areas, resampled_precisions = (np.array([each[at] for each in resampled]) for at in range(2))
        degrees = pair_degrees(known)
        precisions = [_average_precision(scores, images) for scores in columns]
        losses = _log_losses(images, cell).T
        resampled_losses = np.array([resampled_means(each, images.patients, draws) for each in losses])
        by_delong = _two(measured_auroc(known), degrees)
        by_bootstrap = _two(measured_by_resampling([area.value for area in known], resampled_areas), degrees)
        precision = _two(measured_by_resampling(precisions, resampled_precisions), degrees)
        loss = _two(measured_by_resampling(losses.mean(axis=1), resampled_losses), cell.patients - 1.0)
        found["verdict, DeLong"].append(bool(by_delong.significant[0]))
        found["verdict, bootstrap"].append(bool(by_bootstrap.significant[0]))
        for name, each in (("AUROC", by_delong), ("AP", precision), ("log loss", loss)):
            found[f"{name} difference"].append(bool(abs(each.values[0]) <= each.half_widths[0]))
    return found


def _two(measured: Measured, degrees: NDArray[np.float64] | float) -> Differences:
    """Compare two models, each a cell of one seed."""
    return compare_cells(measured, np.arange(2), degrees)


def _average_precision(scores: NDArray[np.float64], images: Images) -> float:
    ones = np.ones((int(images.patients.max()) + 1, 1))
    return float(resampled_ranking(scores, images.labels, images.patients, ones)[1][0])


def _log_losses(images: Images, cell: Cell) -> NDArray[np.float64]:
    """Return the log loss of each image and model, with the probabilities that Bayes' rule gives for the scores."""
    prior = np.log(cell.prevalence / (1 - cell.prevalence))
    logits = distance(cell) * (images.scores - distance(cell) / 2) + prior
    return np.asarray(np.logaddexp(0, np.where(images.labels == 1, -logits, logits)))


def macro(patients: int, rounds: int, seed: int) -> dict[str, list[bool]]:
    """Return coverage of the mean AUROC of three classes (prevalence .5, .2, .1), and false wins on it."""
    generator = np.random.default_rng(seed)
    cells = [Cell(0.9, patients, prevalence, 0.3) for prevalence in (0.5, 0.2, 0.1)]
    found: dict[str, list[bool]] = defaultdict(list)
    draws = patient_draws(patients, RESAMPLES, seed)
    for _ in range(rounds):
        sizes = 1 + generator.poisson(cells[0].images - 1, patients)
        parts = [simulate(cell, generator, models=2, sizes=sizes) for cell in cells]
        labels = np.hstack([part.labels for part in parts])
        models = [np.stack([part.scores[:, k] for part in parts], axis=1) for k in range(2)]
        areas = [auroc(scores, labels, parts[0].patients) for scores in models]
        if areas[0] is None or areas[1] is None or areas[0].reason or len(areas[0].contributions) < 6:
            continue
        low, high = areas[0].interval().ends or (np.nan, np.nan)
        found["mean AUROC"].append(bool(low <= cells[0].area <= high))
        known = [area for area in areas if area]
        resampled = np.array([resampled_ranking(scores, labels, parts[0].patients, draws)[0] for scores in models])
        by_bootstrap = measured_by_resampling([area.value for area in known], resampled)
        for name, measured in (("DeLong", measured_auroc(known)), ("bootstrap", by_bootstrap)):
            verdict = _two(measured, pair_degrees(known)).significant[0]
            found[f"verdict, {name}"].append(bool(verdict))
    return found


def thresholds_of_two_validations(pairs: int, seed: int) -> tuple[int, int]:
    """Return in how many pairs identical scores, with thresholds from two validation splits, are declared different.

    Test has 200 patients of 5 images, validation 15 patients each; prevalence 0.1, AUROC 0.96.

    Returns:
        By the sign of accuracies (the accuracy of one outside the other's interval), as a threshold would be judged;
        and by the verdict on AUROC.
    """
    generator = np.random.default_rng(seed)
    cell = Cell(0.96, 200, 0.1, 0.0)
    by_accuracy = by_verdict = 0
    for _ in range(pairs):
        test = simulate(cell, generator)
        labels = test.labels[:, 0] == 1
        predicted = [
            test.scores[:, 0] > _best_threshold(simulate(cell._replace(patients=15), generator)) for _ in range(2)
        ]
        first, second = (proportion_interval(each == labels, test.patients) for each in predicted)
        low, high = first.ends or (0.0, 1.0)
        by_accuracy += not low <= second.value <= high
        area = auroc(test.scores, test.labels, test.patients)
        if area:
            by_verdict += bool(_two(measured_auroc([area, area]), pair_degrees([area, area])).significant[0])
    return by_accuracy, by_verdict


def _best_threshold(images: Images) -> float:
    """Return the score above which balanced accuracy is highest."""
    order = np.argsort(images.scores[:, 0])
    positive = images.labels[order, 0] == 1
    recall = 1 - np.cumsum(positive) / max(1, positive.sum())
    specificity = np.cumsum(~positive) / max(1, (~positive).sum())
    return float(images.scores[order[np.argmax(recall + specificity)], 0])


def optimism(patients: int, trials: int, rounds: int, seed: int) -> tuple[float, float, float]:
    """Return the true AUROC of equal trials, and the mean of the best one's on validation and after correction."""
    generator = np.random.default_rng(seed)
    cell = Cell(0.8, patients, 0.3, 0.3)
    draws = patient_draws(patients, RESAMPLES, seed)
    weights = np.hstack([np.ones((patients, 1)), draws, draws == 0])
    plain, corrected = [], []
    for _ in range(rounds):
        images = simulate(cell, generator, models=trials)
        columns = [images.scores[:, k : k + 1] for k in range(trials)]
        values = np.stack(
            [resampled_ranking(each, images.labels, images.patients, weights)[0] for each in columns], axis=1
        )
        plain.append(values[0].max())
        corrected.append(corrected_choice(values[1 : 1 + RESAMPLES], values[1 + RESAMPLES :], less_is_better=False))
    return cell.area, float(np.mean(plain)), float(np.mean([each for each in corrected if each is not None]))


def seconds_of_report(trials: int, images: int, patients: int, seeds: int = 1) -> float:
    """Return the CPU time to read and compare the records of a grid of binary trials, cells of `seeds` trials each."""
    cell = Cell(0.9, patients, 0.1, 0.3, images // patients)
    with tempfile.TemporaryDirectory(prefix="hemo-bench-") as folder:
        split = simulate(cell, np.random.default_rng(0), models=trials)
        records = [_write_trial(folder, split, number, seeds) for number in range(trials)]
        began = time.process_time()
        compare_trials(records, folder, samples=1000, seed=0)
        return time.process_time() - began


def _write_trial(folder: str, images: Images, number: int, seeds: int) -> TrialRecord:
    count = len(images.labels)
    columns = {
        "image_id": [f"i{row:06d}" for row in range(count)],
        "patient": [f"p{patient:05d}" for patient in images.patients],
        "pixel_format": ["u12"] * count,
        "labels": images.labels.tolist(),
        "logits": images.scores[:, number : number + 1].tolist(),
    }
    splits = [pa.table({"split": [split] * count, **columns}, schema=PREDICTION_SCHEMA) for split in ("val", "test")]
    changes = {"model.dense_width": number // seeds + 1, "seed": number % seeds}
    config = changed(TrialConfig(), changes, origin="bench")
    record = TrialRecord(
        digest=f"{number:016x}",
        status="complete",
        config=config,
        classes=("any",),
        training_set="0" * 16,
        split="by_patient",
        thresholds=(0.5,),
        metrics={"val": {"loss": 0.3 + number / 1000}, "test": {"loss": 0.3}},
    )
    write_record(folder, record, pa.concat_tables(splits))
    return record


def main() -> None:
    """Print all tables."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=2000, help="simulated splits of each cell")
    arguments.add_argument("--pairs", type=int, default=1000, help="pairs of equal models of each cell")
    arguments.add_argument("--trials", type=int, default=200, help="trials of the timed report")
    given = arguments.parse_args()
    print("## Coverage of 95 % intervals, %\n")
    print_coverage(coverage, ("AUROC", "balanced accuracy", "accuracy", "recall", "specificity"), given.rounds)
    print("\n## The percentile bootstrap of patients, for comparison, %\n")
    print_coverage(percentile_coverage, ("AUROC", "accuracy"), given.rounds // 2)
    print("\n## Pairs of equal models: false wins, and coverage of the difference 0, %\n")
    differences = ("AUROC difference", "AP difference", "log loss difference")
    print_coverage(equal_pairs, ("verdict, DeLong", "verdict, bootstrap", *differences), given.pairs)
    print("\n## Mean AUROC of three classes: coverage, and false wins, %\n")
    for patients in (30, 100, 300):
        found = macro(patients, given.pairs, patients)
        print(f"- {patients} patients: {', '.join(f'{name} {percent(found[name], name)}' for name in found)}")
    by_accuracy, by_verdict = thresholds_of_two_validations(given.pairs, 0)
    print("\n## Identical scores, thresholds from two validation splits\n")
    print(f"Of {given.pairs} pairs {by_accuracy} differ in accuracy beyond its interval, {by_verdict} by the verdict.")
    print("\n## AUROC on validation of the best of equal trials\n")
    print("| patients | trials | true | chosen | corrected |\n| --- | --- | --- | --- | --- |")
    for patients, trials in itertools.product((30, 100), (5, 50)):
        values = optimism(patients, trials, given.pairs // 10, 0)
        print(f"| {patients} | {trials} | {' | '.join(f'{value:.3f}' for value in values)} |")
    seconds = seconds_of_report(given.trials, 20_000, 1000)
    print(f"\n{given.trials} trials, 20,000 images of 1,000 patients: {seconds:.0f} s of one core")


def print_coverage(
    simulated: Callable[[Cell, int, int], dict[str, list[bool]]], names: Sequence[str], rounds: int
) -> None:
    """Print a table with a row for each cell of the simulation."""
    head = ("AUROC", "patients", "images each", "prevalence", "correlation", "shown", *names)
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for number, cell in enumerate(CELLS):
        found = simulated(cell, rounds, number)
        shown = len(found[names[0]]) / rounds
        values = (cell.area, cell.patients, cell.images, cell.prevalence, cell.correlation, f"{shown:.0%}")
        print(
            f"| {' | '.join(map(str, values))} | {' | '.join(percent(found[name], name) for name in names)} |",
            flush=True,
        )


def percent(found: Sequence[bool], name: str) -> str:
    """Return a percentage, bold where it lies outside its limits by more than Monte Carlo error."""
    if not found:
        return "-"
    fraction = float(np.mean(found))
    error = 1.96 * np.sqrt(max(fraction * (1 - fraction), 1 / len(found)) / len(found))
    low, high = (0.0, SIGNIFICANCE) if name.startswith("verdict") else LIMITS
    text = f"{100 * fraction:.1f}"
    return text if low - error <= fraction <= high + error else f"**{text}**"


if __name__ == "__main__":
    main()
