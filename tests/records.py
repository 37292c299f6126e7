"""Made-up records that look like real ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hemo.config.trial import TrialConfig
from hemo.config.tune import changed
from hemo.training.results import EpochMetrics
from hemo.trials.key import TrialKeys
from hemo.trials.record import PREDICTION_SCHEMA, TrialRecord, write_record

TRAINING_SET = "00112233aabbccdd"
TEST_LABELS = [1, 1, 0, 0, 0, 1, 0, 0, 0, 0]
TEST_PATIENTS = ["p1", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p8"]
MANY_LABELS = [1, 0] * 20
MANY_PATIENTS = [f"p{row // 2:02d}" for row in range(40)]


def trial_digest(config: TrialConfig, training_set: str) -> str:
    """Return the digest of a trial on the training set with this digest."""
    return TrialKeys("", training_set).key(config).digest


def predictions(split: str, labels: list[int], patients: list[str], logits: list[float], formats: str) -> pa.Table:
    """Return predictions of one class; each letter of `formats` is a pixel format."""
    columns = [
        [split] * len(logits),
        [f"i{row:02d}" for row in range(len(logits))],
        patients,
        list(formats),
        [[label] for label in labels],
        [[logit] for logit in logits],
    ]
    return pa.table(dict(zip(PREDICTION_SCHEMA.names, columns, strict=True)), schema=PREDICTION_SCHEMA)


@pytest.fixture
def make_record(tmp_path: Path) -> Callable[..., TrialRecord]:
    """Return a function that writes one record below `tmp_path/records`, see `record_maker`."""
    return record_maker(tmp_path)


def record_maker(place: Path) -> Callable[..., TrialRecord]:
    """Return a function that writes one record below `place/records`.

    `make_record(changes, quality=0.9, status="complete")`: `quality` from 0 to 1 shapes curves and predictions, and
    `test=False` leaves test unread; `formats` has a letter for each test image. Test has ten images of eight patients,
    3 of 10 positive, too few for intervals; with `many=True` forty of twenty, each with one of both labels.
    Validation has the same images.
    """

    def make(
        changes: dict[str, Any], *, quality: float = 0.9, status: str = "complete", test: bool = True, **fields: Any
    ) -> TrialRecord:
        config = changed(TrialConfig(), changes, origin="test")
        labels, patients = (MANY_LABELS, MANY_PATIENTS) if fields.pop("many", False) else (TEST_LABELS, TEST_PATIENTS)
        training_set, formats = fields.pop("training_set", TRAINING_SET), fields.pop("formats", "a" * len(labels))
        learned = _learned(quality, test) if status != "failed" else {}
        record = TrialRecord(
            digest=trial_digest(config, training_set),
            status=status,
            config=config,
            classes=("any",),
            training_set=training_set,
            **{"split": "by_patient", "finished": "2026-11-20T10:00:00+00:00", **learned, **fields},
        )
        splits = ["val", "test"] if test else ["val"]
        logits = _logits(quality, labels)
        tables = [predictions(split, labels, patients, logits, formats) for split in splits]
        write_record(str(place / "records"), record, pa.concat_tables(tables) if status == "complete" else None)
        return record

    return make


def _logits(quality: float, labels: list[int]) -> list[float]:
    generator = np.random.default_rng(round(quality * 1000))
    return [float(4 * quality * (2 * label - 1) + generator.normal(0, 2)) for label in labels]


def _learned(quality: float, test: bool) -> dict[str, Any]:
    def at(epoch: int, gap: float) -> dict[str, float]:
        progress = quality * (1 - 0.75**epoch)
        return {
            "loss": 0.7 - 0.6 * progress + gap,
            "accuracy": 0.55 + 0.44 * progress - gap / 3,
            "auroc": 0.5 + 0.49 * progress,
        }

    epochs = tuple(
        EpochMetrics(
            epoch=epoch,
            train=at(epoch, 0),
            val=at(epoch, 0.02 + 0.004 * max(0, epoch - 7) ** 2),
            learning_rate=1e-4,
            seconds=9.5,
            images_per_second=63,
        )
        for epoch in range(1, 11)
    )
    splits = {"train": at(8, 0), "val": at(8, 0.02)} | ({"test": at(8, 0.03)} if test else {})
    return {
        "epochs": epochs,
        "best_epoch": 8,
        "thresholds": (0.5,),
        "metrics": splits,
        "rows": {"train": 600, "val": 120, "test": 10},
        "seconds": 95.0 + 400 * quality**3,
        "parameters": 11_177_025,
        "hardware": "2 CPU cores, no GPU",
        "reductions": ("train limited to 600 of 4,707 images",),
    }
