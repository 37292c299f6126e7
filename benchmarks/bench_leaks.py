"""Whether the intervals of `hemo leaks` cover what a leak is worth, on simulated patients and a model of neighbours.

    python benchmarks/bench_leaks.py

Prints a table in Markdown. About six minutes on one core; needs neither torch nor Ray.

The simulation: a patient has two studies of four images; half of the patients are positive, and of their images a run
of about half. An image is a point in 16 dimensions: an effect of the patient, with the stated part of the variance, an
effect of the image, and a shift along one dimension where the label is positive. One patient in ten has an image in
common with another. The model scores an image by the labels of the images it learned, weighted by their distance: it
learns the shift, and remembers patients. Each corpus is drawn anew, split by `split_alike`, and evaluated by
`measured`, the functions that the job calls.
What a leak is worth in truth is its mean over all corpora; an interval is about the model and the patients of one
corpus, and the truth lies outside more often where models of different corpora differ.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hemo.curation.leak_splits import HOLDOUT, RULES, Fractions, Pool, read_pool, shuffle_labels, split_alike
from hemo.curation.split import TEST, TRAIN
from hemo.reporting.leak_table import CLEAN, MetricLeak, SeedScores, measured
from hemo.trials.predictions import Scores

STUDIES, IMAGES, DIMENSIONS = 2, 4, 16
SHIFT = 1.5
TWIN_EVERY = 10
FRACTIONS = Fractions(holdout=0.2, val=0.1, test=0.2)
NO_AUDIT = pa.table({name: pa.array([], pa.string()) for name in ("image_id", "patient", "linked_patient")})
ENDS = ("by_image", CLEAN)


def draw_corpus(patients: int, correlation: float, generator: np.random.Generator) -> tuple[Pool, NDArray[np.float64]]:
    """Return the images of a corpus, and their points, shape (images, dimensions)."""
    each = STUDIES * IMAGES
    count = patients * each
    patient, number = np.divmod(np.arange(count), each)
    begin = generator.integers(0, each, patients)[patient]
    positive = (generator.random(patients) < 0.5)[patient] & ((number - begin) % each < each // 2)
    effects = generator.normal(size=(patients, DIMENSIONS))[patient]
    points = np.sqrt(correlation) * effects + np.sqrt(1 - correlation) * generator.normal(size=(count, DIMENSIONS))
    points[:, 0] += SHIFT * positive
    digests = [f"{row:016d}".encode() for row in range(count)]
    for twin in range(1, patients, TWIN_EVERY):  # shows the first image of the patient before it
        here, there = twin * each, (twin - 1) * each
        points[here], positive[here], digests[here] = points[there], positive[there], digests[there]
    table = pa.table(
        {
            "image_id": [f"I{row}" for row in range(count)],
            "patient": [f"P{row}" for row in patient],
            "study": [f"P{row}-{which}" for row, which in zip(patient, number // IMAGES, strict=True)],
            "series": pa.array([None] * count, pa.string()),
            "position_mm": pa.array(number, pa.float32()),
            "flags": pa.array([[]] * count, pa.list_(pa.string())),
            "pixel_digest": pa.array(digests, pa.binary(16)),
            "label_any": pa.array(positive, pa.uint8()),
        }
    )
    return read_pool(table, NO_AUDIT, ("any",)), points


def predict(points: NDArray[np.float64], labels: NDArray[np.uint8], learned: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each image the weighted fraction of positives among the images learned, shape (images,)."""
    squares = (points**2).sum(axis=1)
    distance = squares[:, None] + squares[learned] - 2 * points @ points[learned].T
    weights = np.exp(-distance / 4)
    return np.asarray((weights @ labels[learned, 0] + 0.5e-9) / (weights.sum(axis=1) + 1e-9))


def scores_of(
    pool: Pool, labels: NDArray[np.uint8], probability: NDArray[np.float64], rows: NDArray[np.int64]
) -> Scores:
    """Return predictions of some images as those of a trial."""
    chosen = probability[rows, None]
    return Scores(
        patients=np.unique(pool.group[rows], return_inverse=True)[1],
        labels=labels[rows],
        scores=chosen.astype(np.float32),
        probabilities=chosen,
        predicted=chosen > 0.5,
        log_losses=np.zeros_like(chosen),
        pixel_formats=np.full(len(rows), "u8"),
        exclusive=False,
        images="",
    )


def leaks_of(pool: Pool, points: NDArray[np.float64], seed: int) -> Iterator[tuple[str, MetricLeak, MetricLeak]]:
    """Yield name, AUROC and accuracy of each arm."""
    splits = split_alike(pool, RULES, FRACTIONS, seed)
    shuffled = shuffle_labels(pool, seed)
    arms = [(rule, rule, pool.labels) for rule in RULES] + [(f"{rule} shuffled", rule, shuffled) for rule in ENDS]
    for name, rule, labels in arms:
        split = splits[rule]
        probability = predict(points, labels, np.flatnonzero(split == TRAIN))
        own, unseen = (scores_of(pool, labels, probability, np.flatnonzero(split == part)) for part in (TEST, HOLDOUT))
        found = measured([SeedScores(own, unseen)])
        if found["auroc"] and found["accuracy"]:
            yield name, found["auroc"], found["accuracy"]


def simulate(patients: int, correlation: float, corpora: int) -> dict[str, list[tuple[MetricLeak, MetricLeak]]]:
    """Return AUROC and accuracy of each arm in each corpus."""
    results: dict[str, list[tuple[MetricLeak, MetricLeak]]] = {}
    for seed in range(corpora):
        pool, points = draw_corpus(patients, correlation, np.random.default_rng([seed, patients]))
        for name, auroc, accuracy in leaks_of(pool, points, seed):
            results.setdefault(name, []).append((auroc, accuracy))
    return results


def covered(metrics: list[MetricLeak], truth: float) -> str:
    """Return how many intervals of the leak hold the truth, in per cent."""
    with_interval = [each.leak for each in metrics if each.leak.low is not None]
    return f"{100 * np.mean([leak.holds(truth) for leak in with_interval]):.1f}" if with_interval else "-"


def half_width(metrics: list[MetricLeak]) -> str:
    """Return the mean half-width of the intervals, in points."""
    widths = [each.leak.high - each.leak.low for each in metrics if each.leak.low is not None and each.leak.high]
    return f"{50 * np.mean(widths):.1f}" if widths else "-"


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpora", type=int, default=400)
    corpora, began = parser.parse_args().corpora, time.perf_counter()
    head = ("patients", "correlation", "split", "AUROC own / unseen", "leak", "covered, %", "half-width")
    print("| " + " | ".join((*head, "accuracy leak", "covered, %")) + " |")
    print("| --- " * (len(head) + 2) + "|")
    for patients in (60, 120, 300):
        for correlation in (0.3, 0.7):
            for name, found in simulate(patients, correlation, corpora).items():
                areas, accuracies = [area for area, _ in found], [accuracy for _, accuracy in found]
                own, unseen, leak = (
                    np.mean([getattr(each, side).value for each in areas]) for side in ("own", "unseen", "leak")
                )
                off = float(np.mean([each.leak.value for each in accuracies]))
                clean = name.startswith(CLEAN) and name != "by_patient_id"
                print(
                    f"| {patients} | {correlation} | {name} | {own:.3f} / {unseen:.3f} | {100 * leak:+.1f} | "
                    f"{covered(areas, 0.0 if clean else float(leak))} | {half_width(areas)} | {100 * off:+.1f} | "
                    f"{covered(accuracies, 0.0 if clean else off)} |"
                )
                if name == f"{CLEAN} shuffled":
                    chance = [each.own for each in areas if each.own.low is not None]
                    held = 100 * np.mean([each.holds(0.5) for each in chance])
                    print(f"| {patients} | {correlation} | {name}: own AUROC and 0.5 | | | {held:.1f} | | | |")
    print(f"\n{corpora} corpora a row, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
