"""Read the label table of a corpus: a long or wide CSV, or Parquet."""

import gzip
import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from hemo.config.validation import meant
from hemo.corpus.source_file import ManifestRow
from hemo.errors import LabelError, SourceError, first_names, reason_of
from hemo.parquet import read_parquet
from hemo.storage import read_bytes

RSNA_CLASSES = ("any", "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")
"""Classes of the RSNA 2019 challenge in the order of its column weights [2, 1, 1, 1, 1, 1]: `any` first."""

NULL_LABEL = 255
"""An unknown label in arrays of uint8; in Parquet it is null."""

KEY_COLUMNS = ("image_id", "source_path", "path")
"""Columns that key a table unless one is named, best first. A CSV without any of them is keyed by its first column."""

PATIENT_KEYS = ("patient", "study", "series")
"""Names of a key's column that holds these ids, not those of images: a row then is one of all their images."""

DESCRIPTIVE = frozenset({*KEY_COLUMNS, *ManifestRow._fields})
"""Columns that are no classes unless they are named: keys, and what a table of files says of patients and splits."""

MOST_CLASSES = 1000
"""Different values of a column of class names at most: beyond, it is a number or an identifier."""

WORDS = (("no", "yes"), ("false", "true"), ("negative", "positive"))
"""What a label may be, in any case, beside 0 and 1."""

NOT_A_TABLE = (pa.ArrowException, gzip.BadGzipFile, zlib.error, EOFError, UnicodeDecodeError)
"""What reading a table raises if the file holds none."""

_GZIP = b"\x1f\x8b"
"""Begins a compressed file, RFC 1952."""

_WHOLE_ABOVE_1 = re.compile(r"([2-9]|[1-9][0-9]+)(\.0)?")
"""A number of a class beside 0 and 1."""

_MEANING = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "": NULL_LABEL} | {
    word: value for pair in WORDS for value, word in enumerate(pair)
}


@dataclass(frozen=True)
class LabelTable:
    """Labels of images, one row an image, or one for all images of a patient, study or series.

    Attributes:
        classes: Class names, in the order of the columns of `values`.
        keys: What each row is about, unique, shape (rows,): image_id or source_path, or an id of `keyed_by`.
        values: Shape (rows, classes), uint8: 0, 1 or `NULL_LABEL`.
        repeated: Rows of the file that repeat another row.
        unused_columns: Columns of the file that are neither key nor class.
        keyed_by: `image`, or one of `PATIENT_KEYS`.
    """

    classes: tuple[str, ...]
    keys: pa.StringArray
    values: NDArray[np.uint8]
    repeated: int
    unused_columns: tuple[str, ...] = ()
    keyed_by: str = "image"


def parse_labels(data: bytes, location: str, *, key: str = "", columns: Sequence[str] = ()) -> LabelTable:
    """Read a label table from the content of its file.

    Two forms are known: RSNA's long CSV (`ID,Label`, a row a class, `ID_000012eaf_any`), and a wide table, CSV or
    Parquet, with a key column and a column a class, each label 0, 1, a word of `WORDS` or blank. One column alone,
    named by `columns`, may hold the names of exclusive classes instead. An image that lacks the row of a class has a
    null label there. Headers and values are stripped of spaces; a CSV may have semicolons or tabs.

    Args:
        data: The whole file.
        location: Its name; `.gz` and `.parquet` endings decide the form, and errors name it.
        key: Column with image ids or paths, or one of `PATIENT_KEYS`; by default see `KEY_COLUMNS`.
        columns: Columns that are classes; by default all but the key and `DESCRIPTIVE`.

    Raises:
        LabelError: If the file cannot be parsed, lacks a column, holds no labels there, or rows contradict each other.
    """
    try:
        return _parsed(data, location, key, tuple(columns))
    except NOT_A_TABLE as error:
        raise LabelError(f"labels: {location} is no readable table: {' '.join(str(error).split())}") from error


def parse_columns(
    data: bytes, location: str, *, key: str, columns: Sequence[str]
) -> tuple[str, pa.StringArray, dict[str, pa.StringArray]]:
    """Read columns of any text from the content of a table, CSV or Parquet as `parse_labels` takes them.

    Args:
        data: The whole file.
        location: Its name.
        key: Column that names the rows; empty: see `KEY_COLUMNS`.
        columns: Columns to read.

    Returns:
        The name of the key's column; keys, unique; and the cells of each column, stripped, empty where blank.

    Raises:
        LabelError: If the file cannot be parsed, lacks a column, or rows of one key contradict each other.
    """
    try:
        table = _read(data, location)
    except NOT_A_TABLE as error:
        raise LabelError(f"labels: {location} is no readable table: {' '.join(str(error).split())}") from error
    key = key or _default_key(table, location)
    _check_columns(table.column_names, key, columns, location)
    ids = _keys(table, key, location)
    cells = {
        name: cast(pa.StringArray, pc.utf8_trim_whitespace(_strings(table[name]).fill_null(""))) for name in columns
    }
    encoded = ids.dictionary_encode()
    first = np.unique(encoded.indices.to_numpy(), return_index=True)[1]
    kept = {name: values.take(pa.array(first)) for name, values in cells.items()}
    for name, values in cells.items():
        clashing = pc.not_equal(values, kept[name].take(encoded.indices)).to_numpy(zero_copy_only=False)
        if clashing.any():
            ids_of = ids.filter(pa.array(clashing)).unique().to_pylist()
            raise LabelError(f"labels: {location} has several {name} for {first_names([str(each) for each in ids_of])}")
    return key, _strings(encoded.dictionary), kept


def read_table_file(location: str, flag: str) -> bytes:
    """Return the content of a table of labels or subgroups.

    Args:
        location: Path or URI.
        flag: That names it, for the error.

    Raises:
        SourceError: If it cannot be read.
    """
    try:
        return read_bytes(location)
    except OSError as error:
        other = ", or source_class" if flag == "labels" else ""
        raise SourceError(f"{flag}: {location}: {reason_of(error)}; give a CSV or Parquet file{other}") from error


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


def unpacked(data: bytes, location: str) -> bytes:
    """Return the content of a text file; one whose name ends with `.gz` is decompressed.

    Raises:
        pa.ArrowException, OSError, EOFError, zlib.error: If it is compressed and named otherwise, or damaged.
    """
    if location.partition("::")[0].endswith(".gz"):  # of `zip://labels.csv.gz::data.zip` the first link
        return gzip.decompress(data)
    if data.startswith(_GZIP):
        raise pa.ArrowInvalid("it is compressed by gzip; name it .csv.gz")
    return data


def read_csv_as_text(content: bytes) -> pa.Table:
    """Return all columns of a CSV file as strings, empty cells as empty strings; headers are stripped of spaces.

    Cells are separated by what occurs most in the first line: commas, semicolons or tabs.

    Raises:
        pa.ArrowException: If it is no CSV, or not UTF-8.
    """
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise pa.ArrowInvalid(f"line {line} is not UTF-8; save it as UTF-8") from error
    first_line = content.partition(b"\n")[0]
    separator = max(",;\t", key=lambda one: first_line.count(one.encode()))
    parsing = pacsv.ParseOptions(delimiter=separator, newlines_in_values=True)
    header = pacsv.open_csv(io.BytesIO(content), parse_options=parsing).schema.names
    types = pacsv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()))
    table = pacsv.read_csv(io.BytesIO(content), parse_options=parsing, convert_options=types)
    return table.rename_columns([name.strip() for name in header])


def _in_order(name: str) -> tuple[bool, int, str]:
    number = name.isdecimal()
    return not number, int(name) if number else 0, name


def _parsed(data: bytes, location: str, key: str, columns: tuple[str, ...]) -> LabelTable:
    table = _read(data, location)
    if not (key or columns) and [name.lower() for name in table.column_names] == ["id", "label"]:
        return _from_long(table, location)
    keyed_by = key if key in PATIENT_KEYS else "image"
    key = key or _default_key(table, location)
    classes = columns or tuple(name for name in table.column_names if name not in {key, *DESCRIPTIVE})
    _check_columns(table.column_names, key, classes, location)
    unused = tuple(name for name in table.column_names if name not in {key, *classes})
    text = _class_names(table[columns[0]], location) if len(columns) == 1 else ()
    read = _from_class_names(table, key, columns[0], text, location) if text else None
    return replace(read or _from_wide(table, key, classes, location), unused_columns=unused, keyed_by=keyed_by)


def _read(data: bytes, location: str) -> pa.Table:
    if location.partition("::")[0].endswith(".parquet"):
        table = read_parquet(data, f"labels: {location}")
    else:
        content = unpacked(data, location)
        if not content.strip():
            raise LabelError(f"labels: {location} is empty; give a table with a header, a key and at least one class")
        table = read_csv_as_text(content)
    if not table.num_rows:
        raise LabelError(f"labels: {location} has a header but no rows")
    return table


def _default_key(table: pa.Table, location: str) -> str:
    """Return the first of `KEY_COLUMNS` that is complete, else the first that exists, else a CSV's first column."""
    names = [name for name in KEY_COLUMNS if name in table.column_names]
    _require_once(table.column_names, names, location)
    if not names and location.partition("::")[0].endswith(".parquet"):
        known, has = ", ".join(KEY_COLUMNS), ", ".join(table.column_names)
        raise LabelError(f"labels: {location} has the columns {has}; one must be of {known}, or give --label_key")
    complete = [name for name in names if not _blank(_strings(table[name])).any()]
    return [*complete, *names, str(table.column_names[0])][0]


def _check_columns(known: Sequence[str], key: str, classes: Sequence[str], location: str) -> None:
    """Require that key and classes occur once each, and have a name."""
    if wrong := next((name for name in (key, *classes) if name not in known), None):
        has = ", ".join(known)
        raise LabelError(f"labels: {location} has no column {wrong!r}{meant(wrong, known)}; it has {has}")
    if not classes or key in classes:
        header = ",".join(known)
        raise LabelError(f"labels: {location} has the header {header!r}; needed are a key and at least one class")
    if "" in classes:
        raise LabelError(f"labels: {location} has a column without a name: {','.join(known)}; name or remove it")
    _require_once(known, (key, *classes), location)


def _require_once(known: Sequence[str], names: Sequence[str], location: str) -> None:
    if twice := [name for name in names if list(known).count(name) > 1]:
        header = ",".join(known)
        raise LabelError(f"labels: {location} has the column {twice[0]!r} twice: {header}; rename one of the two")


def _class_names(column: "pa.ChunkedArray[Any]", location: str) -> tuple[str, ...]:
    """Return the names of classes in a column, sorted; none if it holds labels, perhaps one of them with a mistake.

    `no`, `yes` and `ye` are such labels, and 0, 1 and `?`; `negative`, `typical` and `atypical` are classes, and 0, 1
    and 2.
    """
    names = sorted({str(name).strip() for name in _strings(column).unique().to_pylist() if name is not None} - {""})
    words = {name.lower() for name in names}
    if words <= _MEANING.keys() or any(words.issuperset(pair) for pair in WORDS) or _are_mistaken_labels(words):
        return ()
    if len(names) > MOST_CLASSES:
        raise LabelError(
            f"labels: {location} has {len(names):,} different values such as {names[0]!r} in the column of class "
            f"names; at most {MOST_CLASSES:,} can be classes; name another column"
        )
    return tuple(sorted(names, key=_in_order))


def _are_mistaken_labels(words: set[str]) -> bool:
    """Return whether both 0 and 1 occur and no whole number above, or `y` and `n` and another word."""
    if words > {"y", "n"}:
        return True
    numbers = {word.replace(",", ".") for word in words}
    others = numbers - {"0", "1", "0.0", "1.0"}
    both = numbers & {"0", "0.0"} and numbers & {"1", "1.0"}
    return bool(both) and not (others and all(_WHOLE_ABOVE_1.fullmatch(word) for word in others))


def _from_class_names(table: pa.Table, key: str, column: str, names: tuple[str, ...], location: str) -> LabelTable:
    """Return one-hot labels of a column of class names; rows with a blank are left out."""
    cells = pc.utf8_trim_whitespace(_strings(table[column]).fill_null(""))
    rows = np.flatnonzero(pc.not_equal(cells, "").to_numpy(zero_copy_only=False))
    codes = pc.index_in(cells.take(pa.array(rows)), value_set=pa.array(names)).to_numpy()
    ids = _keys(table, key, location).take(pa.array(rows))
    return _merged(ids, names, np.eye(len(names), dtype=np.uint8)[codes], location)


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
            f"(_{', _'.join(RSNA_CLASSES)}); for a row an image give --label_columns '[Label]'"
        )
    return image, column


def _from_wide(table: pa.Table, key: str, names: Sequence[str], location: str) -> LabelTable:
    """Return the table with a column a class."""
    ids = _keys(table, key, location)
    names = RSNA_CLASSES if set(names) == set(RSNA_CLASSES) else tuple(names)
    values = np.column_stack([_column_values(_strings(table[name]), ids, location, name) for name in names])
    return _merged(ids, names, values, location)


def _keys(table: pa.Table, key: str, location: str) -> pa.StringArray:
    ids = cast(pa.StringArray, pc.utf8_trim_whitespace(_strings(table[key])))
    if (blank := _blank(ids)).any():
        raise LabelError(f"labels: {location} line {_line(blank)}: the key in {key!r} is blank")
    return ids


def _blank(ids: pa.StringArray) -> NDArray[np.bool_]:
    trimmed: Any = pc.utf8_trim_whitespace(ids.fill_null(""))
    return np.asarray(pc.equal(trimmed, pa.scalar("")).to_numpy(zero_copy_only=False), bool)


def _merged(ids: pa.StringArray, names: tuple[str, ...], values: NDArray[np.uint8], location: str) -> LabelTable:
    """Return the table of rows with one key each, equal rows merged."""
    images = ids.dictionary_encode()
    keys = _strings(images.dictionary)
    merged, repeated, clashing = _merge(images.indices.to_numpy(), values, len(keys))
    _refuse_conflicts(ids, clashing, location)
    return LabelTable(names, keys, merged, repeated)


def _column_values(
    column: pa.StringArray, ids: pa.StringArray, location: str, name: str = "Label"
) -> NDArray[np.uint8]:
    """Return a column of labels as uint8, blank as `NULL_LABEL`; any other value is refused."""
    encoded = column.fill_null("").dictionary_encode()
    words = [str(word).strip().lower() for word in encoded.dictionary.to_pylist()]
    codes = encoded.indices.to_numpy()
    wrong = np.array([word not in _MEANING for word in words], bool)[codes]
    if wrong.any():
        at = int(wrong.argmax())
        cell = f"{name} is {encoded[at].as_py()!r} for {ids[at].as_py()!r}"
        raise LabelError(
            f"labels: {location} line {_line(wrong)}: {cell}; a label is 0, 1, yes, no, true, false, positive, "
            "negative or blank; --label_columns names the columns that are labels, or one column of class names"
        )
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
