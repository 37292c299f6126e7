"""Derive `index.parquet`, `rejects.parquet` and `card.json` of a conversion from its shards; read cards."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from hemo.config.types import Config, load_card
from hemo.digest import digest_of
from hemo.errors import OutputError, SourceError
from hemo.shards.manifest import Unit
from hemo.shards.reader import CONVERT_AGAIN, checked_parquet
from hemo.shards.schema import INDEX_SCHEMA, REJECT_SCHEMA, SCHEMA_VERSION, SHARD_INDEX_SCHEMA, ShardFooter
from hemo.shards.writer import write_table
from hemo.storage import exists, join, read_bytes, write_json

READ_THREADS = 8

DERIVED = ("card.json", "index.parquet", "rejects.parquet")
"""Files of a conversion that are made from its shards."""


class FileTable(Config):
    """The table of files that a conversion of `corpus: manifest` was made from."""

    location: str
    sha256: str = Field(description="of its content")


class ConversionCard(Config):
    """`OUT/card.json`, derived from the shards' footers. `rows + rejects` accounts for every input frame."""

    schema_version: int = SCHEMA_VERSION
    digest: str = Field(description="covers all unit digests: the same inputs and image config give the same")
    image: dict[str, Any] = Field(
        description="the config fields that determine the pixels: corpus, windows, side_px, colour, ..."
    )
    channels: tuple[str, ...]
    dtype: str = Field(description="of a pixel: uint8 or int16")
    height_px: int
    width_px: int
    units: int
    files: int = Field(description="files in the manifest; each became rows, rejects or both")
    ignored_files: int = Field(description="other files of the source, whose ending is not one of the corpus")
    rows: int
    rejects: int
    reject_reasons: dict[str, int]
    flags: dict[str, int]
    pixel_formats: dict[str, int]
    patients: int
    file_table: FileTable | None = Field(
        None, description="`corpus: manifest` without a pseudonym key: where `curate --labels manifest` finds labels"
    )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of each stored image: (channels, height_px, width_px)."""
        return len(self.channels), self.height_px, self.width_px


def read_card(shards: str) -> ConversionCard:
    """Return the card of a conversion.

    Raises:
        SourceError: If the folder is no finished conversion, or of another version.
    """
    return load_card(shards, ConversionCard, stage="conversion", job="convert")


def read_finished_card(out: str) -> ConversionCard | None:
    """Return the card of an output folder; None if it, or a file derived from the shards, is missing or has no footer.

    Raises:
        OutputError: If it is the card of another job, which would be overwritten.
    """
    if not exists(join(out, "card.json")):
        return None
    try:
        card = read_card(out)
    except SourceError as error:
        raise OutputError(f"out: {out} holds the card.json of another job; give another folder") from error
    return card if all(_has_footer(join(out, name)) for name in DERIVED[1:]) else None


def _has_footer(location: str) -> bool:
    try:
        with checked_parquet(location, CONVERT_AGAIN):
            return True
    except (FileNotFoundError, SourceError):
        return False


def write_derived(
    out: str,
    units: Sequence[Unit],
    footers: Sequence[ShardFooter],
    ignored: int,
    file_table: FileTable | None = None,
) -> ConversionCard:
    """Write `index.parquet` and `rejects.parquet`, and return the card, which is to be written last.

    Args:
        out: Output folder of the conversion.
        units: All units, in order.
        footers: The footer of each.
        ignored: Other files of the source, not part of the corpus.
        file_table: See `ConversionCard`.

    Raises:
        SourceError: If two files have the same `image_id`; the message names both.
    """
    index = read_index_columns(out, units)
    _require_unique_ids(index)
    write_table(join(out, "index.parquet"), index)
    rejects = [reject.model_dump() for footer in footers for reject in footer.rejects]
    write_table(join(out, "rejects.parquet"), pa.Table.from_pylist(rejects, schema=REJECT_SCHEMA))
    return _card(_conversion_digest(out, footers), index, footers, ignored, file_table)


def write_card(out: str, card: ConversionCard) -> None:
    """Write `OUT/card.json`: it makes a conversion complete."""
    write_json(join(out, "card.json"), card.model_dump(mode="json"))


def _conversion_digest(out: str, footers: Iterable[ShardFooter]) -> str:
    """Return the digest of a finished conversion: of its units, in order, and their content."""
    contents = hashlib.sha256(read_bytes(join(out, "index.parquet"))).hexdigest()
    return digest_of([*(footer.digest for footer in footers), contents])


def read_index_columns(out: str, units: Sequence[Unit]) -> pa.Table:
    """Return all columns but the pixels of every row, in the order of units and rows, with `unit` and `row`."""
    with ThreadPoolExecutor(READ_THREADS) as pool:
        tables = list(pool.map(lambda unit: _unit_index(out, unit), units))
    return pa.concat_tables(tables)


def _unit_index(out: str, unit: Unit) -> pa.Table:
    with checked_parquet(join(out, unit.shard), CONVERT_AGAIN) as file:
        table = file.read(columns=INDEX_SCHEMA.names)
    position = [pa.array([unit.number] * len(table), pa.int32()), pa.array(range(len(table)), pa.int32())]
    return pa.Table.from_arrays([*table.columns, *position], schema=SHARD_INDEX_SCHEMA)


def _require_unique_ids(index: pa.Table) -> None:
    counts = pc.value_counts(index["image_id"])
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(twice):
        clash = twice[0]
        paths = index.filter(pc.equal(index["image_id"], clash))["source_path"].to_pylist()
        raise SourceError(
            f"source: {paths[0]} and {paths[1]} would both be image {clash} ({len(twice)} such ids); "
            "remove one of them, or convert the folders apart"
        )


def _card(
    digest: str, index: pa.Table, footers: Sequence[ShardFooter], ignored: int, file_table: FileTable | None
) -> ConversionCard:
    first = footers[0]
    return ConversionCard(
        digest=digest,
        image=first.settings,
        channels=first.channels,
        dtype=first.dtype,
        height_px=first.height_px,
        width_px=first.width_px,
        units=len(footers),
        files=sum(footer.files for footer in footers),
        ignored_files=ignored,
        rows=len(index),
        rejects=sum(len(footer.rejects) for footer in footers),
        reject_reasons=dict(Counter(reject.reason for footer in footers for reject in footer.rejects).most_common()),
        flags=_value_counts(pc.list_flatten(index["flags"])),
        pixel_formats=_value_counts(index["pixel_format"]),
        patients=len(pc.unique(index["patient"].drop_null())),
        file_table=file_table,
    )


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    counts = pc.value_counts(column)
    pairs = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    return dict(sorted(pairs))
