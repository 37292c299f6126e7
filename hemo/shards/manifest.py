"""Assign the files of a corpus to units, store that as the manifest, and update it in later runs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from hemo.corpus.source_file import SourceFile
from hemo.digest import digest_of
from hemo.errors import OutputError
from hemo.imaging.image import CURABLE_REASONS
from hemo.parquet import read_parquet
from hemo.pseudonym import Pseudonymiser
from hemo.shards.schema import SCHEMA_VERSION, ShardFooter
from hemo.shards.writer import write_table
from hemo.storage import exists, join, read_bytes

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64()),  # null under a key
        pa.field("mark", pa.string(), nullable=False),
        pa.field("unit", pa.int32(), nullable=False),
    ]
)

UNIT_BYTES = 2_000_000_000
"""Listed bytes of a unit at most, unless one file has more: a shard is built in memory, and 1,024 CT files of 300
frames have 161 GB. A unit of RSNA has 0.54 GB."""

UNKNOWN_SIZE = -1
"""Size of a file in a manifest made under a key: there it is part of the change mark."""

PUBLIC = Pseudonymiser()

_ONLY_STORED_FIELDS = (None, None, None)  # member, refused, manifest_row


@dataclass(frozen=True, slots=True)
class Unit:
    """Files that are converted by one task into one shard."""

    number: int
    files: tuple[SourceFile, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Path of each file, relative to the source."""
        return tuple(file.path for file in self.files)

    @property
    def shard(self) -> str:
        """Path of its shard, relative to the output folder."""
        return shard_path(self.number)


@dataclass(frozen=True)
class Manifest:
    """Every file of the corpus with the unit it belongs to."""

    files: tuple[SourceFile, ...]  # as they are stored: path, size and mark
    units: tuple[int, ...]  # unit of each file

    def by_unit(self) -> list[Unit]:
        """Return the units in order, each with its files in the order of the manifest."""
        files: dict[int, list[SourceFile]] = {}
        for file, unit in zip(self.files, self.units, strict=True):
            files.setdefault(unit, []).append(file)
        return [Unit(number, tuple(files[number])) for number in sorted(files)]


@dataclass(frozen=True)
class Update:
    """A new manifest, its units, and those of the old one whose shards can no longer be used."""

    manifest: Manifest  # with pseudonyms where ids are not public
    units: list[Unit]  # with the files as they were listed
    stale: frozenset[int]
    kept: int  # files in both manifests, with equal size and change mark


def shard_path(unit: int) -> str:
    """Return the path of a unit's shard, relative to the output folder."""
    return f"shards/unit-{unit:06d}.parquet"


def unit_digest(unit: Unit, settings: dict[str, Any], pseudonyms: Pseudonymiser = PUBLIC) -> str:
    """Return the digest that a finished shard of this unit must have.

    Covers the unit's relative paths and the settings of pixels and ids; not the change marks, which differ by kind of
    source. Under a key it is a pseudonym itself: else guessed paths of a small unit could be verified by it.
    """
    content = {"schema": SCHEMA_VERSION, "unit": unit.number, "paths": list(unit.paths), "settings": settings}
    return pseudonyms("unit", digest_of(content))[:16]


def update_manifest(
    old: Manifest, listing: Iterable[SourceFile], *, unit_files: int, pseudonyms: Pseudonymiser = PUBLIC
) -> Update:
    """Bring a manifest up to date with a new listing.

    Files that are still there keep their unit; a unit with a changed or vanished file is stale; new files are appended
    as new units of `unit_files` consecutive files, in the order of the listing, or of fewer: `UNIT_BYTES` at most.

    Args:
        old: As `read_manifest` returned it.
        listing: Files as they are now; no path twice.
        unit_files: Files in a new unit, at most.
        pseudonyms: Replaces paths, sizes and change marks in the manifest.
    """
    files = list(listing)
    stored = [_as_stored(file, pseudonyms) for file in files]
    new = {file.path: at for at, file in enumerate(stored)}
    stale, kept, units, unchanged = set(), [], [], 0
    for before, unit in zip(old.files, old.units, strict=True):
        at = new.pop(before.path, None)
        if at is not None:
            kept.append(at)
            units.append(unit)
        if at is not None and stored[at] == before:
            unchanged += 1
        else:
            stale.add(unit)
    first = max(old.units, default=-1) + 1
    order = [*kept, *new.values()]
    units += [first + number for number in _cut([files[at].size_bytes for at in new.values()], unit_files)]
    manifest = Manifest(tuple(stored[at] for at in order), tuple(units))
    listed = Manifest(tuple(files[at] for at in order), manifest.units)
    return Update(manifest, listed.by_unit(), frozenset(stale), unchanged)


def _cut(sizes: Iterable[int], unit_files: int) -> list[int]:
    """Return the unit of each file, numbered from 0; `sizes` in bytes."""
    units: list[int] = []
    unit = count = total = 0
    for size in sizes:
        if count == unit_files or (count and total + size > UNIT_BYTES):
            unit, count, total = unit + 1, 0, 0
        count, total = count + 1, total + size
        units.append(unit)
    return units


def valid_shards(
    update: Update, footers: Mapping[str, ShardFooter | None], settings: dict[str, Any], pseudonyms: Pseudonymiser
) -> dict[int, ShardFooter]:
    """Return the footers of shards that can stay, by unit: of the same files, without rejects to be tried again.

    Args:
        update: Of the manifest.
        footers: By path, see `read_footers`.
        settings: Of the images.
        pseudonyms: Of the manifest.
    """
    return {
        unit.number: footer
        for unit in update.units
        if unit.number not in update.stale
        and (footer := footers.get(unit.shard)) is not None
        and footer.digest == unit_digest(unit, settings, pseudonyms)
        and CURABLE_REASONS.isdisjoint(reject.reason for reject in footer.rejects)
    }


def _as_stored(file: SourceFile, pseudonyms: Pseudonymiser) -> SourceFile:
    """Return path, size and mark of a file; manifest row and refusal are part of the mark.

    A member zipped again without a password, or in another way, has the same size and checksum. Under a key the size
    is part of the mark too, and all of it is keyed: size and checksum together say which of somebody's files it is.
    """
    if pseudonyms.keeps_ids and file[3:] == _ONLY_STORED_FIELDS:
        return file  # nothing to add: avoids 750,000 copies
    row = f" {digest_of(file.manifest_row)}" if file.manifest_row else ""
    refused = f" {file.refused.code}" if file.refused else ""
    mark = file.mark + row + refused
    if pseudonyms.keeps_ids:
        return SourceFile(file.path, file.size_bytes, mark)
    return SourceFile(pseudonyms("path", file.path), UNKNOWN_SIZE, pseudonyms("mark", f"{file.size_bytes} {mark}"))


def read_manifest(out: str) -> Manifest:
    """Return the manifest of an output folder, empty if it has none.

    Raises:
        OutputError: If it is damaged.
    """
    location = join(out, "manifest.parquet")
    if not exists(location):
        return Manifest((), ())
    try:
        table = read_parquet(read_bytes(location), location).select(MANIFEST_SCHEMA.names).cast(MANIFEST_SCHEMA)
    except (KeyError, pa.ArrowException, OSError) as error:
        raise OutputError(
            f"out: {location} is damaged; if no file of the source has changed since, remove it: it is made again, and "
            "no shard is lost; else give another folder"
        ) from error
    path, mark, unit = (table[name].to_numpy().tolist() for name in ("path", "mark", "unit"))
    size_bytes = table["size_bytes"].fill_null(UNKNOWN_SIZE).to_numpy().tolist()
    return Manifest(tuple(map(SourceFile, path, size_bytes, mark)), tuple(unit))


def write_manifest(out: str, manifest: Manifest) -> None:
    """Write `OUT/manifest.parquet`, completely or not at all."""
    columns = {
        "path": [file.path for file in manifest.files],
        "size_bytes": [None if file.size_bytes == UNKNOWN_SIZE else file.size_bytes for file in manifest.files],
        "mark": [file.mark for file in manifest.files],
        "unit": list(manifest.units),
    }
    write_table(join(out, "manifest.parquet"), pa.table(columns, schema=MANIFEST_SCHEMA))
