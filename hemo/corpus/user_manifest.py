"""A table of the user's own as a corpus: which files, and what is known of each beside what it says itself."""

import io
import os.path
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hemo.config.convert import Media
from hemo.corpus.files import file_on_disk, mark_of, unreachable
from hemo.corpus.labels import read_csv_as_text
from hemo.corpus.source_file import PICTURE_ENDINGS, Given, Listing, SourceFile, ending_of, first_clash, image_stem
from hemo.errors import SourceError, first_names
from hemo.storage import absolute, filesystem, read_bytes

PATH = "path"
COLUMNS = (PATH, *Given._fields)


def list_table(source: str) -> Listing:
    """List the files of a table, CSV or Parquet.

    Its column `path` names files: relative to the table's folder, absolute, or a URI. The columns `image_id`,
    `patient`, `study`, `series`, `source_class` and `source_split` go before what header and folders say, row by row:
    an empty cell says nothing. Other columns are not used; the listing names them.

    Raises:
        SourceError: If the table is missing, damaged or empty, lacks `path`, names a file or an id twice, or a file
            that is not there, or both DICOM and pictures.
    """
    table = _read(source)
    paths = table[PATH].to_pylist()
    require_one_media(source, paths)
    given = _given(table)
    _require_distinct(source, paths, given)
    files = [
        SourceFile(found.path, found.size_bytes, found.mark, given=said)
        for found, said in zip(_found(source, paths), given, strict=True)
    ]
    unused = tuple(name for name in table.column_names if name not in COLUMNS)
    return Listing(tuple(sorted(files, key=lambda file: file.path)), ignored=0, unused_columns=unused)


def media_of_table(source: str) -> Media:
    """Return what the files of a table are, by the endings of their names.

    Raises:
        SourceError: If the table cannot be read, or names both DICOM and pictures.
    """
    return require_one_media(source, _read(source)[PATH].to_pylist())


def require_one_media(source: str, paths: Sequence[str]) -> Media:
    """Return what all files are, `photo` where their names end as those of pictures do."""
    pictures = [ending_of(path) in PICTURE_ENDINGS for path in paths]
    if any(pictures) and not all(pictures):
        one, other = paths[pictures.index(True)], paths[pictures.index(False)]
        raise SourceError(f"source: {source} names a picture, {one}, and DICOM, {other}; make a table of each")
    return "photo" if pictures[0] else "dicom"


def location_in_table(source: str, path: str) -> str:
    """Return where a file of a table lies: a path or URI."""
    if path.startswith("/"):
        return path
    return absolute(path) if "://" in path else f"{source.rpartition('/')[0]}/{path}"


def _read(source: str) -> pa.Table:
    """Return the table with all columns that are used as strings, empty cells as nulls."""
    try:
        data = read_bytes(source)
        table = pq.read_table(io.BytesIO(data)) if source.endswith(".parquet") else read_csv_as_text(data)
    except FileNotFoundError as error:
        raise SourceError(f"source: {source} does not exist; give a CSV or Parquet table with a column path") from error
    except (pa.ArrowException, OSError) as error:
        said = " ".join(str(error).split())
        raise SourceError(f"source: {source} is no readable table ({said}); give a CSV or Parquet table") from error
    names = table.column_names
    twice = [name for name in COLUMNS if names.count(name) > 1]
    if PATH not in names or twice:
        wanted = f"{twice[0]} once" if twice else "one called path: a file a row"
        raise SourceError(f"source: {source} has the columns {', '.join(names)}; wanted {wanted}")
    if not table.num_rows:
        raise SourceError(f"source: {source} has a header but no rows")
    return _as_strings(source, table)


def _as_strings(source: str, table: pa.Table) -> pa.Table:
    for place, name in enumerate(table.column_names):
        if name in COLUMNS:
            column = _as_string(source, name, table[name])
            table = table.set_column(place, name, pc.if_else(pc.equal(column, ""), None, column))
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


def _given(table: pa.Table) -> list[Given]:
    nothing = [None] * table.num_rows
    columns = [table[name].to_pylist() if name in table.column_names else nothing for name in Given._fields]
    return [Given(*row) for row in zip(*columns, strict=True)]


def _require_distinct(source: str, paths: Sequence[str], given: Sequence[Given]) -> None:
    locations = (os.path.normpath(location_in_table(source, path)) for path in paths)  # ./a.dcm is a.dcm
    if clash := first_clash(locations):
        one, other = clash
        raise SourceError(f"source: {source} names {paths[other]} in rows {one + 1} and {other + 1}; keep one")
    names = [row.image_id or image_stem(path, "manifest") for path, row in zip(paths, given, strict=True)]
    if clash := first_clash(names):
        one, other = clash
        raise SourceError(
            f"source: {source}: {paths[one]} and {paths[other]} would both be image {names[one]}; "
            "give each its image_id"
        )


def _found(source: str, paths: Sequence[str]) -> list[SourceFile]:
    """Return what is at each path; all that are missing are told at once."""
    places = [location_in_table(source, path) for path in paths]
    objects = _objects({place.rpartition("/")[0] for place in places if "://" in place})
    found = [_look(place, path, objects) for path, place in zip(paths, places, strict=True)]
    missing = [path for path, file in zip(paths, found, strict=True) if file is None]
    if missing:
        raise SourceError(
            f"source: {source} names files that are not there: {first_names(missing, 3)}; "
            "a path is relative to the table's folder, absolute or a URI"
        )
    return [file for file in found if file is not None]


def _look(place: str, path: str, objects: Mapping[str, Mapping[str, Any]]) -> SourceFile | None:
    if "://" in place:
        entry = objects.get(place)
        return SourceFile(path, int(entry["size"]), mark_of(entry)) if entry else None
    try:
        return file_on_disk(place, path)
    except SourceError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def _objects(folders: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Return what lies in some folders of buckets, by URI."""
    found: dict[str, Mapping[str, Any]] = {}
    for folder in sorted(folders):
        fs, path = filesystem(folder)
        try:
            entries = fs.ls(path, detail=True)
        except FileNotFoundError:
            continue  # what the table names in it is told as missing
        except Exception as error:  # every storage has errors of its own
            raise unreachable(folder, error) from error
        files = [entry for entry in entries if entry["type"] == "file"]
        found |= {f"{folder}/{entry['name'].rpartition('/')[2]}": entry for entry in files}
    return found
