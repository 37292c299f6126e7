"""The record of a trial that ended: what was known before it ran, its metrics, counts and notes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hemo.config.trial import IMAGES, Noun, TrialConfig
from hemo.curation.card import SplitFinding, TrainingSetCard, label_counts, split_finding
from hemo.errors import first_names
from hemo.models.classifier import parameter_count
from hemo.stats.calibration import Calibration, LabelledLogits, calibrated_logits, to_probabilities
from hemo.stats.reliability import probability_metrics, reliability_bins
from hemo.training.data.dataset import task_classes
from hemo.training.data.examples import Examples, Splits
from hemo.training.data.read_studies import encoder_notes
from hemo.training.distributed import Worker, hardware
from hemo.training.evaluate import Readout, study_metrics
from hemo.training.reporting import FitResult
from hemo.training.results import SplitMetrics, StudyMetrics
from hemo.trials.key import TrialKey
from hemo.trials.record import PREDICTION_SCHEMA, BeforeAfter, TrialRecord, commit, now, versions


def failed_record(key: TrialKey, card: TrainingSetCard, worker: Worker, reason: str) -> TrialRecord:
    """Return the record of a trial that failed."""
    return _record_with(key, card, worker, status="failed", reason=reason)


def _record_with(key: TrialKey, card: TrainingSetCard, worker: Worker, **fields: Any) -> TrialRecord:
    """Return a record with what is known before a trial runs, and these fields."""
    known: dict[str, Any] = {
        "digest": key.digest,
        "config": key.config,
        "classes": task_classes(key.config, card),
        "training_set": card.digest,
        "image": card.image_size,
        "split": card.split,
        "grouped_by": card.grouped_by,
        "synthetic_images": card.synthetic_images,
        "workers": worker.count,
        "hardware": hardware(worker),
        "versions": versions(),
        "commit": commit(),
        "reductions": card.reductions,
        "finished": now(),
    }
    return TrialRecord(**{**known, **fields})


def trial_record(
    key: TrialKey, card: TrainingSetCard, splits: Splits, result: FitResult, worker: Worker
) -> TrialRecord:
    """Return the record of a trial that ran; a stopped one has the best epoch's validation metrics and no others."""
    stopped = result.ended == "stopped"
    notes = (
        *unlabelled_notes(splits, card, key.config.row_noun),
        *_balance_notes(splits),
        *_small_set_notes(splits, key),
        *encoder_notes(key.config, card),
    )
    fields: dict[str, Any] = {
        "status": "pruned" if stopped else "complete",
        "reason": f"stopped by the scheduler after epoch {len(result.epochs)}" if stopped else "",
        "baseline": result.baseline,
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "thresholds": result.thresholds,
        "calibration": result.calibration,
        "operating_points": result.operating_points,
        "probability_metrics": probability_fields(result.logits, splits, key.config, result.calibration),
        **metric_fields(result.evaluated),
        "findings": split_findings(splits),
        "reductions": (*card.reductions, *notes),
        "study_metrics": _study_metrics(result, splits, key.config),
        **split_counts(splits),
        "epoch_rows": len(splits.epoch),
        "epoch_positives": _positives(splits.epoch),
        "seconds": result.seconds,
        "parameters": parameter_count(result.model),
    }
    if stopped:
        fields["metrics"] = {"val": result.epochs[result.best_epoch - 1].val}
    return _record_with(key, card, worker, **fields)


def _study_metrics(result: FitResult, splits: Splits, config: TrialConfig) -> dict[str, dict[str, StudyMetrics]]:
    """Return split -> way -> metrics of studies; empty unless a sequence model learned from slices."""
    readout = Readout(config.task, splits.classes, calibration=result.calibration)
    return {
        name: study_metrics(readout, splits.by_name[name], result.logits[name], splits.studies[name], logits)
        for name, logits in result.study_logits.items()
        if len(splits.studies[name])
    }


def split_counts(splits: Splits) -> dict[str, dict[str, Any]]:
    """Return the fields of a record with the images, patients and positives of each split."""
    return {
        "rows": {name: len(examples) for name, examples in splits.by_name.items()},
        "patients": {
            name: len(np.unique(examples.source.patient[examples.rows])) for name, examples in splits.by_name.items()
        },
        "positives": {name: _positives(examples) for name, examples in splits.by_name.items()},
    }


def _positives(examples: Examples) -> tuple[int, ...]:
    return tuple(examples.labels.sum(axis=0).tolist())


def metric_fields(evaluated: Mapping[str, SplitMetrics]) -> dict[str, dict[str, Any]]:
    """Return the fields of a record with the metrics of its splits, each by split."""
    return {
        name: {split: getattr(metrics, name) for split, metrics in evaluated.items()}
        for name in ("metrics", "confusion", "by_pixel_format")
    }


def probability_fields(
    logits: Mapping[str, NDArray[np.float32]], splits: Splits, config: TrialConfig, calibration: Calibration
) -> dict[str, dict[str, BeforeAfter]]:
    """Return split -> class -> metrics of its probabilities before and after calibration.

    Args:
        logits: Of each split, (examples, classes).
        splits: Examples of the trial.
        config: Of the trial.
        calibration: Of the trial.
    """
    found = {}
    for name, values in logits.items():
        examples = splits.by_name[name]
        patients = examples.source.patient[examples.rows]
        split = LabelledLogits(values, examples.labels, patients, exclusive=config.task == "multi_class")
        found[name] = before_and_after(split, splits.classes, calibration)
    return found


def before_and_after(split: LabelledLogits, classes: Sequence[str], calibration: Calibration) -> dict[str, BeforeAfter]:
    """Return class -> metrics of its probabilities before and after calibration.

    Args:
        split: Logits as trained, labels and patients.
        classes: Name of each column.
        calibration: Of the logits.
    """
    before, after = (
        to_probabilities(calibrated_logits(split.logits, each, exclusive=split.exclusive), exclusive=split.exclusive)
        for each in (Calibration(), calibration)
    )
    patients = np.unique(split.patients, return_inverse=True)[1]
    found = {}
    for column, name in enumerate(classes):
        labels = split.labels[:, column]
        bins = [reliability_bins(each[:, column], labels, patients) for each in (before, after)]
        found[name] = BeforeAfter(
            before=probability_metrics(before[:, column], labels),
            after=probability_metrics(after[:, column], labels),
            bins_before=tuple(bins[0]),
            bins_after=() if calibration.method == "none" else tuple(bins[1]),
        )
    return found


def unlabelled_notes(splits: Splits, card: TrainingSetCard, noun: Noun) -> list[str]:
    """Return a sentence for each split with images or studies left out because a label of the task is blank."""
    notes = []
    for name, examples in splits.by_name.items():
        blanks = {label: card.splits[name].blanks[label] for label in splits.classes}
        texts = {label: f"{count:,}" if noun == IMAGES else _counted(count, IMAGES) for label, count in blanks.items()}
        listed = first_names([f"{label} ({texts[label]})" for label, count in blanks.items() if count])
        if examples.unlabelled:
            left_out = _counted(examples.unlabelled, noun)
            notes.append(f"{left_out} of {name} left out: blank label of {listed}")
    return notes


def _balance_notes(splits: Splits) -> list[str]:
    """Return a sentence where an epoch leaves out images of train."""
    images, kept = len(splits.train), len(splits.epoch)
    return [f"train undersampled to {kept:,} of {images:,} images"] if kept < images else []


def split_findings(splits: Splits) -> tuple[SplitFinding, ...]:
    """Return the splits with too few patients to choose or compare by, among the images of the task."""
    findings = []
    for name, examples in splits.by_name.items():
        names, patient = np.unique(examples.source.patient[examples.rows], return_inverse=True)
        findings.append(split_finding(name, len(names), label_counts(splits.classes, examples.labels, patient)))
    return tuple(finding for finding in findings if finding)


def _small_set_notes(splits: Splits, key: TrialKey) -> list[str]:
    """Return a sentence where a batch holds more images than there are: every step was of all of them."""
    rows, batch_size = len(splits.epoch), key.config.training.batch_size
    if key.config.model.is_sequence:
        return []
    counted = _counted(rows, IMAGES)
    return [f"each step is of all {counted} of train, fewer than batch_size {batch_size}"] * (rows < batch_size)


def _counted(count: int, noun: Noun) -> str:
    return f"1 {noun.one}" if count == 1 else f"{count} {noun.many}"


def predictions_table(logits: Mapping[str, NDArray[np.float32]], examples: Mapping[str, Examples]) -> pa.Table:
    """Return labels and logits of the splits that were evaluated, at least one: columns of `PREDICTION_SCHEMA`."""
    return pa.concat_tables([split_predictions(name, examples[name], values) for name, values in logits.items()])


def split_predictions(split: str, examples: Examples, logits: NDArray[np.float32]) -> pa.Table:
    """Return labels and logits of one split, columns of `PREDICTION_SCHEMA`."""
    source, rows = examples.source, examples.rows
    columns = {
        "split": [split] * len(rows),
        "image_id": source.image_id[rows].tolist(),
        "patient": source.patient[rows].tolist(),
        "pixel_format": source.pixel_format[rows].tolist(),
        "labels": list(examples.labels),
        "logits": list(logits),
    }
    return pa.table(columns, schema=PREDICTION_SCHEMA)
