"""How much a recalibration depends on the patients that it is made with: an evaluation's images, many choices.

    hemo evaluate --config conf/evaluate/chest_xray.yaml --checkpoint RECORD --out RECORDS
    python benchmarks/recalibration_seeds.py --records RECORDS

Prints a table in Markdown: mean of the other patients' metrics over the choices, with the 10th and 90th percentile.
Binary checkpoints; seconds.
"""

import argparse

import numpy as np
import pyarrow as pa

from hemo.curation.evaluated_rows import recalibrated_on
from hemo.stats.calibration import LabelledLogits
from hemo.stats.reliability import probability_metrics
from hemo.trials.evaluation import EvaluationRecord, read_evaluated_images, read_evaluations, recalibrate
from hemo.trials.predictions import Scores, matrix, scores_of

FRACTIONS, CHOICES = (0.2, 0.4, 0.6), 100
COLUMNS = ("mean - prevalence", "ECE", "Brier", "sensitivity", "specificity")


def main(argv: list[str] | None = None) -> None:
    """Print the table of the first evaluation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", required=True)
    records = parser.parse_args(argv).records
    record = read_evaluations(records)[0]
    rows = read_evaluated_images(records, record).combine_chunks()
    print(f"| patients | probabilities | {' | '.join(COLUMNS)} |\n|{' --- |' * (2 + len(COLUMNS))}")
    for fraction in FRACTIONS:
        found: dict[str, list[list[float]]] = {}
        for seed in range(CHOICES):
            for name, scores in once(rows, record, fraction, seed).items():
                found.setdefault(name, []).append(metrics(scores))
        for name, values in found.items():
            low, high = np.quantile(values, (0.1, 0.9), axis=0)
            triples = zip(np.mean(values, axis=0), low, high, strict=True)
            cells = [f"{mean:.3f} ({lowest:.3f} to {highest:.3f})" for mean, lowest, highest in triples]
            print(f"| {fraction:.0%} | {name} | {' | '.join(cells)} |")


def once(rows: pa.Table, record: EvaluationRecord, fraction: float, seed: int) -> dict[str, Scores]:
    """Return the scores of the other patients, as is and recalibrated on these in two ways."""
    chosen = recalibrated_on(rows["patient"].combine_chunks(), fraction, seed)
    own, others = (rows.filter(pa.array(mask)).combine_chunks() for mask in (chosen, ~chosen))
    checkpoint, patients = record.checkpoint, np.array(own["patient"].to_pylist())
    labelled = LabelledLogits(matrix(own, "logits"), matrix(own, "labels"), patients, exclusive=False)
    readouts = {"as is": (checkpoint.calibration, checkpoint.thresholds)}
    for choice in ("temperature", "platt"):
        readouts[choice] = recalibrate(choice, labelled, checkpoint.classes, checkpoint.operating_point)
    return {
        name: scores_of(others, exclusive=False, calibration=calibration, thresholds=thresholds)
        for name, (calibration, thresholds) in readouts.items()
    }


def metrics(scores: Scores) -> list[float]:
    """Return `COLUMNS` of the first class."""
    probabilities, labels, predicted = scores.probabilities[:, 0], scores.labels[:, 0], scores.predicted[:, 0]
    found = probability_metrics(probabilities, labels)
    rates = (predicted[labels == 1].mean(), 1 - predicted[labels == 0].mean())
    return [found.mean_probability - found.prevalence, found.calibration_error, found.brier, *map(float, rates)]


if __name__ == "__main__":
    main()
