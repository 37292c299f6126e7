"""Run one trial from its config to its record, without Ray: in a Tune trial, a Ray Train worker or a plain call."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import nn

from hemo.config.curate import SPLITS
from hemo.config.trial import ModelConfig, TrialConfig
from hemo.config.tune import title
from hemo.curation.card import TrainingSetCard
from hemo.errors import DISK_FULL, SourceError, TrialError, UserError, is_disk_full
from hemo.inference.predict import DeployedModel, megabytes, quick_speed
from hemo.models.checkpoint import (
    CheckpointCard,
    load_checkpoint,
    load_sequence_checkpoint,
    read_state,
    write_checkpoint,
)
from hemo.models.classifier import Normalisation
from hemo.models.sequence import SequenceClassifier
from hemo.models.weight_files import EmbeddedBy
from hemo.shards.embeddings import read_card as read_embeddings_card
from hemo.storage import is_temporary, join, list_files, remove
from hemo.training.data.dataset import TrialData, read_training_set, select_splits
from hemo.training.data.examples import Splits
from hemo.training.data.features import FOLDER as FEATURES
from hemo.training.data.read_studies import read_studies
from hemo.training.distributed import Worker, raise_together, use_processors
from hemo.training.evaluate import Readout, predict_logits, split_metrics, study_metrics
from hemo.training.loop import fit
from hemo.training.loss import build_loss, targets_of
from hemo.training.reporting import Epochs, FitResult, observed, report_out_of_memory
from hemo.training.results import EpochMetrics, applied_thresholds
from hemo.trials.checks import check_batch_size, check_studies
from hemo.trials.key import TrialKey
from hemo.trials.make_record import (
    failed_record,
    metric_fields,
    predictions_table,
    probability_fields,
    split_counts,
    split_findings,
    split_predictions,
    trial_record,
)
from hemo.trials.progress import TrialProgress, clear_progress, learning_curves, read_progress, write_progress
from hemo.trials.record import (
    PREDICTIONS,
    STUDY_PREDICTIONS,
    TrialRecord,
    now,
    read_predictions,
    write_predictions,
    write_record,
    write_training_set_card,
)


def run_trial(key: TrialKey, training_set: str, *, worker: Worker, data: TrialData) -> Epochs[TrialRecord]:
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
        data: The training set.

    Raises:
        UserError: If the trial cannot work with these rows, or the set cannot be read; on every worker.
    """
    card = data.card
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
    use_processors(worker)
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
    record = trial_record(key, card, splits, result, worker)
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


def saved_epochs(key: TrialKey) -> tuple[EpochMetrics, ...]:
    """Return the metrics of the epochs from which a trial resumes, from its first on; none where no state is saved.

    Raises:
        SourceError: If the state is damaged.
    """
    state = read_state(key.state_path)
    return tuple(EpochMetrics(**metrics) for metrics in state["progress"]["epochs"]) if state else ()


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
    line = " ".join((str(error) if known else f"{type(error).__name__}: {error}").split())
    return f"{line}; {DISK_FULL}" if is_disk_full(error) else line


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
    if isinstance(result.model, SequenceClassifier):
        return {"megabytes": megabytes(result.model)}
    batch_size = config.training.images_at_once(worker.count * worker.parts)
    deployed = DeployedModel(result.model, card, device=worker.device, batch_size=batch_size)
    speed = quick_speed(deployed.predict, card.image_shape, batch_size)
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
    return EmbeddedBy(dimension=card.dimension, classes=card.classes, inputs=card.inputs)


def evaluate_on_test(key: TrialKey, record: TrialRecord, data: TrialData, worker: Worker) -> TrialRecord:
    """Evaluate a complete trial's checkpoint on the test split, and write that into its record.

    Args:
        key: Of the trial.
        record: Its record, of a search that held the test split back.
        data: The training set, with its test split.
        worker: This process.

    Raises:
        SourceError: If the checkpoint is gone.
        TrialError: If a batch does not fit into memory.
    """
    splits = select_splits(data, record.config)
    assert splits.test is not None
    module, normalisation = _trained_model(key.checkpoint, record.config.model)
    device, batch_size = torch.device(worker.device), record.config.training.images_at_once(worker.count)
    with report_out_of_memory(batch_size, TrialError):
        logits = predict_logits(module.to(device), splits.test, normalisation, batch_size, worker)
        studies = splits.studies.get("test")
        study_logits = None if studies is None else predict_logits(module, studies, normalisation, batch_size, worker)
    loss = build_loss(record.config, splits.classes, targets_of(splits.trained_on, device))
    thresholds = applied_thresholds(record.thresholds)
    readout = Readout(record.config.task, splits.classes, thresholds, record.calibration)
    new = metric_fields({"test": split_metrics(readout, logits, splits.test, loss)})
    new["probability_metrics"] = probability_fields(
        {"test": logits.cpu().numpy()}, splits, record.config, record.calibration
    )
    if studies is not None and study_logits is not None:
        of_studies = study_logits.cpu().numpy()
        if len(studies):
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
        return load_sequence_checkpoint(checkpoint)[0], None
    module, card = load_checkpoint(checkpoint)
    return module, card.normalisation


def _write_untested(key: TrialKey, name: str, test: pa.Table) -> None:
    """Write predictions of test behind those that a search left, columns of `PREDICTION_SCHEMA`."""
    known = read_predictions(key.records, key.digest, name)
    known = known.filter(pc.not_equal(known["split"], "test"))  # of a process killed before it wrote the record
    write_predictions(join(key.folder, name), pa.concat_tables([known, test]))
