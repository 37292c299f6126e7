"""Run one trial from its config to its record, without Ray: in a Tune trial, a Ray Train worker or a plain call."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import nn

from hemo.config.curate import SPLITS
from hemo.config.trial import ModelConfig, TrainingConfig, TrialConfig
from hemo.config.tune import title
from hemo.curation.card import SplitFinding, TrainingSetCard, label_counts, read_card, split_finding
from hemo.errors import ConfigError, SourceError, TrialError, UserError, first_names
from hemo.inference.predict import DeployedModel, megabytes, quick_speed
from hemo.models.checkpoint import (
    CheckpointCard,
    EmbeddedBy,
    load_checkpoint,
    load_series_checkpoint,
    write_checkpoint,
)
from hemo.models.classifier import Normalisation, parameter_count
from hemo.models.series import SeriesClassifier
from hemo.shards.embeddings import read_card as read_embeddings_card
from hemo.stats.calibration import Calibration, LabelledLogits
from hemo.storage import is_temporary, join, list_files, remove
from hemo.training.data.dataset import Examples, Splits, TrialData, read_training_set, select_splits, task_classes
from hemo.training.data.features import FOLDER as FEATURES
from hemo.training.data.sampling import smallest_step
from hemo.training.data.studies import read_studies, require_embeddings
from hemo.training.distributed import Worker, hardware, raise_together
from hemo.training.evaluate import Readout, predict_logits, split_metrics, study_metrics
from hemo.training.loop import fit
from hemo.training.loss import build_loss
from hemo.training.option_checks import check_models, where_in_notes
from hemo.training.reporting import Epochs, FitResult, observed, report_out_of_memory
from hemo.training.results import (
    ANY_CLASS,
    BeforeAfter,
    EpochMetrics,
    SplitMetrics,
    StudyMetrics,
    applied_thresholds,
    before_and_after,
)
from hemo.trials.key import TrialKey
from hemo.trials.progress import TrialProgress, clear_progress, learning_curves, read_progress, write_progress
from hemo.trials.record import (
    PREDICTION_SCHEMA,
    PREDICTIONS,
    STUDY_PREDICTIONS,
    TrialRecord,
    commit,
    now,
    read_predictions,
    versions,
    write_predictions,
    write_record,
    write_training_set_card,
)


def check_trials(trials: Mapping[str, TrialConfig], card: TrainingSetCard) -> None:
    """Refuse trials that cannot work before any image is read: from the training set's card and the starting weights.

    Weights are read for that, once for each model, and ImageNet's cached: whatever runs the trials must have them.

    Args:
        trials: Where each is configured, such as `grid: ResNet50` -> trial; errors name it.
        card: Of the training set.

    Raises:
        ConfigError: Unknown backbone or target, images too small for the backbone or for `side_px`, weights that cannot
            be read, a loss that does not suit the task, training options that suit neither backbone nor loss.
        SourceError: Images that are not uint8, a split without rows, or a training split with one class only.
    """
    for where, trial in trials.items():
        with where_in_notes(where):
            _check_labels(trial, card)
            if trial.model.is_sequence:
                require_embeddings(trial.model.series, card)
    check_models(trials, len(card.channels), (card.height_px, card.width_px))


def _check_labels(config: TrialConfig, card: TrainingSetCard) -> None:
    if card.dtype != "uint8":
        raise SourceError(
            f"training set {card.digest}: its pixels are {card.dtype} Hounsfield units, training takes windows of "
            "8 bits; run `hemo convert` with --pixels windows and `hemo curate` again"
        )
    classes = task_classes(config, card)
    if config.training.loss == "rsna" and (config.task != "multi_label" or ANY_CLASS not in classes):
        raise ConfigError(f"trial.training.loss: rsna needs task multi_label and a class {ANY_CLASS!r}; use `default`")
    _check_balance(config, card)
    for split in ("train", "val", "test"):
        if not card.splits[split].rows:
            raise SourceError(
                f"training set {card.digest}: {split} has no rows; run `hemo curate` with other fractions"
            )
    train = card.splits["train"]
    if not any(train.varies(name) for name in classes):
        counts = ", ".join(f"{name} {train.positives[name]} of {train.labelled(name)}" for name in classes)
        raise SourceError(
            f"training set {card.digest}: train has one class only ({counts} labelled rows are positive): "
            "nothing can be learned; check the labels, or curate with another target, split or subset"
        )


def _check_balance(config: TrialConfig, card: TrainingSetCard) -> None:
    """Refuse to balance a multi-label task by a class that it has not, or that all images of train show or lack."""
    if config.training.balance == "none" or config.task != "multi_label":
        return
    listed = ", ".join(card.classes)
    if config.target not in card.classes:
        raise ConfigError(
            f"trial.target: training.balance {config.training.balance} needs a class to balance by, {config.target!r} "
            f"is none of the training set; it has {listed}"
        )
    if not card.splits["train"].varies(config.target):
        raise ConfigError(
            f"trial.target: all labelled images of train are alike in {config.target!r}, so they cannot be balanced by "
            f"it; the classes are {listed}"
        )


def check_batch_size(rows: int, *, worker: Worker, training: TrainingConfig) -> None:
    """Refuse steps in which a worker has fewer than the two images at once that batch normalisation needs.

    Raises:
        ConfigError: With all numbers.
    """
    parts = training.accumulation * worker.parts
    images = smallest_step(rows, workers=worker.count * parts, batch_size=training.batch_size)
    if images < 2:
        fewer = f", and {worker.count} of {worker.configured} workers" if worker.parts > 1 else ""
        at_once = f" in one of {parts} parts (accumulation{fewer})" if parts > 1 else ""
        raise ConfigError(
            f"trial.training.batch_size: {training.batch_size} images a step, of {rows} to train on, leave one of "
            f"{worker.count} workers (workers.count) with {images}{at_once} in its smallest step, at least 2 are "
            f"needed; give a larger batch_size or fewer workers{' or parts' * (parts > 1)}"
        )


def check_studies(studies: int, *, worker: Worker, training: TrainingConfig) -> None:
    """Refuse steps of a sequence model in which a worker has no study.

    Raises:
        ConfigError: With all numbers.
    """
    if smallest_step(studies, workers=worker.count, batch_size=training.batch_size) < 1:
        raise ConfigError(
            f"trial.training.batch_size: {training.batch_size} studies a step, of {studies} to train on, leave one of "
            f"{worker.count} workers (workers.count) with none in its smallest step; give a larger batch_size or fewer "
            "workers"
        )


def run_trial(
    key: TrialKey, training_set: str, *, worker: Worker, data: TrialData | None = None
) -> Epochs[TrialRecord]:
    """Run one trial to its record, epoch by epoch; a finished one returns the record it has.

    Drive it as `hemo.training.loop.fit`: `run_to_end(run_trial(...))`, or epoch by epoch; stopped by `send(True)` it
    is recorded as pruned. A trial's own failure does not raise: it is recorded as failed, with the reason. A killed
    trial resumes after its last whole epoch. Of several workers each runs this and rank 0 writes, except for a failure,
    which one worker alone may meet: only a `TrialError`, or an unreadable part of a streamed training set, is one;
    other errors may come from a lost worker and are raised.

    Args:
        key: Of the trial; `check_trials` has accepted its config.
        training_set: Output folder of `curate`.
        worker: This process.
        data: The training set, where it is shared or streamed; else it is read into memory.

    Raises:
        UserError: If the trial cannot work with these rows, or the set cannot be read; on every worker.
    """
    card = data.card if data else read_card(training_set)
    if worker.is_rank_zero:
        write_training_set_card(key.records, card)
    if record := key.finished_record():
        return record
    with raise_together(worker):
        splits = select_splits(trial_data(key.config, training_set, data), key.config)
        if key.config.model.is_sequence:
            check_studies(len(np.unique(splits.epoch.block_of)), worker=worker, training=key.config.training)
        else:
            check_batch_size(len(splits.epoch), worker=worker, training=key.config.training)
    torch.set_num_threads(worker.threads)
    features = join(key.records, FEATURES, card.digest)
    epochs = fit(key.config, splits, worker=worker, state_path=key.state_path, features=features)
    if worker.is_rank_zero:
        epochs = observed(epochs, ProgressWriter(key).write)
    try:
        result = yield from epochs
    except Exception as error:  # whatever ends a trial is part of the comparison
        if not _is_failure(error, worker):
            raise
        record = failed_record(key, card, worker, _reason(error))
        write_record(key.records, record, None)
        clear_progress(key.records, key.digest)
        return record
    record = _record(key, card, splits, result, worker)
    return _write(key, card, splits, result, record, worker) if worker.is_rank_zero else record


def trial_data(config: TrialConfig, training_set: str, data: TrialData | None) -> TrialData:
    """Return what a trial learns from: images, shared or read; of a sequence model embeddings, which it reads itself.

    Args:
        config: Of the trial.
        training_set: Output folder of `curate`.
        data: The training set, where it is shared or streamed; without `test` that is held back from either model.

    Raises:
        SourceError: If it cannot be read.
    """
    if not config.model.is_sequence:
        return data or read_training_set(training_set)
    held_back = data is not None and data.test is None
    return read_studies(training_set, config.model.series, ("train", "val") if held_back else SPLITS)


def _is_failure(error: Exception, worker: Worker) -> bool:
    """Return whether an error is the trial's own failure, to be recorded; else it is raised.

    Of several workers one alone may fail to read a part while the others wait for it: they must be ended.
    """
    if worker.count > 1:
        return isinstance(error, TrialError | SourceError)
    return not isinstance(error, UserError)


def _reason(error: Exception) -> str:
    """Return why a trial failed as one line for a table; libraries write paragraphs."""
    known = isinstance(error, TrialError | SourceError)
    return " ".join((str(error) if known else f"{type(error).__name__}: {error}").split())


class ProgressWriter:
    """Writes the progress of a running trial after each epoch, and once before the first."""

    def __init__(self, key: TrialKey) -> None:
        """Continue the progress of an interrupted run of the same trial."""
        self._key = key
        self._fresh = TrialProgress(name=title(key.config), epochs=key.config.training.epochs, updated=now())
        self._progress = read_progress(key.records, key.digest) or self._fresh
        self._write()

    def write(self, metrics: EpochMetrics) -> None:
        """Write one more epoch."""
        before = self._progress if metrics.epoch > self._progress.epoch else self._fresh
        losses = [loss for loss in (before.best_val_loss, metrics.val["loss"]) if loss is not None]
        done = {"epoch": metrics.epoch, "val": metrics.val, "best_val_loss": min(losses)}
        curves = {name: (*before.curves.get(name, ()), *values) for name, values in learning_curves([metrics]).items()}
        seconds = before.seconds + metrics.seconds
        self._progress = before.model_copy(update={**done, "curves": curves, "seconds": seconds})
        self._write()

    def _write(self) -> None:
        updated = self._progress.model_copy(update={"updated": now()})
        write_progress(self._key.records, self._key.digest, updated)


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
        "image": f"{len(card.channels)} x {card.height_px} x {card.width_px}",
        "split": card.split,
        "grouped_by": card.grouped_by,
        "workers": worker.count,
        "hardware": hardware(worker),
        "versions": versions(),
        "commit": commit(),
        "reductions": card.reductions,
        "finished": now(),
    }
    return TrialRecord(**{**known, **fields})


def _record(key: TrialKey, card: TrainingSetCard, splits: Splits, result: FitResult, worker: Worker) -> TrialRecord:
    """Return the record of a trial that ran; a stopped one has the best epoch's validation metrics and no others."""
    stopped = result.ended == "stopped"
    notes = (*unlabelled_notes(splits, card), *_balance_notes(splits), *_small_set_notes(splits, key))
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


def unlabelled_notes(splits: Splits, card: TrainingSetCard) -> list[str]:
    """Return a sentence for each split with images left out because a label of the task is blank."""
    notes = []
    for name, examples in splits.by_name.items():
        blanks = {label: card.splits[name].blanks[label] for label in splits.classes}
        listed = first_names([f"{label} ({count:,})" for label, count in blanks.items() if count])
        if examples.unlabelled:
            notes.append(f"{_images(examples.unlabelled)} of {name} left out: blank label of {listed}")
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
    return [f"each step is of all {_images(rows)} of train, fewer than batch_size {batch_size}"] * (rows < batch_size)


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _write(
    key: TrialKey, card: TrainingSetCard, splits: Splits, result: FitResult, record: TrialRecord, worker: Worker
) -> TrialRecord:
    """Write checkpoint, predictions and record, in this order; then remove the state to resume from."""
    checkpoint_card = _checkpoint_card(record, card, result)
    if record.status == "complete":
        record = record.model_copy(update=_inference_cost(result, checkpoint_card, worker, key.config))
    write_checkpoint(key.checkpoint, result.model, checkpoint_card)
    if result.study_logits:
        of_studies = predictions_table(result.study_logits, splits.studies)
        write_predictions(join(key.folder, STUDY_PREDICTIONS), of_studies)
    write_record(key.records, record, predictions_table(result.logits, splits.by_name) if result.logits else None)
    for name in list_files(key.checkpoint):
        path = join(key.checkpoint, name)
        if path == key.state_path or is_temporary(name):  # temporary: of a process that was killed while it wrote
            remove(path)
    clear_progress(key.records, key.digest)
    return record


def _inference_cost(result: FitResult, card: CheckpointCard, worker: Worker, config: TrialConfig) -> dict[str, Any]:
    """Return the fields of a record with the size, latency and throughput of its model; of sequence models its size."""
    if isinstance(result.model, SeriesClassifier):
        return {"megabytes": megabytes(result.model)}
    batch_size = config.training.images_at_once(worker.count * worker.parts)
    deployed = DeployedModel(result.model, card, device=worker.device, batch_size=batch_size)
    speed = quick_speed(deployed.predict, (len(card.channels), card.height_px, card.width_px), batch_size)
    return {
        "megabytes": megabytes(result.model),
        "latency_ms": speed.latency_ms,
        "inference_images_per_second": speed.images_per_second,
        "inference_batch_size": speed.batch_size,
    }


def _checkpoint_card(record: TrialRecord, card: TrainingSetCard, result: FitResult) -> CheckpointCard:
    return CheckpointCard(
        model=record.config.model,
        task=record.config.task,
        classes=record.classes,
        channels=card.channels,
        image=card.image,
        height_px=card.height_px,
        width_px=card.width_px,
        mean=result.normalisation.mean if result.normalisation else (),
        std=result.normalisation.std if result.normalisation else (),
        thresholds=applied_thresholds(record.thresholds),
        calibration=record.calibration,
        operating_point=record.config.training.operating_point,
        operating_points={name: applied_thresholds(chosen) for name, chosen in record.operating_points.items()},
        training_set=card.digest,
        embedded_by=_embedded_by(record.config.model),
    )


def _embedded_by(model: ModelConfig) -> EmbeddedBy | None:
    """Return what made the embeddings of a sequence model."""
    if not model.is_sequence:
        return None
    card = read_embeddings_card(model.series.embeddings)
    return EmbeddedBy(dimension=card.dimension, inputs=card.inputs)


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


def evaluate_on_test(key: TrialKey, record: TrialRecord, data: TrialData, worker: Worker) -> TrialRecord:
    """Evaluate a complete trial's checkpoint on the test split, and write that into its record.

    Args:
        key: Of the trial.
        record: Its record, of a search that held the test split back.
        data: The training set, with its test split.
        worker: This process.

    Raises:
        SourceError: If the set's test split is held back, or the checkpoint is gone.
        TrialError: If a batch does not fit into memory.
    """
    splits = select_splits(data, record.config)
    if splits.test is None:
        raise SourceError(f"record {record.digest} cannot be tested: the test split is held back")
    module, normalisation = _trained_model(key.checkpoint, record.config.model)
    device, batch_size = torch.device(worker.device), record.config.training.images_at_once(worker.count)
    with report_out_of_memory(batch_size, TrialError):
        logits = predict_logits(module.to(device), splits.test, normalisation, batch_size, worker)
        studies = splits.studies.get("test")
        study_logits = None if studies is None else predict_logits(module, studies, normalisation, batch_size, worker)
    loss = build_loss(record.config, splits.classes, torch.from_numpy(splits.epoch.labels).to(device, torch.float32))
    thresholds = applied_thresholds(record.thresholds)
    readout = Readout(record.config.task, splits.classes, thresholds, record.calibration)
    new = metric_fields({"test": split_metrics(readout, logits, splits.test, loss)})
    new["probability_metrics"] = probability_fields(
        {"test": logits.cpu().numpy()}, splits, record.config, record.calibration
    )
    if studies is not None and study_logits is not None:
        of_studies = study_logits.cpu().numpy()
        by_way = study_metrics(readout, splits.test, logits.cpu().numpy(), studies, of_studies)
        new["study_metrics"] = {"test": by_way}
        _write_untested(key, STUDY_PREDICTIONS, split_predictions("test", studies, of_studies))
    fields = {name: {**getattr(record, name), **by_split} for name, by_split in new.items()}
    tested = record.model_copy(update={**fields, **split_counts(splits), "findings": split_findings(splits)})
    _write_untested(key, PREDICTIONS, split_predictions("test", splits.test, logits.cpu().numpy()))
    write_record(key.records, tested, None)
    return tested


def _trained_model(checkpoint: str, model: ModelConfig) -> tuple[nn.Module, Normalisation | None]:
    """Return a trial's trained model, and its normalisation of images; None: it takes studies."""
    if model.is_sequence:
        return load_series_checkpoint(checkpoint)[0], None
    module, card = load_checkpoint(checkpoint)
    return module, card.normalisation


def _write_untested(key: TrialKey, name: str, test: pa.Table) -> None:
    """Write predictions of test behind those that a search left, columns of `PREDICTION_SCHEMA`."""
    known = read_predictions(key.records, key.digest, name)
    known = known.filter(pc.not_equal(known["split"], "test"))  # of a process killed before it wrote the record
    write_predictions(join(key.folder, name), pa.concat_tables([known, test]))
