"""Read the label table of a corpus: a long or wide CSV, or Parquet."""

import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hemo.errors import LabelError, SourceError, first_names

RSNA_CLASSES = ("any", "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")
"""Classes of the RSNA 2019 challenge in the order of its column weights [2, 1, 1, 1, 1, 1]: `any` first."""

NULL_LABEL = 255
"""An unknown label in arrays of uint8; in Parquet it is null."""

KEY_COLUMNS = ("image_id", "source_path", "path")
"""Columns that may key a Parquet table, best first; the others are left out. In a CSV the first column is the key."""

_MEANING = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1, "": NULL_LABEL}


@dataclass(frozen=True)
class LabelTable:
    """Labels of images, one row an image.

    Attributes:
        classes: Class names, in the order of the columns of `values`.
        keys: image_id or source_path of each row, unique, shape (rows,).
        values: Shape (rows, classes), uint8: 0, 1 or `NULL_LABEL`.
        repeated: Rows of the file that repeat another row.
    """

    classes: tuple[str, ...]
    keys: pa.StringArray
    values: NDArray[np.uint8]
    repeated: int


def parse_labels(data: bytes, location: str) -> LabelTable:
    """Read a label table from the content of its file.

    Three forms are known: RSNA's long CSV (`ID,Label`, a row a class, `ID_000012eaf_any`), a wide CSV (the first
    column is the key, each other a class), and Parquet (a key column of `KEY_COLUMNS`, each other a class).
    An image that lacks the row of a class has a null label there.

    Args:
        data: The whole file.
        location: Its name; `.gz` and `.parquet` endings decide the form, and errors name it.

    Raises:
        LabelError: If the file cannot be parsed, a label is not 0, 1 or blank, or rows contradict each other.
    """
    try:
        return _parsed(data, location)
    except (pa.ArrowException, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise LabelError(f"labels: {location} is no readable table: {' '.join(str(error).split())}") from error


def labels_of_classes(image_ids: pa.StringArray, source_class: pa.StringArray) -> LabelTable:
    """Return one-hot labels: one class a class folder, sorted by name, numbers by their value.

    Args:
        image_ids: Shape (rows,), string, unique.
        source_class: Shape (rows,), string: the folder of each image, or its class in the labels of the corpus.
            Rows without one are left out.

    Raises:
        SourceError: If no image has a class.
    """
    known = pc.is_valid(source_class)
    image_ids, source_class = image_ids.filter(known), source_class.filter(known)
    classes = sorted(np.unique(source_class.to_numpy(zero_copy_only=False).astype(str)).tolist(), key=_in_order)
    if not classes:
        raise SourceError("labels: source_class needs a corpus with classes, these shards have none; give a table")
    codes = pc.index_in(source_class, value_set=pa.array(classes)).to_numpy(zero_copy_only=False)
    return LabelTable(tuple(classes), image_ids, np.eye(len(classes), dtype=np.uint8)[codes], repeated=0)


def read_csv_as_text(content: bytes) -> pa.Table:
    """Return all columns of a CSV file as strings, empty cells as empty strings.

    Raises:
        pa.ArrowException: If it is no CSV.
    """
    header = pacsv.open_csv(io.BytesIO(content)).schema.names
    types = pacsv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()))
    return pacsv.read_csv(io.BytesIO(content), convert_options=types)


def _in_order(name: str) -> tuple[bool, int, str]:
    number = name.isdecimal()
    return not number, int(name) if number else 0, name


def _parsed(data: bytes, location: str) -> LabelTable:
    name = location.partition("::")[0]  # of `zip://labels.parquet::data.zip` the first link
    table = _read_parquet(data, location) if name.endswith(".parquet") else _read_csv(data, location)
    if not table.num_rows:
        raise LabelError(f"labels: {location} has a header but no rows")
    if [name.lower() for name in table.column_names] == ["id", "label"]:
        return _from_long(table, location)
    return _from_wide(table, location)


def _read_csv(data: bytes, location: str) -> pa.Table:
    table = read_csv_as_text(gzip.decompress(data) if location.partition("::")[0].endswith(".gz") else data)
    _check_header(table.column_names, location)
    return table


def _read_parquet(data: bytes, location: str) -> pa.Table:
    table = pq.read_table(io.BytesIO(data))
    key = next((name for name in KEY_COLUMNS if name in table.column_names), None)
    if key is None:
        known = ", ".join(KEY_COLUMNS)
        raise LabelError(f"labels: {location} has the columns {', '.join(table.column_names)}; one must be of {known}")
    columns = [key, *(name for name in table.column_names if name not in KEY_COLUMNS)]
    _check_header(columns, location)
    return table.select(columns)


def _check_header(columns: Sequence[str], location: str) -> None:
    if len(columns) < 2:
        raise LabelError(
            f"labels: {location} has the header {','.join(columns)!r}; needed are a key and at least one class"
        )
    if len(set(columns)) < len(columns) or "" in columns[1:]:
        raise LabelError(f"labels: {location} has a column twice or without a name: {','.join(columns)}")


def _from_long(table: pa.Table, location: str) -> LabelTable:
    """Return the table of `ID,Label` rows, whose ID ends with `_CLASS`."""
    ids = _strings(table.column(0))
    image, column = _cut_ids(ids, location)
    images = image.dictionary_encode()
    keys = _strings(images.dictionary)
    codes = column.to_numpy()
    used = np.bincount(codes, minlength=len(RSNA_CLASSES)) > 0
    present, ranks = np.flatnonzero(used), (np.cumsum(used) - 1)[codes]
    cells = images.indices.to_numpy().astype(np.int64) * len(present) + ranks
    values = _column_values(_strings(table.column(1)), ids, location)
    merged, repeated, clashing = _merge(cells, values[:, None], len(keys) * len(present))
    _refuse_conflicts(ids, clashing, location)
    return LabelTable(tuple(RSNA_CLASSES[code] for code in present), keys, merged.reshape(len(keys), -1), repeated)


def _cut_ids(ids: pa.StringArray, location: str) -> tuple[pa.StringArray, pa.Int32Array]:
    """Cut `IMAGE_CLASS` into the image and the index of the class in `RSNA_CLASSES`; no class has an underscore."""
    halves = pc.split_pattern(ids.fill_null(""), "_", max_splits=1, reverse=True)
    wrong = pc.list_value_length(halves).to_numpy() < 2
    if not wrong.any():
        image, classes = pc.list_element(halves, 0), pc.list_element(halves, 1)
        column = pc.index_in(classes, value_set=pa.array(RSNA_CLASSES))
        wrong = pc.or_(column.is_null(), pc.equal(image, "")).to_numpy(zero_copy_only=False)
    if wrong.any():
        raise LabelError(
            f"labels: {location} line {_line(wrong)}: ID {ids[int(wrong.argmax())].as_py()!r} ends with no class "
            f"(_{', _'.join(RSNA_CLASSES)})"
        )
    return image, column


def _from_wide(table: pa.Table, location: str) -> LabelTable:
    """Return the table whose first column is the key and whose others are classes."""
    ids = _strings(table.column(0))
    blank = pc.equal(ids.fill_null(""), pa.scalar("")).to_numpy(zero_copy_only=False)
    if blank.any():
        raise LabelError(f"labels: {location} line {_line(blank)}: the key in {table.column_names[0]!r} is blank")
    names = table.column_names[1:]
    names = list(RSNA_CLASSES) if set(names) == set(RSNA_CLASSES) else names
    values = np.column_stack([_column_values(_strings(table.column(name)), ids, location, name) for name in names])
    images = ids.dictionary_encode()
    keys = _strings(images.dictionary)
    merged, repeated, clashing = _merge(images.indices.to_numpy(), values, len(keys))
    _refuse_conflicts(ids, clashing, location)
    return LabelTable(tuple(names), keys, merged, repeated)


def _column_values(
    column: pa.StringArray, ids: pa.StringArray, location: str, name: str = "Label"
) -> NDArray[np.uint8]:
    """Return a column of 0, 1 or blank as uint8, blank as `NULL_LABEL`; any other value is refused."""
    encoded = column.fill_null("").dictionary_encode()
    words = [str(word).strip().lower() for word in encoded.dictionary.to_pylist()]
    codes = encoded.indices.to_numpy()
    wrong = np.array([word not in _MEANING for word in words], bool)[codes]
    if wrong.any():
        at = int(wrong.argmax())
        cell = f"{name} is {encoded[at].as_py()!r} for {ids[at].as_py()!r}"
        raise LabelError(f"labels: {location} line {_line(wrong)}: {cell}; a label is 0, 1 or blank")
    meanings: NDArray[np.uint8] = np.array([_MEANING[word] for word in words], np.uint8)[codes]
    return meanings


def _strings(column: "pa.ChunkedArray[Any] | pa.Array[Any]") -> pa.StringArray:
    """Return a column of any type as one array of strings."""
    strings = column.cast(pa.string())
    return cast(pa.StringArray, strings.combine_chunks() if isinstance(strings, pa.ChunkedArray) else strings)


def _line(wrong: NDArray[np.bool_]) -> int:
    """Return the line of the first marked row: 1-based, below one header line."""
    return int(wrong.argmax()) + 2


def _merge(
    cells: NDArray[np.integer], values: NDArray[np.uint8], size: int
) -> tuple[NDArray[np.uint8], int, NDArray[np.bool_]]:
    """Write rows of values to their cells.

    Args:
        cells: Cell of each row, shape (rows,), 0 <= cell < `size`.
        values: Shape (rows, columns).
        size: Number of cells.

    Returns:
        Cells of shape (size, columns), `NULL_LABEL` where no row wrote; how many rows repeat a cell;
        and which rows differ from the value in their cell, shape (rows,).
    """
    merged = np.full((size, values.shape[1]), NULL_LABEL, np.uint8)
    merged[cells] = values
    repeated = len(cells) - int(np.count_nonzero(np.bincount(cells, minlength=size)))
    return merged, repeated, (merged[cells] != values).any(axis=1)


def _refuse_conflicts(ids: pa.StringArray, clashing: NDArray[np.bool_], location: str) -> None:
    if clashing.any():
        names = [str(name) for name in ids.filter(pa.array(clashing)).unique().to_pylist()]
        raise LabelError(f"labels: {location} has conflicting rows for {first_names(names)}; keep one row of each")
