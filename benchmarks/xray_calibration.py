"""What calibration and operating points repair on the official test images of the chest X-rays, and what they cannot.

    hemo convert --config conf/convert/chest_xray.yaml --source TRAIN_FOLDER --side_px 160 --out X/converted_train
    hemo convert --config conf/convert/chest_xray.yaml --source CORPUS --side_px 160 --out X/converted_all
    hemo curate --config conf/curate/chest_xray.yaml --shards X/converted_train --out X/by_patient
    hemo train --config conf/train/xray_160px.yaml --training_set X/by_patient --out X/records
    python benchmarks/xray_calibration.py --records X/records --converted X/converted_all

Prints tables in Markdown: a model trained on patients of the training folder, on other patients of that folder
(validation, test) and on the official test images, which come from other series. Seconds.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hemo.inference.predict import DeployedModel, stored_batches
from hemo.models.checkpoint import load_checkpoint
from hemo.models.weight_files import find_checkpoint
from hemo.reporting.table_format import number
from hemo.reporting.trial_row import estimate
from hemo.stats.auroc import auroc
from hemo.stats.calibration import (
    Calibration,
    LabelledLogits,
    TrainPrior,
    calibrated_logits,
    fit_calibration,
    to_probabilities,
)
from hemo.stats.choices import OperatingPoint
from hemo.stats.operating_points import choose_threshold, threshold_rates
from hemo.stats.reliability import calibration_slope, mean_difference, probability_metrics
from hemo.storage import join
from hemo.trials.predictions import split_rows
from hemo.trials.record import TrialRecord, read_predictions, read_records

RULES = (
    "balanced_accuracy",
    "sensitivity=0.95",
    "specificity=0.95",
    "specificity=0.99",
    "cost_ratio=0.2",
    "cost_ratio=5",
)
OFFICIAL = "official"
IN_TEST_FOLDER = "test/"


def main(argv: list[str] | None = None) -> None:
    """Print the tables of the first record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", required=True)
    parser.add_argument("--converted", required=True, help="conversion of the whole corpus")
    given = parser.parse_args(argv)
    (record,) = read_records(given.records)
    splits = {name: stored_split(given.records, record, name) for name in ("val", "test")}
    splits[OFFICIAL] = official_split(given.records, record, given.converted)
    calibrations = {
        "as trained": Calibration(),
        **{
            f"{choice} on {name}": fit_calibration(choice, splits[name], TrainPrior(), record.classes)
            for name, choice in (("val", "temperature"), ("val", "platt"), (OFFICIAL, "platt"))
        },
    }
    for title, rows in (
        ("Probabilities", probability_rows(splits, calibrations)),
        ("Operating points chosen on validation", point_rows(splits)),
        ("Act above 1 / (1 + cost ratio)", bayes_rows(splits, calibrations)),
    ):
        lines = list(rows)
        print(f"\n## {title}\n\n{lines[0]}\n|{' --- |' * (lines[0].count('|') - 1)}")
        print("\n".join(lines[1:]))
    for name, calibration in calibrations.items():
        print(f"\n{name}: {calibration.method}, slopes {calibration.slopes}, intercepts {calibration.intercepts}")


def stored_split(records: str, record: TrialRecord, name: str) -> LabelledLogits:
    """Return a split of a record."""
    rows = split_rows(read_predictions(records, record.digest), name)
    logits, labels = (np.array(rows[column].to_pylist()) for column in ("logits", "labels"))
    return LabelledLogits(logits, labels, _numbers(rows["patient"].to_pylist()), exclusive=False)


def official_split(records: str, record: TrialRecord, converted: str) -> LabelledLogits:
    """Return the predictions of a record's model on the test folder of the corpus."""
    model, card = load_checkpoint(find_checkpoint(join(records, record.digest)))
    deployed = DeployedModel(model, card)
    columns, logits = ["source_path", "source_class", "patient"], []
    classes, patients = list[str](), list[str]()
    for rows, images in stored_batches(join(converted, "shards"), card, columns):
        official = [row for row, path in enumerate(rows["source_path"].to_pylist()) if path.startswith(IN_TEST_FOLDER)]
        logits.append(deployed.predict(images[official])[0])
        classes += [rows["source_class"][row].as_py() for row in official]
        patients += [rows["patient"][row].as_py() for row in official]
    labels = np.array([name == record.classes[0] for name in classes], np.uint8)[:, None]
    return LabelledLogits(np.concatenate(logits), labels, _numbers(patients), exclusive=False)


def _numbers(patients: list[str]) -> NDArray[np.int64]:
    return np.unique(patients, return_inverse=True)[1]


@dataclass(frozen=True)
class Columns:
    """One class of a split, calibrated; arrays of shape (images,)."""

    probabilities: NDArray[np.float64]
    labels: NDArray[np.integer]
    patients: NDArray[np.int64]


def columns_of(split: LabelledLogits, calibration: Calibration) -> Columns:
    """Return the probabilities, labels and patients of the only class."""
    final = to_probabilities(calibrated_logits(split.logits, calibration, exclusive=False), exclusive=False)
    return Columns(final[:, 0], split.labels[:, 0], np.asarray(split.patients, np.int64))


def probability_rows(splits: dict[str, LabelledLogits], calibrations: dict[str, Calibration]) -> Iterator[str]:
    """Yield how far probabilities are from what occurred."""
    yield (
        "| images | calibration | AUROC (95 %) | mean - prevalence (95 %) | slope (95 %) | ECE | ECE, equal width | "
        "Brier | reliability | resolution | uncertainty | log loss |"
    )
    for split_name, split in splits.items():
        area = auroc(split.logits.astype(np.float32), split.labels, np.asarray(split.patients, np.int64))
        head = f"| {split_name}, {len(split.labels)} of {split.patient_count} patients |"
        for name, calibration in calibrations.items():
            part = columns_of(split, calibration)
            metrics = probability_metrics(part.probabilities, part.labels)
            cells = (
                name,
                estimate(area.interval() if area else None),
                estimate(mean_difference(part.probabilities, part.labels, part.patients), signed=True),
                estimate(calibration_slope(part.probabilities, part.labels, part.patients)),
                number(metrics.calibration_error, 3),
                number(metrics.calibration_error_equal_width, 3),
                number(metrics.brier, 4),
                *(number(value, 4) for value in (metrics.reliability, metrics.resolution, metrics.uncertainty)),
                number(metrics.log_loss, 3),
            )
            yield f"{head} {' | '.join(cells)} |"


def point_rows(splits: dict[str, LabelledLogits]) -> Iterator[str]:
    """Yield sensitivity and specificity of each rule; they do not depend on the calibration."""
    yield f"| rule | threshold as trained | {' | '.join(f'{name}: sensitivity | specificity' for name in splits)} |"
    for rule in RULES:
        val = columns_of(splits["val"], Calibration())
        threshold = choose_threshold(val.probabilities, val.labels, OperatingPoint.parse(rule))
        assert threshold is not None
        rates = " | ".join(_rates(split, Calibration(), threshold) for split in splits.values())
        yield f"| {rule} | {threshold:.3g} | {rates} |"


def bayes_rows(splits: dict[str, LabelledLogits], calibrations: dict[str, Calibration]) -> Iterator[str]:
    """Yield sensitivity and specificity of thresholds that need no choice where probabilities are right."""
    yield f"| cost ratio | calibration | {' | '.join(f'{name}: sensitivity | specificity' for name in splits)} |"
    for ratio in (0.2, 1.0, 5.0):
        for name, calibration in calibrations.items():
            rates = " | ".join(_rates(split, calibration, 1 / (1 + ratio)) for split in splits.values())
            yield f"| {ratio:g} | {name} | {rates} |"


def _rates(split: LabelledLogits, calibration: Calibration, threshold: float) -> str:
    part = columns_of(split, calibration)
    rates = threshold_rates(part.probabilities > threshold, part.labels, part.patients, 0.5)
    assert rates is not None
    return f"{estimate(rates.sensitivity)} | {estimate(rates.specificity)}"


if __name__ == "__main__":
    main()
