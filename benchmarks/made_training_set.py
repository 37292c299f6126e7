"""A training set of any size from a few images: rows that repeat them under names of their own. Needs no Ray."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hemo.curation.card import ConversionCounts, Count, TrainingSetCard
from hemo.shards.schema import IMAGE, ROW_SCHEMA
from hemo.shards.writer import images_array, parquet_options, rows_per_group
from hemo.storage import write_json

PART_ROWS = 3_567  # parts of 512 MiB of 3 x 224 x 224 px, as `curate` cuts them
CLASS = "any"


def write_training_set(folder: Path, images: NDArray[np.uint8], rows: dict[str, int], seed: int = 0) -> str:
    """Write a training set as `curate` does: the same columns, row groups, codec and checksums.

    Args:
        folder: Where to.
        images: What rows are drawn from, shape (images, channels, height_px, width_px).
        rows: Of each split.
        seed: Of the drawing.
    """
    generator = np.random.default_rng(seed)
    for split in ("train", "val", "test"):
        drawn = generator.integers(0, len(images), rows[split])
        (folder / split).mkdir(parents=True)
        for number, part in enumerate(np.array_split(drawn, max(1, -(-len(drawn) // PART_ROWS)))):
            _write_part(folder / split / f"part-{number:05d}.parquet", images, part, f"{split}-{number}")
    channels, height_px, width_px = images.shape[1:]
    card = TrainingSetCard(
        digest="feedfacefeedface",
        inputs_digest="feedfacefeedface",
        config={},
        image={},
        classes=(CLASS,),
        channels=tuple(f"channel-{number}" for number in range(channels)),
        dtype="uint8",
        height_px=height_px,
        width_px=width_px,
        split="by_image",
        splits={split: _count(count) for split, count in rows.items()},
        conversion=ConversionCounts(files=0, ignored_files=0, rows=0, rejects=0, reject_reasons={}, flags={}),
        steps=(),
        findings=(),
    )
    write_json(str(folder / "card.json"), card.model_dump(mode="json"))
    return str(folder)


def _count(rows: int) -> Count:
    """Return the counts of a split in which every image is a patient and half of them are positive."""
    positive = rows // 2
    return Count(
        rows=rows,
        patients=rows,
        positives={CLASS: positive},
        blanks={CLASS: 0},
        patients_with={CLASS: positive},
        patients_without={CLASS: rows - positive},
        grouped_by={"patient": rows},
    )


def _write_part(place: Path, images: NDArray[np.uint8], drawn: NDArray[np.integer], name: str) -> None:
    """Write rows that hold the drawn images."""
    schema = pa.schema([*ROW_SCHEMA, pa.field(f"label_{CLASS}", pa.uint8())])
    step = rows_per_group(images[0].nbytes)
    with pq.ParquetWriter(place, schema, **parquet_options(schema)) as writer:
        for start in range(0, len(drawn), step):
            group = drawn[start : start + step]
            writer.write_table(_rows(images[group], start, name, schema), row_group_size=step)


def _rows(images: NDArray[np.uint8], start: int, name: str, schema: pa.Schema) -> pa.Table:
    rows, _, height_px, width_px = images.shape
    names = [f"{name}-{start + place}" for place in range(rows)]
    known = {
        "image_id": names,
        IMAGE: images_array(list(images)),
        "height_px": [height_px] * rows,
        "width_px": [width_px] * rows,
        "frame": [0] * rows,
        "patient": names,
        "source_rows": [512] * rows,
        "source_cols": [512] * rows,
        "flags": [[]] * rows,
        "source_path": names,
        "pixel_format": ["u12"] * rows,
        f"label_{CLASS}": [place % 2 for place in range(rows)],
    }
    columns = [pa.array(known.get(field.name, [None] * rows), field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def smooth_images(count: int, side_px: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return noise with the scale of a head's structures and a little of its own on each pixel, 3 channels.

    Returns:
        Shape (count, 3, side_px, side_px), uint8.
    """
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 240, (count, 3, -(-side_px // 16), -(-side_px // 16)), dtype=np.uint8)
    smooth = coarse.repeat(16, axis=2).repeat(16, axis=3)[:, :, :side_px, :side_px]
    return smooth + generator.integers(0, 4, smooth.shape, dtype=np.uint8)


def stored_bytes(training_set: str) -> int:
    """Return the size of a training set's files."""
    return sum(part.stat().st_size for part in Path(training_set).glob("*/*.parquet"))
