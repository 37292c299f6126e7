"""Tiny training sets of studies with embeddings: a slice alone does not show its label, its neighbours do."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hemo.config.trial import ModelConfig, SeriesConfig, TrainingConfig, TrialConfig
from hemo.shards.embeddings import EMBEDDINGS_SCHEMA_VERSION
from tests.training_sets import training_set_maker

SLICES = 6
"""Of a study."""

DIMENSION = 4

BLOOD_AFTER, MIMIC_AFTER = 1, 2
"""Of the two bright slices of a study, how far the second is above the first: neighbours are blood, slices on their own
partial volume."""


@dataclass(frozen=True)
class SeriesSet:
    """A training set and its embeddings."""

    training_set: str
    embeddings: str

    def trial(self, backbone: str = "BiGRU(8)", *, epochs: int = 3, **series: object) -> TrialConfig:
        """Return a trial of a sequence model on them."""
        config = SeriesConfig.model_validate({"embeddings": self.embeddings, **series})
        return TrialConfig(
            model=ModelConfig(backbone=backbone, dropout=0.1, series=config),
            training=TrainingConfig(epochs=epochs, batch_size=4, learning_rate=1e-2),
        )


@pytest.fixture
def make_series_set(tmp_path: Path) -> Callable[..., SeriesSet]:
    """Return a maker of a set of studies below `tmp_path`."""
    return lambda **options: make_series(tmp_path, **options)


def make_series(
    place: Path,
    *,
    studies: dict[str, int] | None = None,
    label: Callable[[int, str], int | None] | None = None,
    seed: int = 0,
    with_probabilities: bool = False,
) -> SeriesSet:
    """Write a set of studies, every other one with blood, whose rows are in no order, and their embeddings.

    Args:
        place: Folder for both.
        studies: Of each split.
        label: Row and class -> label; None: the true one.
        seed: Of the noise in the embeddings.
        with_probabilities: The embeddings are noise, and a slice's probability is 0.9 where it is bright, else 0.1.
    """
    studies = studies or {"train": 24, "val": 12, "test": 12}
    rows = {split: SLICES * count for split, count in studies.items()}
    folder = training_set_maker(place)(rows, label=label or (lambda number, _: true_label(number)))
    generator = np.random.default_rng(seed)
    ids, vectors = [], []
    for split in rows:
        for part in sorted(Path(folder, split).glob("*.parquet")):
            table = pq.read_table(part)
            numbers = [int(image_id.rpartition("-")[2]) for image_id in table["image_id"].to_pylist()]
            pq.write_table(_with_places(table, split, numbers), part, row_group_size=8, write_page_checksum=True)
            ids += table["image_id"].to_pylist()
            vectors += [embedding(number, generator) for number in numbers]
    order = generator.permutation(len(ids))
    drawn, probabilities = np.array(vectors, np.float32)[order], None
    if with_probabilities:
        probabilities = np.where(drawn[:, :1] > 0, np.float32(0.9), np.float32(0.1))
        drawn[:, 0] = 0
    write_embeddings(place / "embedded", [ids[k] for k in order], drawn, probabilities=probabilities)
    return SeriesSet(folder, str(place / "embedded"))


def place_of(number: int) -> tuple[int, int]:
    """Return study and slice, from below, of a row: files are not in the order of slices."""
    study, file = divmod(number, SLICES)
    return study, (5 * file + 2) % SLICES  # 5 and 6 have no common divisor: every slice once


def true_label(number: int) -> int:
    """Return 1 where a slice is bright and so is a neighbour."""
    study, _ = place_of(number)
    return int(study % 2 == 0 and is_bright(number))


def is_bright(number: int) -> bool:
    """Return whether a row is one of the two bright slices of its study."""
    study, place = place_of(number)
    first = study // 2 % (SLICES - 1)
    return place in (first, (first + (MIMIC_AFTER if study % 2 else BLOOD_AFTER)) % SLICES)


def embedding(number: int, generator: np.random.Generator) -> list[float]:
    """Return a vector whose first number shows whether the slice is bright."""
    bright = is_bright(number)
    return [3.0 * bright - 1.0, *generator.normal(0, 1, DIMENSION - 1)]


def _with_places(table: pa.Table, split: str, numbers: list[int]) -> pa.Table:
    places = [place_of(number) for number in numbers]
    columns = {
        "patient": pa.array([f"{split}-{study}" for study, _ in places]),
        "study": pa.array([f"study-{split}-{study}" for study, _ in places]),
        "series": pa.array([f"series-{split}-{study}" for study, _ in places]),
        "position_mm": pa.array([5.0 * place - 40 for _, place in places], pa.float32()),
    }
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    return table


def write_embeddings(
    folder: Path, ids: list[str], vectors: np.ndarray, pooling: str = "gap", probabilities: np.ndarray | None = None
) -> None:
    """Write a folder as `embed` does, in two parts; probabilities are of one class, (rows, 1)."""
    (folder / "embeddings").mkdir(parents=True, exist_ok=True)
    dimension, half = vectors.shape[1], len(ids) // 2
    for number, part in enumerate((slice(0, half), slice(half, None))):
        values = pa.FixedSizeListArray.from_arrays(pa.array(vectors[part].reshape(-1)), dimension)
        table = pa.table({"image_id": pa.array(ids[part], pa.string()), "embedding": values})
        if probabilities is not None:
            values = pa.FixedSizeListArray.from_arrays(pa.array(probabilities[part].reshape(-1)), 1)
            table = table.append_column("probabilities", values)
        pq.write_table(table, folder / f"embeddings/part-{number:06d}.parquet")
    card = {
        "schema_version": EMBEDDINGS_SCHEMA_VERSION,
        "source": "shards",
        "inputs": {
            "backbone": "test_resnet",
            "weights": "imagenet: f",
            "source": "0123",
            "vectors": float(np.abs(vectors).sum()),
            "pooling": pooling,
        },
        "backbone": "test_resnet",
        "pooling": pooling,
        "channels": ["brain"],
        "height_px": 16,
        "width_px": 16,
        "side_px": 0,
        "mean": [0.5],
        "std": [0.25],
        "classes": [] if probabilities is None else ["any"],
        "dimension": dimension,
        "dtype": "float32",
        "rows": len(ids),
        "parts": 2,
    }
    (folder / "card.json").write_text(json.dumps(card))
