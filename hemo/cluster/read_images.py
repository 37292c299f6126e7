"""Decoded images of a raw corpus as a Ray Dataset, for the pipelines of users. Nothing is written."""

import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data.extensions import ArrowTensorArray

from hemo.cluster.ray_data import data_context, set_up_decoding
from hemo.config.convert import ReadConfig
from hemo.console import print_line
from hemo.corpus.sources import list_corpus, media_of
from hemo.imaging.dicom.read import quiet_pydicom
from hemo.imaging.settings import image_settings
from hemo.pseudonym import read_pseudonyms
from hemo.shards.convert_unit import UnitTask, unit_rows
from hemo.shards.manifest import Manifest, Unit, update_manifest
from hemo.shards.schema import IMAGE, INDEX_SCHEMA, REJECT_SCHEMA, ROW_SCHEMA, ROWS_PER_GROUP, ShardReject

READ_THREADS = 4

Row = dict[str, Any] | ShardReject
Tables = Callable[[Unit, Iterable[Row]], Iterator[pa.Table]]
"""Makes blocks of the rows of a unit."""


def decoded_corpus(config: ReadConfig, tables: Tables) -> ray.data.Dataset:
    """Return the images of a raw corpus, or what gives none, decoded as `convert` does it, while the dataset is read.

    Call it within `hemo.cluster.session.connected`, or after `ray.init`.

    Args:
        config: Which corpus, how its images are made, and how many files a task reads.
        tables: `image_tables` or `reject_tables`.

    Raises:
        SourceError: If the source is missing or empty, or two files would share an `image_id`.
        ConfigError: On an unknown window or a bad pseudonym key.
    """
    pseudonyms = read_pseudonyms(config.pseudonym_key)
    task = UnitTask(
        config.source,
        image_settings(config, media_of(config.source, config.corpus), pseudonyms),
        pseudonyms,
        READ_THREADS,
    )
    listing = list_corpus(config.source, config.corpus)
    units = update_manifest(Manifest((), ()), listing.files, unit_files=config.unit_files).units
    with data_context("read_images"):  # the dataset keeps it
        rows = ray.data.from_items([{"unit": pickle.dumps(unit)} for unit in units], override_num_blocks=len(units))
        return rows.map_batches(partial(_decoded, task=task, tables=tables), batch_size=1, batch_format="pyarrow")


def _decoded(batch: pa.Table, *, task: UnitTask, tables: Tables) -> Iterator[pa.Table]:
    """Decode a unit; runs on a worker."""
    set_up_decoding()
    unit: Unit = pickle.loads(batch["unit"][0].as_py())
    with quiet_pydicom():
        yield from tables(unit, unit_rows(task, unit))


def image_tables(unit: Unit, rows: Iterable[Row]) -> Iterator[pa.Table]:
    """Yield the images of a unit, with the columns of `ROW_SCHEMA`; print how many inputs gave none, and why.

    `image` is a tensor column: (channels, side_px, side_px) a row, uint8, or int16 HU for `pixels: hu16`.
    """
    reasons: Counter[str] = Counter()
    images = _without_rejects(rows, reasons)
    while block := list(islice(images, ROWS_PER_GROUP)):
        yield _table(block)
    if reasons:
        counts = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        print_line(f"read_images: unit {unit.number}: {reasons.total()} inputs are no images: {counts}")


def _without_rejects(rows: Iterable[Row], reasons: Counter[str]) -> Iterator[dict[str, Any]]:
    """Yield the images; count the others in `reasons`."""
    for row in rows:
        if isinstance(row, ShardReject):
            reasons[row.reason] += 1
        else:
            yield row


def _table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Return rows as a block: the columns of `ROW_SCHEMA`, `image` as a tensor column."""
    columns: dict[str, Any] = {
        field.name: pa.array([row[field.name] for row in rows], field.type) for field in INDEX_SCHEMA
    }
    columns[IMAGE] = ArrowTensorArray.from_numpy(np.stack([row[IMAGE] for row in rows]))
    return pa.table({name: columns[name] for name in ROW_SCHEMA.names})


def reject_tables(_: Unit, rows: Iterable[Row]) -> Iterator[pa.Table]:
    """Yield what gave no image: the columns of `REJECT_SCHEMA`."""
    rejects = [row.model_dump() for row in rows if isinstance(row, ShardReject)]
    yield pa.Table.from_pylist(rejects, schema=REJECT_SCHEMA)
