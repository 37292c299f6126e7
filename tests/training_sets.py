"""Tiny training sets: bright squares are positive."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hemo.config.trial import AugmentConfig, ModelConfig, TrainingConfig, TrialConfig
from hemo.curation.card import CARD_SCHEMA_VERSION, label_counts, split_finding
from hemo.shards.schema import ROW_SCHEMA

Maker = Callable[..., str]

IMAGE_ONLY = {
    "frame": 0,
    "source_class": None,
    "source_split": None,
    "study": None,
    "series": None,
    "position_mm": None,
    "spacing_mm": None,
    "brain_fraction": None,
    "flags": [],
    "pixel_digest": None,
    "scanner": None,
}

CONVERSION = {
    "files": 100,
    "ignored_files": 0,
    "rows": 96,
    "rejects": 4,
    "reject_reasons": {"truncated": 4},
    "flags": {"blank": 2},
}


@pytest.fixture
def make_training_set(tmp_path: Path) -> Maker:
    """Return a maker of training sets: `make(rows={...}, classes=..., label=...) -> folder`."""
    return training_set_maker(tmp_path)


def training_set_maker(place: Path) -> Maker:
    """Return a maker of one training set below `place`."""

    def make(
        rows: dict[str, int] | None = None,
        classes: tuple[str, ...] = ("any",),
        label: Callable[[int, str], int | None] | None = None,
        side_px: int = 16,
        channels: tuple[str, ...] = ("brain",),
    ) -> str:
        rows = rows or {"train": 48, "val": 16, "test": 16}
        label = label or (lambda number, _: number % 2)
        counts = {}
        for split, count in rows.items():
            labels = {name: [label(number, name) for number in range(count)] for name in classes}
            _write_split(place / "set" / split, split, labels[classes[0]], labels, (len(channels), side_px))
            patient = np.array([0, *(1 + number // 2 for number in range(1, count))])
            matrix = np.array([[2 if value is None else value for value in labels[name]] for name in classes]).T
            counts[split] = {"rows": count, "patients": len(set(patient)), "grouped_by": {"patient": count}}
            counts[split] |= label_counts(classes, matrix, patient)
        card = {
            "schema_version": CARD_SCHEMA_VERSION,
            "digest": "feedfacefeedface",
            "inputs_digest": "0",
            "config": {},
            "image": {"corpus": "phantom", "side_px": side_px},
            "classes": classes,
            "channels": channels,
            "dtype": "uint8",
            "height_px": side_px,
            "width_px": side_px,
            "split": "by_patient",
            "splits": counts,
            "conversion": CONVERSION,
            "steps": [],
            "findings": [
                finding.model_dump()
                for split, count in counts.items()
                if (finding := split_finding(split, count["patients"], count))
            ],
            "reductions": ["train limited to 48 of 96 images"],
        }
        (place / "set" / "card.json").write_text(json.dumps(card))
        return str(place / "set")

    return make


def _write_split(
    folder: Path, split: str, bright: list[int | None], labels: dict[str, list[int | None]], shape: tuple[int, int]
) -> None:
    """Write a split as two parts of noise images; those with a first label of 1 have a bright square."""
    folder.mkdir(parents=True)
    channels, side_px = shape
    generator = np.random.default_rng([len(bright), len(split)])
    images = generator.integers(0, 60, (len(bright), channels, side_px, side_px), dtype=np.uint8)
    images[[value == 1 for value in bright], :, 4:10, 4:10] += 150
    rows = [
        {
            **IMAGE_ONLY,
            "image_id": f"{split}-{number:03d}",
            "image": image.tobytes(),
            "height_px": side_px,
            "width_px": side_px,
            "patient": f"image {split}-000" if number == 0 else f"patient-{split}-{number // 2}",
            "source_rows": side_px,
            "source_cols": side_px,
            "source_path": f"{split}-{number:03d}.dcm",
            "pixel_format": "u12",
        }
        for number, image in enumerate(images)
    ]
    table = pa.Table.from_pylist(rows, schema=ROW_SCHEMA)
    for name, values in labels.items():
        table = table.append_column(pa.field(f"label_{name}", pa.uint8()), pa.array(values, pa.uint8()))
    half = len(rows) // 2
    pq.write_table(table.slice(0, half), folder / "part-00000.parquet", row_group_size=8, write_page_checksum=True)
    pq.write_table(table.slice(half), folder / "part-00001.parquet", row_group_size=8, write_page_checksum=True)


@pytest.fixture(scope="session")
def tiny_trial() -> TrialConfig:
    """Return a trial that learns the bright squares in three epochs of a second."""
    return TrialConfig(
        model=ModelConfig(backbone="test_resnet", dropout=0.1),
        training=TrainingConfig(epochs=3, batch_size=8, learning_rate=1e-3),
        augment=AugmentConfig(horizontal_flip=0.5),
    )
