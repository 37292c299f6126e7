"""Hand-made shards for tests that need some without converting anything."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hemo.shards.card import ConversionCard
from hemo.shards.schema import ROW_SCHEMA, SHARD_INDEX_SCHEMA
from hemo.storage import write_json


def index_of(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Return the index of hand-made rows, without files."""
    return _index(stored_rows(rows), unit_rows=3)


def write_conversion(folder: Path, rows: Sequence[dict[str, Any]], unit_rows: int = 3) -> str:
    """Write shards, index and card of hand-made rows: image `i` has two channels of 2 x 2 pixels of value `i`."""
    full = stored_rows(rows)
    (folder / "shards").mkdir(parents=True)
    for unit in range(-(-len(full) // unit_rows)):
        table = pa.Table.from_pylist(full[unit * unit_rows : (unit + 1) * unit_rows], schema=ROW_SCHEMA)
        pq.write_table(table, folder / "shards" / f"unit-{unit:06d}.parquet", row_group_size=2)
    index = _index(full, unit_rows)
    pq.write_table(index, folder / "index.parquet")
    write_json(str(folder / "card.json"), _card(index).model_dump(mode="json"))
    return str(folder)


def stored_rows(given: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return hand-made rows with all columns of a shard."""
    return [_row(number, row) for number, row in enumerate(given)]


def _row(number: int, given: dict[str, Any]) -> dict[str, Any]:
    image_id = given.get("image_id", f"ID_{number:03d}")
    row = {
        "image_id": image_id,
        "image": bytes([number % 256] * 8),
        "height_px": 2,
        "width_px": 2,
        "frame": 0,
        "source_class": None,
        "source_split": None,
        "patient": f"P{number:03d}",
        "study": None,
        "series": None,
        "position_mm": None,
        "orientation": None,
        "source_rows": 2,
        "source_cols": 2,
        "spacing_mm": 1.0,
        "slice_thickness_mm": None,
        "brain_fraction": 0.5,
        "flags": [],
        "pixel_digest": hashlib.md5(str(number).encode()).digest(),
        "source_path": f"train/{image_id}.dcm",
        "pixel_format": "u12",
        "scanner": None,
    }
    return row | given


def _index(rows: list[dict[str, Any]], unit_rows: int) -> pa.Table:
    placed = [row | {"unit": at // unit_rows, "row": at % unit_rows} for at, row in enumerate(rows)]
    return pa.Table.from_pylist(placed, schema=SHARD_INDEX_SCHEMA)


def _card(index: pa.Table) -> ConversionCard:
    return ConversionCard(
        digest="0123456789abcdef",
        image={"corpus": "rsna", "windows": ["brain", "subdural"], "side_px": 2},
        channels=("brain", "subdural"),
        dtype="uint8",
        height_px=2,
        width_px=2,
        units=int(np.max(index["unit"].to_numpy())) + 1,
        files=len(index),
        ignored_files=0,
        rows=len(index),
        rejects=0,
        reject_reasons={},
        flags={},
        pixel_formats={},
        patients=0,
    )
