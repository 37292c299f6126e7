"""The RSNA corpus at its real size without its pixels: names, labels, footers and an index of made-up metadata."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from hemo.config.convert import ConvertConfig
from hemo.corpus.labels import RSNA_CLASSES, LabelTable
from hemo.corpus.sources import media_of
from hemo.imaging.settings import ImageSettings, image_settings
from hemo.pseudonym import Pseudonymiser
from hemo.shards.card import ConversionCard
from hemo.shards.manifest import Unit, unit_digest
from hemo.shards.schema import REJECT_SCHEMA, SHARD_INDEX_SCHEMA, ShardFooter
from hemo.shards.writer import ShardBuilder, write_table
from hemo.storage import write_json

IMAGES = 752_803
PATIENTS, SERIES, EQUAL_PAIRS = 18_000, 25_000, 4_073
POSITIVES = (107_933, 3_145, 36_118, 26_205, 35_675, 47_166)
"""Of `RSNA_CLASSES`, as counted in the corpus's label table."""

LINKS_A_FILE = 50_000  # below the 65,000 that ext4 allows
TESTED_PATIENTS = 5  # every fifth lies in the folder `test`


def made_labels(images: int, generator: np.random.Generator) -> LabelTable:
    """Return labels drawn independently of each other at the corpus's prevalences, for made-up names."""
    shares = np.array(POSITIVES) / IMAGES
    keys = pa.array([f"ID_{number:09x}" for number in range(images)])
    return LabelTable(RSNA_CLASSES, keys, (generator.random((images, 6)) < shares).astype(np.uint8), 0)


def write_long_labels(file: Path, table: LabelTable) -> None:
    """Write labels as RSNA does: `ID,Label`, a row an image and class."""
    join: Any = pc.binary_join_element_wise
    images, classes = len(table.keys), len(table.classes)
    ids = join(
        table.keys.take(np.repeat(np.arange(images), classes)), pa.array(np.tile(table.classes, images).tolist()), "_"
    )
    pacsv.write_csv(pa.table({"ID": ids, "Label": table.values.ravel()}), file)


def link_names(folder: Path, keys: pa.StringArray) -> None:
    """Make a folder of that many `.dcm` names: hard links to few files of one byte."""
    folder.mkdir()
    for start in range(0, len(keys), LINKS_A_FILE):
        names = [f"{folder}/{key}.dcm" for key in keys[start : start + LINKS_A_FILE].to_pylist()]
        Path(names[0]).write_bytes(b"x")
        for name in names[1:]:
            os.link(names[0], name)


def conversion_config(scratch: str) -> ConvertConfig:
    """Return the config of the made-up conversion: names and output lie below `scratch`."""
    return ConvertConfig(source=f"{scratch}/names", corpus="rsna", out=f"{scratch}/out")


def write_shards(config: ConvertConfig, units: Sequence[Unit]) -> None:
    """Write a shard without rows for each unit, with the footer of a finished one."""
    settings = image_settings(config, media_of(config.source, config.corpus), Pseudonymiser())
    Path(config.out, "shards").mkdir(parents=True)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda unit: _write_shard(config.out, unit, settings), units))


def write_derived(config: ConvertConfig, keys: pa.StringArray, generator: np.random.Generator) -> None:
    """Write index, rejects and card as `convert` leaves them, of made-up metadata."""
    index = pa.table(columns_of(keys.take(pc.sort_indices(keys)), generator), schema=SHARD_INDEX_SCHEMA)
    write_table(f"{config.out}/index.parquet", index)
    write_table(f"{config.out}/rejects.parquet", REJECT_SCHEMA.empty_table())
    settings = image_settings(config, media_of(config.source, config.corpus), Pseudonymiser())
    card = ConversionCard(
        digest="0" * 16,
        image=settings.model_dump(mode="json"),
        channels=settings.channels,
        dtype="uint8",
        height_px=256,
        width_px=256,
        units=-(-len(index) // config.unit_files),
        files=len(index),
        ignored_files=0,
        rows=len(index),
        rejects=0,
        reject_reasons={},
        flags={},
        pixel_formats={},
        patients=PATIENTS,
    )
    write_json(f"{config.out}/card.json", card.model_dump(mode="json"))


def _write_shard(out: str, unit: Unit, settings: ImageSettings) -> None:
    plain = settings.model_dump(mode="json")
    footer = ShardFooter(
        unit=unit.number,
        digest=unit_digest(unit, plain),
        settings=plain,
        channels=settings.channels,
        dtype="uint8",
        height_px=256,
        width_px=256,
        files=len(unit.paths),
        rows=0,
        rejects=(),
    )
    Path(out, unit.shard).write_bytes(ShardBuilder().finish(footer.encoded()))


def columns_of(keys: pa.StringArray, generator: np.random.Generator) -> dict[str, Any]:
    """Return the columns of an index of made-up metadata; its images lie 1,024 to a unit."""
    rows = len(keys)
    series = generator.integers(0, max(1, SERIES * rows // IMAGES), rows)
    patient = series % max(1, PATIENTS * rows // IMAGES)
    join: Any = pc.binary_join_element_wise
    formats = np.array(["u12", "u16", "i16"])[generator.choice(3, rows, p=[0.3, 0.1, 0.6])]
    return {
        "image_id": keys,
        "height_px": np.full(rows, 256, np.int32),
        "width_px": np.full(rows, 256, np.int32),
        "frame": np.zeros(rows, np.int32),
        "source_class": pa.nulls(rows, pa.string()),
        "source_split": np.where(patient % TESTED_PATIENTS, "train", "test"),
        "patient": _names("ID_p", patient),
        "study": _names("ID_t", series),
        "series": _names("ID_s", series),
        "position_mm": generator.integers(0, 40, rows).astype(np.float32) * 5,
        "orientation": pa.FixedSizeListArray.from_arrays(
            pa.array(np.tile(np.array([1, 0, 0, 0, 1, 0], np.float32), rows)), 6
        ),
        "source_rows": np.full(rows, 512, np.int32),
        "source_cols": np.full(rows, 512, np.int32),
        "spacing_mm": np.full(rows, 0.49, np.float32),
        "slice_thickness_mm": pa.nulls(rows, pa.float32()),
        "brain_fraction": generator.random(rows, np.float32) * 0.4,
        "flags": _flags(rows, generator),
        "pixel_digest": _digests(patient, generator),
        "source_path": join(keys, ".dcm", ""),
        "pixel_format": formats,
        "scanner": pa.nulls(rows, pa.string()),
        "unit": np.arange(rows, dtype=np.int32) // 1024,
        "row": np.arange(rows, dtype=np.int32) % 1024,
    }


def _names(prefix: str, numbers: NDArray[np.int64]) -> pa.StringArray:
    names = pa.array([f"{prefix}{number:08x}" for number in range(int(numbers.max()) + 1)])
    return names.take(pa.array(numbers))


def _flags(rows: int, generator: np.random.Generator) -> pa.ListArray:
    """Return about a tenth `little_brain`, a third `padded`, and some blank slices and captures."""
    lists = [[], ["little_brain"], ["padded"], ["little_brain", "padded"], ["blank", "little_brain"]]
    kinds = [*lists, ["secondary_capture"]]
    codes = generator.choice(len(kinds), rows, p=[0.6, 0.07, 0.299, 0.03, 0.0008, 0.0002])
    return pa.array(kinds, pa.list_(pa.string())).take(pa.array(codes))


def _digests(patient: NDArray[np.int64], generator: np.random.Generator) -> pa.FixedSizeBinaryArray:
    """Return digests, all different but for pairs of rows of two patients."""
    digests = generator.integers(0, 256, (len(patient), 16), np.uint8)
    first, second = generator.permutation(len(patient))[: 2 * (EQUAL_PAIRS * len(patient) // IMAGES)].reshape(2, -1)
    apart = patient[first] != patient[second]
    digests[second[apart]] = digests[first[apart]]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(patient), [None, pa.py_buffer(digests.data)])
