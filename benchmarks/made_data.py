"""Made-up shards with every flag, several pixel formats and rejects, to see how a data page with 2,000 images behaves.

    python benchmarks/made_data.py runs/made_data
    hemo report --data runs/made_data --out runs/made_data_report
    python benchmarks/bench_page.py runs/made_data_report/data.html

Needs neither Ray nor a GPU. A thumbnail of these images takes as much of the page as one of a chest X-ray, 0.9 kB.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.made_training_set import smooth_images
from hemo.imaging.image import FLAGS, REASONS
from hemo.shards.card import ConversionCard
from hemo.shards.schema import IMAGE, REJECT_SCHEMA, ROW_SCHEMA
from hemo.shards.writer import images_array, parquet_options, rows_per_group, write_table
from hemo.storage import write_json

SIDE_PX = 64
FORMATS = ("u8", "u10", "u12", "u16", "i12", "i13", "i16", "rgb")
UNIT_ROWS = 1_000
SLICES = 30
"""Of a series; each patient has one."""
CHANNELS = ("brain", "subdural", "bone")
NOISE_GREY_LEVELS = 50


def main() -> None:
    """Write shards, rejects and card."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=12_000)
    parser.add_argument("--rejects", type=int, default=6_000)
    given = parser.parse_args()
    generator = np.random.default_rng(0)
    (given.out / "shards").mkdir(parents=True)
    for unit, start in enumerate(range(0, given.rows, UNIT_ROWS)):
        place = given.out / "shards" / f"unit-{unit:06d}.parquet"
        step = rows_per_group(len(CHANNELS) * SIDE_PX**2)
        pq.write_table(
            unit_rows(start, min(UNIT_ROWS, given.rows - start), generator),
            place,
            row_group_size=step,
            **parquet_options(ROW_SCHEMA),
        )
    reasons = [list(REASONS)[number % len(REASONS)] for number in range(given.rejects)]
    rejects = {
        "source_path": [f"study-{number // 40}/slice-{number:05d}.dcm" for number in range(given.rejects)],
        "frame": [0] * given.rejects,
        "reason": reasons,
        "detail": [REASONS[reason] for reason in reasons],
        "scanner": [None] * given.rejects,
    }
    write_table(str(given.out / "rejects.parquet"), pa.table(rejects, schema=REJECT_SCHEMA))
    write_json(str(given.out / "card.json"), card(given.rows, reasons).model_dump(mode="json"))


def unit_rows(start: int, count: int, generator: np.random.Generator) -> pa.Table:
    """Return rows of a unit: every third image has a flag, and each pixel format is half as frequent as the one before.

    Args:
        start: Number of its first row.
        count: Of rows.
        generator: Of pixels, flags and formats.
    """
    numbers = range(start, start + count)
    names = [f"image-{number:06d}" for number in numbers]
    frequency = 0.5 ** np.arange(len(FORMATS))
    formats = generator.choice(FORMATS, count, p=frequency / frequency.sum())
    known = {
        "image_id": names,
        IMAGE: images_array(list(noisy_images(count, generator))),
        "height_px": [SIDE_PX] * count,
        "width_px": [SIDE_PX] * count,
        "frame": [0] * count,
        "patient": [f"patient-{number // SLICES}" for number in numbers],
        "study": [f"study-{number // SLICES}" for number in numbers],
        "series": [f"series-{number // SLICES}" for number in numbers],
        "position_mm": [5.0 * (number % SLICES) for number in numbers],
        "source_rows": [512] * count,
        "source_cols": [512] * count,
        "slice_thickness_mm": generator.choice([2.5, 5.0], count),
        "brain_fraction": generator.beta(4, 8, count),
        "flags": [[list(FLAGS)[number // 3 % len(FLAGS)]] if number % 3 == 0 else [] for number in numbers],
        "source_path": [f"{name}.dcm" for name in names],
        "pixel_format": formats.tolist(),
    }
    columns = [pa.array(known.get(field.name, [None] * count), field.type) for field in ROW_SCHEMA]
    return pa.Table.from_arrays(columns, schema=ROW_SCHEMA)


def noisy_images(count: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Return images of shape (count, channels, height_px, width_px), uint8."""
    smooth = smooth_images(count, SIDE_PX, int(generator.integers(2**31)))
    noise = generator.integers(0, NOISE_GREY_LEVELS, smooth.shape, dtype=np.uint8)
    return np.minimum(smooth, 255 - NOISE_GREY_LEVELS) + noise


def card(rows: int, reasons: list[str]) -> ConversionCard:
    """Return the card of the shards."""
    return ConversionCard(
        digest="feedfacefeedface",
        image={"corpus": "dicom", "windows": list(CHANNELS), "side_px": SIDE_PX},
        channels=CHANNELS,
        dtype="uint8",
        height_px=SIDE_PX,
        width_px=SIDE_PX,
        units=-(-rows // UNIT_ROWS),
        files=rows + len(reasons),
        ignored_files=0,
        rows=rows,
        rejects=len(reasons),
        reject_reasons={name: reasons.count(name) for name in sorted(set(reasons))},
        flags={name: len(range(3 * place, rows, 3 * len(FLAGS))) for place, name in enumerate(FLAGS)},
        pixel_formats={},
        patients=-(-rows // SLICES),
    )


if __name__ == "__main__":
    main()
