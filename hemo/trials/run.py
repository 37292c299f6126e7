"""One trial from config to record, without Ray: what a Tune trial, a Ray Train worker and a plain call share."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from hemo.config.trial import TrainingConfig, TrialConfig
from hemo.curation.card import TrainingSetCard, read_card
from hemo.errors import ConfigError, SourceError, TrialError, UserError, first_names
from hemo.inference.predict import DeployedModel, megabytes, quick_speed
from hemo.models.checkpoint import CheckpointCard, write_checkpoint
from hemo.models.classifier import parameter_count
from hemo.models.pretrained import check_weights
from hemo.storage import is_temporary, join, list_files, remove
from hemo.training.data.dataset import TrialData, read_training_set
from hemo.training.data.sampling import smallest_share
from hemo.training.data.task_rows import Examples, Splits, select_splits, task_classes
from hemo.training.distributed import Worker, all_or_none, hardware
from hemo.training.loop import fit
from hemo.training.loss import ANY_CLASS
from hemo.training.metrics import SplitFigures
from hemo.training.option_checks import check_options, check_size
from hemo.training.reporting import EpochFigures, FitResult, Reporter
from hemo.trials.progress import TrialProgress, clear_progress, read_progress, write_progress
from hemo.trials.provenance import commit, now, versions
from hemo.trials.record import (
    PREDICTION_SCHEMA,
    EpochRecord,
    GroupRecord,
    TrialRecord,
    is_finished,
    read_record,
    record_digest,
    write_record,
)

STATE = "state.pt"
"""Beside the checkpoint while a trial runs: what a killed trial resumes from."""

"""Classes named in a sentence at most."""


def check_trial(config: TrialConfig, card: TrainingSetCard) -> None:
    """Refuse a trial that cannot work before any image is read: from the card and the starting weights.

    Weights are read for that, those from ImageNet also kept: whatever runs the trial must be able to get them anyway.

    Raises:
        ConfigError: Unknown backbone or target, images too small for the backbone or for `side_px`, weights that cannot
            be had, a loss that does not suit the task, options of training that suit neither backbone nor loss.
        SourceError: Images that are no 8-bit channels, a split without rows, or a training split with one class only.
    """
    if card.dtype != "uint8":
        raise SourceError(
            f"training set {card.digest}: its pixels are {card.dtype} Hounsfield units, training takes windows of "
            "8 bits; run `hemo convert` with --pixels windows and `hemo curate` again"
        )
    classes = task_classes(config, card)
    if config.training.loss == "rsna" and (config.task != "multi_label" or ANY_CLASS not in classes):
        raise ConfigError(f"trial.training.loss: rsna needs task multi_label and a class {ANY_CLASS!r}; use `default`")
    for split in ("train", "val", "test"):
        if not card.splits[split].rows:
            raise SourceError(
                f"training set {card.digest}: {split} has no rows; run `hemo curate` with other fractions"
            )
    _require_two_classes(config, card, classes)
    sides_px = (card.height_px, card.width_px)
    check_size(config.model, len(card.channels), sides_px)
    check_options(config, len(card.channels), sides_px)
    check_weights(config.model, len(card.channels), sides_px)


def _require_two_classes(config: TrialConfig, card: TrainingSetCard, classes: tuple[str, ...]) -> None:
    train = card.splits["train"]
    positives = {name: train.positives.get(name, 0) for name in classes}
    if any(0 < count < train.rows for count in positives.values()):
        return
    counts = ", ".join(f"{name} {count}" for name, count in positives.items())
    raise SourceError(
        f"training set {card.digest}: train has one class only ({counts} of {train.rows} rows are positive): "
        "nothing can be learned; check the labels, or curate with another target, split or subset"
    )


def check_shares(rows: int, *, workers: int, training: TrainingConfig) -> None:
    """Refuse steps in which a worker has less than the two images at once that batch normalisation needs.

    Raises:
        ConfigError: With all numbers.
    """
    parts = training.accumulation
    images = smallest_share(rows, workers=workers * parts, batch_size=training.batch_size)
    if images < 2:
        at_once = f" in one of {parts} parts (accumulation)" if parts > 1 else ""
        raise ConfigError(
            f"trial.training.batch_size: {training.batch_size} images a step, of {rows} to train on, leave one of "
            f"{workers} workers (workers.count) with {images}{at_once} in its smallest step, at least 2 are needed; "
            f"give a larger batch_size or fewer workers{' or parts' if parts > 1 else ''}"
        )


def checkpoint_folder(out: str, digest: str) -> str:
    """Return where a trial's checkpoint lies."""
    return join(out, digest, "checkpoint")


def finished_record(config: TrialConfig, digest: str, out: str) -> TrialRecord | None:
    """Return the record of a trial that need not run again, None of one that must.

    The name is not part of a trial's digest: a record from before the trial was renamed is written anew.
    """
    if not is_finished(out, digest):
        return None
    record = read_record(out, digest)
    if record.config.name != config.name:
        record = record.model_copy(update={"config": config})
        write_record(out, record, None)
    return record


def run_trial(
    config: TrialConfig,
    training_set: str,
    out: str,
    *,
    reporter: Reporter,
    worker: Worker,
    data: TrialData | None = None,
) -> TrialRecord:
    """Run one trial to its record, or return the record it already has.

    A trial's own failure does not raise: it is recorded as failed, with the reason. A killed trial that is run again
    goes on after its last whole epoch. With several workers, each calls this and rank 0 writes, but for a failure,
    which any worker may meet alone; only a `TrialError` is one, or an unreadable part of a streamed training set: other
    errors may come of a lost worker and are raised.

    Args:
        config: Of the trial.
        training_set: Output folder of `curate`.
        out: Folder of records: this one's lies in `OUT/DIGEST`, its checkpoint in `OUT/DIGEST/checkpoint`.
        reporter: Told of each epoch.
        worker: This process.
        data: The training set, where it is shared or streamed; else it is read into memory.

    Raises:
        UserError: If the trial cannot work, see `check_trial`, or the set cannot be read; on every worker.
    """
    card = data.card if data else read_card(training_set)
    with all_or_none(worker):
        digest = record_digest(config, card.digest)
    if finished := finished_record(config, digest, out):
        return finished
    with all_or_none(worker):
        check_trial(config, card)
        splits = select_splits(data or read_training_set(training_set), config)
        check_shares(len(splits.train), workers=worker.count, training=config.training)
    torch.set_num_threads(worker.threads)
    state_at = join(checkpoint_folder(out, digest), STATE)
    told = _noted(reporter, worker, out, digest, config)
    try:
        result = fit(config, splits, reporter=told, worker=worker, state_at=state_at)
    except Exception as error:  # whatever a trial dies of is part of the comparison
        if not _is_failure(error, worker):
            raise
        record = failed_record(config, card, worker, _reason(error))
        write_record(out, record, None)
        clear_progress(out, digest)
        return record
    return _finish(out, result, splits, _record(config, card, splits, result, worker), card, worker)


def _is_failure(error: Exception, worker: Worker) -> bool:
    """Tell whether what ended a fit is the trial's own failure, to be recorded; else it is raised.

    Of several workers one alone may meet a part it cannot read, while the others wait for it: they must be told.
    """
    if worker.count > 1:
        return isinstance(error, TrialError | SourceError)
    return not isinstance(error, UserError)


def _reason(error: Exception) -> str:
    """Return why a trial failed in a line, for a table; libraries write paragraphs."""
    known = isinstance(error, TrialError | SourceError)
    return " ".join((str(error) if known else f"{type(error).__name__}: {error}").split())


def _noted(reporter: Reporter, worker: Worker, out: str, digest: str, config: TrialConfig) -> Reporter:
    """Let the first worker note how far the trial is; it says so before the first epoch has ended."""
    if not worker.leads:
        return reporter
    noted = NotedReporter(reporter, out, digest, config)
    noted.begin()
    return noted


def failed_record(config: TrialConfig, card: TrainingSetCard, worker: Worker, reason: str) -> TrialRecord:
    """Return the record of a trial that could not go on."""
    return TrialRecord(
        digest=record_digest(config, card.digest),
        status="failed",
        reason=reason,
        config=config,
        classes=task_classes(config, card),
        training_set=card.digest,
        image=f"{len(card.channels)} x {card.height_px} x {card.width_px}",
        split=card.split,
        workers=worker.count,
        hardware=hardware(worker),
        versions=versions(),
        commit=commit(),
        reductions=card.reductions,
        finished=now(),
    )


def _record(
    config: TrialConfig, card: TrainingSetCard, splits: Splits, result: FitResult, worker: Worker
) -> TrialRecord:
    """Return the record of a trial that ran; a stopped one has the best epoch's validation figures and no others."""
    stopped = result.ended == "stopped"
    provenance = failed_record(config, card, worker, "").model_dump()
    known = {
        "status": "pruned" if stopped else "complete",
        "reason": f"stopped by the scheduler after epoch {len(result.epochs)}" if stopped else "",
        "baseline": result.baseline,
        "epochs": [EpochRecord(**asdict(figures)) for figures in result.epochs],
        "best_epoch": result.best_epoch,
        "thresholds": result.thresholds,
        **judged_fields(result.judged),
        "reductions": [
            *card.reductions,
            *_left_out(splits),
            *one_sided(splits, config.task),
            *_whole_set(len(splits.train), config.training.batch_size),
        ],
        "rows": {name: len(examples) for name, examples in splits.by_name.items()},
        "seconds": result.seconds,
        "parameters": parameter_count(result.model),
    }
    if stopped:
        known["metrics"] = {"val": result.epochs[result.best_epoch - 1].val}
    return TrialRecord.model_validate({**provenance, **known})


def judged_fields(judged: dict[str, SplitFigures]) -> dict[str, dict[str, Any]]:
    """Return the fields of a record that tell how its splits did, each by split."""
    return {
        "metrics": {split: figures.metrics for split, figures in judged.items()},
        "confusion": {split: figures.confusion for split, figures in judged.items()},
        "by_pixel_format": {
            split: {name: GroupRecord(**vars(group)) for name, group in figures.by_pixel_format.items()}
            for split, figures in judged.items()
        },
    }


def _left_out(splits: Splits) -> list[str]:
    """Return a sentence for each split with images that have no label of the task."""
    return [
        f"{_images(examples.left_out)} of {name} left out: no label of {', '.join(splits.classes)}"
        for name, examples in splits.by_name.items()
        if examples.left_out
    ]


def one_sided(splits: Splits, task: str) -> list[str]:
    """Return a sentence for each split with classes that all of its images have, or none has."""
    sentences = []
    for name, examples in splits.by_name.items():
        shares = examples.labels.mean(axis=0)
        alike = [label for label, share in zip(splits.classes, shares, strict=True) if share in (0, 1)]
        unchosen = ", the threshold stays 0.5" if name == "val" and task != "multi_class" else ""
        if alike:
            sentences.append(
                f"all images of {name} are alike in {first_names(alike)}: "
                f"AUROC and average precision leave that out{unchosen}"
            )
    return sentences


def _whole_set(rows: int, batch_size: int) -> list[str]:
    """Return a sentence where a batch holds more images than there are: every step was of all of them."""
    return [f"each step is of all {_images(rows)} of train, fewer than batch_size {batch_size}"] * (rows < batch_size)


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _finish(
    out: str, result: FitResult, splits: Splits, record: TrialRecord, card: TrainingSetCard, worker: Worker
) -> TrialRecord:
    """Write checkpoint, predictions and record, in this order; then the state to resume from is not needed any more."""
    folder = checkpoint_folder(out, record.digest)
    if worker.leads:
        told = _checkpoint_card(record, card, result)
        if record.status == "complete":
            record = record.model_copy(update=_cost_of_use(result, told, worker, record.config.training.batch_size))
        write_checkpoint(folder, result.model, told)
        write_record(out, record, predictions_table(result, splits))
        _remove_leftovers(folder)
        clear_progress(out, record.digest)
    return record


def _remove_leftovers(folder: str) -> None:
    """Remove the state to resume from, and what processes that were killed while they wrote left of it."""
    for name in list_files(folder):
        if name == STATE or is_temporary(name):
            remove(join(folder, name))


def _cost_of_use(result: FitResult, card: CheckpointCard, worker: Worker, largest_batch: int) -> dict[str, Any]:
    """Return the fields of a record that tell how large a model is and how fast it answers."""
    deployed = DeployedModel(result.model, card, device=worker.device, batch_size=largest_batch)
    speed = quick_speed(deployed.predict, (len(card.channels), card.height_px, card.width_px), largest_batch)
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
        mean=result.normalisation.mean,
        std=result.normalisation.std,
        thresholds=record.thresholds,
        training_set=card.digest,
    )


def predictions_table(result: FitResult, splits: Splits) -> pa.Table | None:
    """Return labels and logits of validation and test, columns of `PREDICTION_SCHEMA`; None if nothing was judged."""
    tables = [split_predictions(name, splits.by_name[name], logits) for name, logits in result.logits.items()]
    return pa.concat_tables(tables) if tables else None


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


class NotedReporter:
    """Notes each epoch, then passes it on. Of several workers only the first has one."""

    def __init__(self, reporter: Reporter, out: str, digest: str, trial: TrialConfig) -> None:
        """Go on from what an interrupted run of the same trial noted.

        Args:
            reporter: Who is told besides.
            out: Folder of records.
            digest: Of the trial.
            trial: Its config.
        """
        self._reporter, self._out, self._digest = reporter, out, digest
        self._fresh = TrialProgress(name=trial.name, epochs=trial.training.epochs, updated=now())
        self._progress = read_progress(out, digest) or self._fresh

    def begin(self) -> None:
        """Note that the trial runs, before its first epoch has ended."""
        self._note()

    def epoch(self, figures: EpochFigures) -> bool:
        """Note, then ask the reporter whether to go on."""
        before = self._progress if figures.epoch > self._progress.epoch else self._fresh
        best = [loss for loss in (before.best_val_loss, figures.val["loss"]) if loss is not None]
        done = {"epoch": figures.epoch, "val": figures.val, "best_val_loss": min(best)}
        self._progress = before.model_copy(update={**done, "seconds": before.seconds + figures.seconds})
        self._note()
        return self._reporter.epoch(figures)

    def _note(self) -> None:
        write_progress(self._out, self._digest, self._progress.model_copy(update={"updated": now()}))
