"""Records of many made-up trials on one made-up training set, to see how a page with hundreds of them behaves.

    python benchmarks/made_study.py runs/made_study --trials 500
    hemo report --records runs/made_study/records --data runs/made_study/set --out runs/made_study/report

Needs neither Ray nor a GPU. The trials differ in backbone, learning rate and width; the better ones have larger logits.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.made_training_set import CLASS, smooth_images, write_training_set
from hemo.config.trial import TrialConfig
from hemo.config.tune import changed
from hemo.curation.card import read_card
from hemo.reporting.page.data_set import read_data_set
from hemo.training.results import EpochMetrics
from hemo.trials.key import TrialKeys
from hemo.trials.record import PREDICTION_SCHEMA, TrialRecord, write_record

ROWS = {"train": 2_000, "val": 500, "test": 2_500}
SIDE_PX = 64
EPOCHS = 10
BACKBONES = ("resnet18", "resnet34", "resnet50", "mobilenetv3_small_100", "densenet121")


def main() -> None:
    """Write the training set and the records."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--trials", type=int, default=500)
    given = parser.parse_args()
    images = smooth_images(64, SIDE_PX)
    folder = write_training_set(given.out / "set", images, ROWS)
    rows, digest = read_data_set(folder).rows, read_card(folder).digest
    for number in range(given.trials):
        write_trial(given.out / "records", number, rows, digest)


def write_trial(records: Path, number: int, rows: pa.Table, training_set: str) -> None:
    """Write the record of a trial, with predictions of validation and test."""
    generator = np.random.default_rng([1, number])
    quality = float(generator.uniform(0.2, 1.5))
    changes = {
        "name": "",
        "model.backbone": BACKBONES[number % len(BACKBONES)],
        "training.learning_rate": float(10.0 ** generator.uniform(-5, -2)),
        "model.dense_width": int(8 * generator.integers(1, 32)),
        "seed": number,
    }
    config = changed(TrialConfig(target=CLASS), changes, origin="made_study")
    tables = [_predictions(rows.filter(pc.equal(rows["split"], name)), quality, generator) for name in ("val", "test")]
    losses = [0.7 - 0.4 * quality / 1.5 * (1 - 0.7**epoch) for epoch in range(1, EPOCHS + 1)]
    metrics = [{"loss": loss, "accuracy": 1 - loss / 2, "auroc": 1 - loss / 2.2} for loss in losses]
    record = TrialRecord(
        digest=TrialKeys("", training_set).key(config).digest,
        status="complete",
        config=config,
        classes=(CLASS,),
        training_set=training_set,
        split="by_patient",
        epochs=tuple(
            EpochMetrics(epoch=epoch, train=each, val=each, learning_rate=1e-4, seconds=9.5, images_per_second=63)
            for epoch, each in enumerate(metrics, 1)
        ),
        best_epoch=EPOCHS,
        thresholds=(0.5,),
        metrics={"train": metrics[-1], "val": metrics[-1], "test": metrics[-1]},
        rows=ROWS,
        seconds=float(generator.uniform(60, 600)),
        parameters=11_177_025,
        megabytes=float(generator.uniform(5, 100)),
        latency_ms=float(generator.uniform(2, 60)),
        hardware="made up",
        finished="2026-11-27T10:00:00+00:00",
    )
    write_record(str(records), record, pa.concat_tables(tables))


def _predictions(rows: pa.Table, quality: float, generator: np.random.Generator) -> pa.Table:
    """Return predictions of images, the more right the higher `quality`, columns of `PREDICTION_SCHEMA`."""
    labels = rows[f"label_{CLASS}"].to_numpy()
    logits = 2 * quality * (2.0 * labels - 1) + generator.normal(0, 2, len(labels))
    columns = [rows[name].to_pylist() for name in ("split", "image_id", "patient", "pixel_format")]
    values = [*columns, [[label] for label in labels.tolist()], [[logit] for logit in logits.tolist()]]
    return pa.table(dict(zip(PREDICTION_SCHEMA.names, values, strict=True)), schema=PREDICTION_SCHEMA)


if __name__ == "__main__":
    main()
