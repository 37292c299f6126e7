"""List the files of a user's manifest: a CSV or Parquet table of paths, with ids, classes and splits."""

import hashlib
import os.path
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hemo.config.convert import Media
from hemo.corpus.files import file_on_disk, mark_of, unreachable
from hemo.corpus.labels import NOT_A_TABLE, read_csv_as_text, unpacked
from hemo.corpus.source_file import (
    PICTURE_ENDINGS,
    Listing,
    ManifestRow,
    SourceFile,
    ending_of,
    first_clash,
    image_stem,
)
from hemo.errors import SourceError, first_names
from hemo.parquet import read_parquet
from hemo.storage import absolute, filesystem, read_bytes

PATH = "path"
COLUMNS = (PATH, *ManifestRow._fields)

LISTINGS_AT_A_TIME = 32
"""Folders of a bucket: one after the other, those of 20,000 studies take ten minutes."""


def list_table(source: str) -> Listing:
    """List the files of a table: CSV, also as `.csv.gz`, or Parquet.

    Its column `path` names files: relative to the table's folder, absolute, or a URI. The columns `image_id`,
    `patient`, `study`, `series`, `source_class` and `source_split` take precedence over header and folders, row by
    row, without spaces around them, unless the cell is empty. Other columns are not used; the listing names them.

    Raises:
        SourceError: If the table is missing, damaged or empty, lacks `path`, has a path or an id twice, a missing
            file, or both DICOM and pictures.
    """
    content = _content(source)
    table = _parsed(source, content)
    paths = table[PATH].to_pylist()
    require_one_media(source, paths)
    rows = _rows(table)
    _require_distinct(source, paths, rows)
    files = [file._replace(manifest_row=row) for file, row in zip(_files(source, paths), rows, strict=True)]
    unused = tuple(name for name in table.column_names if name not in COLUMNS)
    by_path = tuple(sorted(files, key=lambda file: file.path))
    return Listing(by_path, ignored=0, unused_columns=unused, table_sha256=hashlib.sha256(content).hexdigest())


def media_of_table(source: str) -> Media:
    """Return what the files of a table are, by the endings of their names.

    Raises:
        SourceError: If the table cannot be read, or names both DICOM and pictures.
    """
    return require_one_media(source, _parsed(source, _content(source))[PATH].to_pylist())


def require_one_media(source: str, paths: Sequence[str]) -> Media:
    """Return `photo` if all paths end as pictures do, `dicom` if none does."""
    pictures = [ending_of(path) in PICTURE_ENDINGS for path in paths]
    if any(pictures) and not all(pictures):
        one, other = paths[pictures.index(True)], paths[pictures.index(False)]
        raise SourceError(f"source: {source} lists a picture, {one}, and DICOM, {other}; make a table for each")
    return "photo" if pictures[0] else "dicom"


def location_in_table(source: str, path: str) -> str:
    """Return the path or URI of a file of a manifest."""
    if path.startswith("/"):
        return path
    return absolute(path) if "://" in path else f"{source.rpartition('/')[0]}/{path}"


def _content(source: str) -> bytes:
    try:
        return read_bytes(source)
    except FileNotFoundError as error:
        raise SourceError(f"source: {source} does not exist; give a CSV or Parquet table with a column path") from error
    except OSError as error:
        raise _unreadable(source, error) from error


def _unreadable(source: str, error: Exception) -> SourceError:
    reason = " ".join(str(error).split())
    return SourceError(f"source: {source} is no readable table ({reason}); give a CSV or Parquet table")


def _parsed(source: str, content: bytes) -> pa.Table:
    """Return the table with all columns that are used as strings, empty cells as nulls."""
    try:
        if source.endswith(".parquet"):
            table = read_parquet(content, f"source: {source}")
        else:
            table = read_csv_as_text(unpacked(content, source))
    except (*NOT_A_TABLE, OSError) as error:
        raise _unreadable(source, error) from error
    names = table.column_names
    twice = [name for name in COLUMNS if names.count(name) > 1]
    if PATH not in names or twice:
        needed = f"{twice[0]} once" if twice else "one called path, with one file per row"
        raise SourceError(f"source: {source} has the columns {', '.join(names)}; needed: {needed}")
    if not table.num_rows:
        raise SourceError(f"source: {source} has a header but no rows")
    return _as_strings(source, table)


def _as_strings(source: str, table: pa.Table) -> pa.Table:
    for position, name in enumerate(table.column_names):
        if name in COLUMNS:
            column = _as_string(source, name, table[name])
            trimmed = pc.utf8_trim_whitespace(column)  # `P01` and `P01 ` are one patient; a path may begin with a space
            cells = column if name == PATH else trimmed
            table = table.set_column(position, name, pc.if_else(pc.equal(trimmed, ""), None, cells))
    blank = pc.index(pc.is_null(table[PATH]), pa.scalar(True)).as_py()
    if blank >= 0:
        raise SourceError(f"source: {source} row {blank + 1}: the path is blank; name a file or remove the row")
    return table


def _as_string(source: str, name: str, column: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    try:
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise SourceError(
            f"source: {source}: its column {name} is no text ({column.type}); make it a string"
        ) from error


def _rows(table: pa.Table) -> list[ManifestRow]:
    empty = [None] * table.num_rows
    columns = [table[name].to_pylist() if name in table.column_names else empty for name in ManifestRow._fields]
    return [ManifestRow(*row) for row in zip(*columns, strict=True)]


def _require_distinct(source: str, paths: Sequence[str], rows: Sequence[ManifestRow]) -> None:
    locations = (os.path.normpath(location_in_table(source, path)) for path in paths)  # ./a.dcm is a.dcm
    if clash := first_clash(locations):
        one, other = clash
        raise SourceError(f"source: {source} lists {paths[other]} in rows {one + 1} and {other + 1}; keep one")
    names = [row.image_id or image_stem(path, "manifest") for path, row in zip(paths, rows, strict=True)]
    if clash := first_clash(names):
        one, other = clash
        raise SourceError(
            f"source: {source}: {paths[one]} and {paths[other]} would both be image {names[one]}; "
            "give each its image_id"
        )


def _files(source: str, paths: Sequence[str]) -> list[SourceFile]:
    """Return the file at each path; the error names all that are missing."""
    locations = [location_in_table(source, path) for path in paths]
    objects = _objects({location.rpartition("/")[0] for location in locations if "://" in location})
    files = [_look_up(location, path, objects) for path, location in zip(paths, locations, strict=True)]
    missing = [path for path, file in zip(paths, files, strict=True) if file is None]
    if missing:
        raise SourceError(
            f"source: {source} lists files that do not exist: {first_names(missing, 3)}; "
            "a path is relative to the table's folder, absolute or a URI"
        )
    return [file for file in files if file is not None]


def _look_up(location: str, path: str, objects: Mapping[str, Mapping[str, Any]]) -> SourceFile | None:
    if "://" in location:
        entry = objects.get(location)
        return SourceFile(path, int(entry["size"]), mark_of(entry)) if entry else None
    try:
        return file_on_disk(location, path)
    except SourceError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def _objects(folders: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Return the objects in some folders of buckets, by URI."""
    objects: dict[str, Mapping[str, Any]] = {}
    with ThreadPoolExecutor(LISTINGS_AT_A_TIME) as pool:
        for listed in pool.map(_objects_in, sorted(folders)):
            objects |= listed
    return objects


def _objects_in(folder: str) -> dict[str, Mapping[str, Any]]:
    fs, path = filesystem(folder)
    try:
        entries = fs.ls(path, detail=True)
    except FileNotFoundError:
        return {}  # its files are reported as missing
    except Exception as error:  # each storage raises errors of its own
        raise unreachable(folder, error) from error
    return {f"{folder}/{entry['name'].rpartition('/')[2]}": entry for entry in entries if entry["type"] == "file"}
