"""The record of a model that hemo did not train: its predictions of a training set, checked, beside hemo's trials."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from hemo.config.trial import TrialConfig
from hemo.curation.card import read_card
from hemo.digest import digest_of
from hemo.errors import ConfigError, first_names
from hemo.stats.calibration import Calibration
from hemo.training.calibrate import choose_operating_points
from hemo.training.data.dataset import TrialData, read_split, select_splits, with_target
from hemo.training.data.examples import Splits
from hemo.training.evaluate import Readout, split_metrics
from hemo.training.loss import build_loss
from hemo.training.results import applied_thresholds
from hemo.trials.make_record import (
    metric_fields,
    predictions_table,
    probability_fields,
    split_counts,
    split_findings,
    unlabelled_notes,
)
from hemo.trials.predictions import split_rows
from hemo.trials.record import (
    RECORD_SCHEMA_VERSION,
    TrialRecord,
    commit,
    has_record,
    now,
    read_predictions,
    read_record,
    versions,
    write_record,
    write_training_set_card,
)

NAMED = 3
"""Images that an error names."""


@dataclass(frozen=True, eq=False)
class ExternalLogits:
    """What a model predicts for the images of one split, in any order."""

    image_id: NDArray[np.str_]  # (images,)
    logits: NDArray[np.float32]  # (images, classes of the task)


def record_external(
    training_set: str, records: str, config: TrialConfig, predicted: Mapping[str, ExternalLogits]
) -> TrialRecord:
    """Write the record of an external model, as of a complete trial; labels and patients are those of the set.

    Thresholds are chosen on validation as for a trial, and nothing is calibrated. Its digest covers the predictions of
    validation: those of test are added to the record, once.

    Args:
        training_set: Output folder of `curate`.
        records: Folder of records.
        config: Name, task and target; other fields are defaults and say nothing of the model.
        predicted: `val`, and `test` unless it is held back -> predictions of every labelled image, each once.

    Raises:
        ConfigError: If images are missing, unknown or there twice, a logit is NaN or infinite, the target is no class
            of the set, or other predictions of test are recorded with these of validation.
        SourceError: If the training set is missing or damaged.
    """
    card = read_card(training_set)
    config = with_target(config, card)
    sets = {split: read_split(training_set, split, card, streaming=True) for split in ("train", "val", "test")}
    data = TrialData(card, sets["train"], sets["val"], sets["test"] if "test" in predicted else None)
    splits, ids = select_splits(data, config), {split: set(rows.image_id.tolist()) for split, rows in sets.items()}
    logits = {split: _in_order(split, each, splits, ids) for split, each in predicted.items()}
    record = TrialRecord(
        external=True,
        digest=_digest(config, card.digest, logits["val"]),
        status="complete",
        config=config,
        classes=splits.classes,
        training_set=card.digest,
        split=card.split,
        image=card.image_size,
        grouped_by=card.grouped_by,
        synthetic_images=card.synthetic_images,
        **_evaluated(config, splits, logits),
        **split_counts(splits),
        findings=split_findings(splits),
        reductions=(*card.reductions, *unlabelled_notes(splits, card, config.row_noun)),
        versions=versions(),
        commit=commit(),
        finished=now(),
    )
    table = predictions_table(logits, splits.by_name)
    if has_record(records, record.digest):
        known = read_predictions(records, record.digest)
        if "test" not in logits and split_rows(known, "test").num_rows:
            return read_record(records, record.digest)
        _require_same_test(split_rows(known, "test"), split_rows(table, "test"), config.name)
    write_training_set_card(records, card)
    write_record(records, record, table)
    return record


def _require_same_test(known: pa.Table, given: pa.Table, name: str) -> None:
    if known.num_rows and not known.equals(given):
        raise ConfigError(
            f"test: {name} is recorded with these predictions of val and others of test; test is not predicted anew, "
            "record another model under predictions of val of its own"
        )


def _in_order(
    split: str, predicted: ExternalLogits, splits: Splits, ids: Mapping[str, set[str]]
) -> NDArray[np.float32]:
    """Return the logits of a split's labelled images, in the order of the set.

    Args:
        split: `val` or `test`.
        predicted: Of the split.
        splits: Of the task.
        ids: Of the images of each split, labelled or not.

    Raises:
        ConfigError: As `record_external`.
    """
    examples = splits.by_name[split]
    wanted = examples.source.image_id[examples.rows]
    position: dict[str, int] = {}
    for row, name in enumerate(predicted.image_id.tolist()):
        if name not in ids[split]:
            elsewhere = next((f" but of {other}" for other in ids if name in ids[other]), "")
            raise ConfigError(f"{split}: {name!r} is no image of {split}{elsewhere}; `frame` of a split has its ids")
        if position.setdefault(name, row) != row:
            raise ConfigError(f"{split}: {name!r} is predicted twice, in rows {position[name]} and {row}; keep one")
    missing = [name for name in wanted.tolist() if name not in position]
    if missing:
        raise ConfigError(
            f"{split}: {len(missing):,} of {len(wanted):,} labelled images have no prediction: "
            f"{first_names(missing, NAMED)}; predict every image of the split"
        )
    logits = predicted.logits[[position[name] for name in wanted.tolist()]]
    wrong = wanted[~np.isfinite(logits).all(axis=1)].tolist()
    if wrong:
        raise ConfigError(f"{split}: predictions of {first_names(wrong, NAMED)} are NaN or infinite")
    return np.ascontiguousarray(logits, np.float32)


def _evaluated(config: TrialConfig, splits: Splits, logits: Mapping[str, NDArray[np.float32]]) -> dict[str, Any]:
    """Return the fields of a record with thresholds chosen on validation, and the metrics at them."""
    loss = build_loss(config, splits.classes, torch.from_numpy(splits.train.labels).float())
    readout = Readout(config.task, splits.classes)
    points = choose_operating_points(config, readout, torch.from_numpy(logits["val"]), splits.val.labels)
    thresholds = next(iter(points.values()), ())
    readout = Readout(config.task, splits.classes, applied_thresholds(thresholds))
    evaluated = {
        split: split_metrics(readout, torch.from_numpy(values), splits.by_name[split], loss)
        for split, values in logits.items()
    }
    return {
        "thresholds": thresholds,
        "operating_points": points,
        "probability_metrics": probability_fields(logits, splits, config, Calibration()),
        **metric_fields(evaluated),
    }


def _digest(config: TrialConfig, training_set: str, val: NDArray[np.float32]) -> str:
    """Return the name of the record's folder; logits of validation are in the order of the set."""
    content = {"val": hashlib.sha256(val.tobytes()).hexdigest(), "task": config.task, "target": config.target}
    return digest_of({"schema": RECORD_SCHEMA_VERSION, "external": content, "training_set": training_set})
