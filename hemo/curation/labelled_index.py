"""Join the index of a conversion with its labels, as arrays."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hemo.corpus.labels import NULL_LABEL, PATIENT_KEYS, LabelTable, labels_of_classes
from hemo.corpus.source_file import image_stem
from hemo.curation.card import LEVELS, Count, label_counts
from hemo.errors import LabelError, SourceError, first_names
from hemo.pseudonym import Pseudonymiser
from hemo.shards.reader import CONVERT_AGAIN, checked_parquet
from hemo.shards.schema import INDEX_SCHEMA, SHARD_INDEX_SCHEMA
from hemo.storage import exists, join

OFFICIAL_PREFIX = r"^(train|val|test) patient "
"""Of a patient's name: the official split within which the id is known, see `join_labels`."""

PATIENT_PREFIX = r"^((train|val|test) patient )?(patient )?"
"""Of a patient's name: what is no part of the id as the shards have it."""

FRAME = r"#\d+$"
"""End of the image id of a frame of a file with several."""


@dataclass(frozen=True)
class Rows:
    """Images with labels and patients. The first axis of all arrays is the row of the index.

    Attributes:
        index: Columns of `SHARD_INDEX_SCHEMA`, each one chunk.
        classes: Class names.
        labels: Shape (rows, classes), uint8: 0, 1 or `NULL_LABEL`.
        labelled: Shape (rows,), bool: whether the label table holds the image.
        patient: Shape (rows,), int: number of the patient, see `number_patients`; so are the next three.
        patient_names: Name of each patient, unique.
        level: Shape (rows,), int8: index in `LEVELS` of the identifier by which the patient of the row was found.
        shared_studies: Studies and series with images of several patient ids.
        matched_keys: Rows of the label table that fit an image; by path one may fit every frame of a file.
    """

    index: pa.Table
    classes: tuple[str, ...]
    labels: NDArray[np.uint8]
    labelled: NDArray[np.bool_]
    patient: NDArray[np.int64]
    patient_names: pa.StringArray
    level: NDArray[np.int8]
    shared_studies: int
    matched_keys: int

    def training_set_columns(self) -> pa.Table:
        """Return the columns of `INDEX_SCHEMA`, the patient as the bootstrap draws it, and the labels."""
        columns = {name: self.index[name] for name in INDEX_SCHEMA.names}
        return pa.table(columns | {"patient": self.patient_ids} | self.label_columns(np.arange(len(self.index))))

    @property
    def patient_ids(self) -> pa.StringArray:
        """Patient of each row as in the shards; where none is known, `study S`, `series S` or `image I`."""
        ids = pc.replace_substring_regex(self.patient_names, PATIENT_PREFIX, "")
        return cast(pa.StringArray, ids.take(pa.array(self.patient)))

    def label_columns(self, chosen: NDArray[np.int64]) -> dict[str, pa.Array]:
        """Return `label_NAME` -> uint8, nullable, of the rows whose indices are `chosen`."""
        labels = self.labels[chosen]
        return {
            f"label_{name}": pa.array(values, pa.uint8(), mask=values == NULL_LABEL)
            for name, values in zip(self.classes, labels.T, strict=True)
        }

    def count(self, chosen: NDArray[np.int64]) -> Count:
        """Count the rows whose indices are `chosen`."""
        labels, patient = self.labels[chosen], self.patient[chosen]
        formats: Any = pc.value_counts(text_column(self.index, "pixel_format").take(chosen))
        levels = np.bincount(self.level[chosen], minlength=len(LEVELS)).tolist()
        return Count(
            rows=len(chosen),
            patients=len(np.unique(patient)),
            **label_counts(self.classes, labels, patient),
            grouped_by={name: count for name, count in zip(LEVELS, levels, strict=True) if count},
            pixel_formats=dict(sorted((entry["values"], entry["counts"]) for entry in formats.to_pylist())),
        )


def read_index(shards: str) -> pa.Table:
    """Return the index of a conversion, each column one chunk.

    Args:
        shards: Output folder of `convert`.

    Raises:
        SourceError: If it is missing, damaged, empty, or lacks a column.
    """
    location = join(shards, "index.parquet")
    if not exists(location):
        raise SourceError(f"{location} does not exist; run `hemo convert` again, it rebuilds the index from the shards")
    with checked_parquet(location, CONVERT_AGAIN) as file:
        table = file.read()
    missing = [name for name in SHARD_INDEX_SCHEMA.names if name not in table.column_names]
    if missing:
        raise SourceError(f"{location} lacks the columns {', '.join(missing)}; run `hemo convert` again")
    if not table.num_rows:
        raise SourceError(f"{location} has no rows: every input was rejected; the reasons are in rejects.parquet")
    return table.select(SHARD_INDEX_SCHEMA.names).cast(SHARD_INDEX_SCHEMA).combine_chunks()


def join_labels(index: pa.Table, table: LabelTable, *, within: pa.StringArray | None = None) -> Rows:
    """Look up the labels of the images, each by its image_id, else by its path, else by its name.

    Of a table keyed by patient, study or series by that id. A name fits with or without ending, and with or without
    folders: `a.png`, `x/a` and `/data/x/a.jpg` are image `x/a`, `y/a` is not.

    Args:
        index: As `read_index` returns it.
        table: Labels.
        within: Shape (rows,), null-free: patients with different values here are different, even with the same name.

    Raises:
        LabelError: If no image has a label, a name fits several, leading zeros are missing, or an image has two keys
            with different labels.
    """
    of_images = table.keyed_by == "image"
    positions = match_keys(index, table.keys) if of_images else _by_column(index, table.keyed_by, table.keys)
    if positions.null_count == len(positions):
        raise LabelError(_no_match(index, table))
    if of_images:
        _refuse_contradictions(index, table, positions)
    labelled = positions.is_valid().to_numpy(zero_copy_only=False)
    labels = table.values[positions.fill_null(0).to_numpy()]
    labels[~labelled] = NULL_LABEL
    matched_keys = pc.count_distinct(positions).as_py()
    return Rows(index, table.classes, labels, labelled, *number_patients(index, within), matched_keys)


def _by_column(index: pa.Table, name: str, keys: pa.StringArray) -> Any:
    """Return for each image the position of its id in `keys`, null where it has none."""
    return pc.index_in(text_column(index, name), value_set=keys)


def _no_match(index: pa.Table, table: LabelTable) -> str:
    """Return how ids and keys differ, and the cure."""
    ids = text_column(index, "image_id" if table.keyed_by == "image" else table.keyed_by).drop_null()
    has = f"are like {_examples(ids)}" if len(ids) else "are blank"
    cure = _right_key(index, table.keys, Pseudonymiser())
    return (
        f"labels: none matches an image: {table.keyed_by} ids {has}, label keys like {_examples(table.keys)}; "
        f"{cure or 'give a table keyed by image id or path, or name its key by --label_key'}"
    )


def _right_key(index: pa.Table, keys: pa.StringArray, pseudonyms: Pseudonymiser) -> str:
    """Return the cure where keys are ids of patients, studies or series, and were not taken for these; else nothing."""
    for name in PATIENT_KEYS:
        if _by_column(index, name, pseudonyms_of(keys, name, pseudonyms)).is_valid().true_count:
            return f"they are ids of the {name}: name their column {name!r}, and give --label_key {name}"
    return ""


def match_keys(index: pa.Table, keys: pa.StringArray) -> Any:
    """Return for each image the position of its key, null where it has none; matched as in `join_labels`.

    Raises:
        LabelError: If a name fits several, or leading zeros are missing.
    """
    by_id, by_path = (pc.index_in(text_column(index, name), value_set=keys) for name in ("image_id", "source_path"))
    positions: Any = pc.coalesce(by_id, by_path)
    if positions.null_count:
        positions = pc.coalesce(positions, _by_name(index, keys, positions))
    if positions.null_count:
        _refuse_lost_zeros(index, keys, positions)
    return positions


def _by_name(index: pa.Table, keys: pa.StringArray, matched: pa.Int32Array) -> pa.Int32Array:
    """Return for each image without a key the one that is the end of its path, or whose end is its path.

    Args:
        index: As `read_index` returns it.
        keys: Of the label table.
        matched: Position in `keys` for each image, null where it has none yet.

    Raises:
        LabelError: If several fit.
    """
    free, left = _unmatched(keys, matched)
    paths = text_column(index, "source_path").take(pa.array(left)).to_pylist()
    key_of_path: dict[str, int] = {}
    path_of_key: dict[int, str] = {}
    for path, fitting in _fitting_keys(_names_of(keys, free), paths).items():
        if len(fitting) > 1:
            several = " and ".join(repr(keys[at].as_py()) for at in fitting[:2])
            raise LabelError(f"labels: {several} both fit image {path}; give paths below the source")
        for at in fitting:
            if (other := path_of_key.setdefault(at, path)) != path:
                raise LabelError(
                    f"labels: {keys[at].as_py()!r} fits {other} and {path}; give paths below the source, with folders"
                )
            key_of_path[path] = at
    found = {row: key_of_path.get(path) for row, path in zip(left.tolist(), paths, strict=True)}
    return pa.array([found.get(row) for row in range(len(index))], pa.int32())


def _refuse_contradictions(index: pa.Table, table: LabelTable, matched: pa.Int32Array) -> None:
    """Refuse keys that name an image which has a key already, and have other labels: `ID_1` and `ID_1.dcm`.

    A frame's own label stands beside that of its file; a key that fits several images names none of them.
    """
    free, _ = _unmatched(table.keys, matched)
    if not len(free):
        return
    frames = pc.match_substring_regex(text_column(index, "image_id"), FRAME)
    rows = np.flatnonzero(pc.and_not(matched.is_valid(), frames).to_numpy(zero_copy_only=False))
    row_of_path = dict(
        zip(text_column(index, "source_path").take(pa.array(rows)).to_pylist(), rows.tolist(), strict=True)
    )
    fitting = _fitting_keys(_names_of(table.keys, free), row_of_path)
    images_of_key = Counter(at for keys in fitting.values() for at in keys)
    found = []
    for path, keys in fitting.items():
        row = row_of_path[path]
        own = matched[row].as_py()
        for at in keys:
            if images_of_key[at] == 1 and (table.values[at] != table.values[own]).any():
                image = index["image_id"][row].as_py()
                found.append(f"{image} ({table.keys[own].as_py()!r} and {table.keys[at].as_py()!r})")
    if found:
        raise LabelError(f"labels: conflicting rows for {first_names(found)}; keep one row of each")


def _unmatched(keys: pa.StringArray, matched: pa.Int32Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of the keys without image, and of the images without key."""
    free = np.ones(len(keys), bool)
    free[matched.drop_null().to_numpy()] = False
    return np.flatnonzero(free), np.flatnonzero(matched.is_null().to_numpy(zero_copy_only=False))


def _names_of(keys: pa.StringArray, positions: NDArray[np.int64]) -> dict[int, str]:
    """Return the name of each of these keys, by its position: with slashes, without the ending of an image."""
    return {at: _without_ending(str(keys[at].as_py())) for at in positions.tolist()}


def _without_ending(path: str) -> str:
    """Return a name that can be compared: its letters composed (NFC), as macOS takes umlauts in file names apart."""
    stem = image_stem(path.replace("\\", "/").removeprefix("./").removeprefix("/"), "manifest")
    return stem if stem.isascii() else unicodedata.normalize("NFC", stem)


def _fitting_keys(names: Mapping[int, str], paths: Iterable[str]) -> dict[str, list[int]]:
    """Return the keys that are the end of a path, or whose end it is, of each path that has some.

    Each end of a path and of a key is looked up once: comparing them with each other would take hours where many
    folders have files of the same name.

    Args:
        names: Of the keys, by their positions.
        paths: Of images; endings and repeated ones do not count.

    Returns:
        Path -> positions, ascending; paths in their order.
    """
    key_named: dict[str, list[int]] = defaultdict(list)
    for at, name in names.items():
        key_named[name].append(at)
    path_named: dict[str, list[str]] = defaultdict(list)
    fitting: dict[str, list[int]] = {}
    for path in dict.fromkeys(paths):
        ends = _ends(_without_ending(path))
        path_named[ends[0]].append(path)
        fitting[path] = [at for end in ends for at in key_named.get(end, ())]
    for at, name in names.items():
        for end in _ends(name)[1:]:
            for path in path_named.get(end, ()):
                fitting[path].append(at)
    return {path: sorted(found) for path, found in fitting.items() if found}


def _ends(name: str) -> list[str]:
    """Return `a/b/c`, `b/c` and `c` of `a/b/c`."""
    parts = name.split("/")
    return ["/".join(parts[first:]) for first in range(len(parts))]


def _refuse_lost_zeros(index: pa.Table, keys: pa.StringArray, matched: pa.Int32Array) -> None:
    """Refuse keys that differ from image ids by leading zeros only, as a spreadsheet leaves them: `0` for `000`.

    Of names that are decimal digits, in folders that agree: in `ID_03e12e27c` a zero is as good as another digit.
    """
    free, left = _unmatched(keys, matched)
    ids = [str(name) for name in text_column(index, "image_id").take(pa.array(left)).to_pylist()]
    image_of = {without: name for name in ids if (without := _without_zeros(name))}
    names = _names_of(keys, free)
    numbers = {at: without for at, name in names.items() if (without := _without_zeros(name))}
    lost = {
        at: image_of[number]
        for number, fitting in _fitting_keys(numbers, image_of).items()
        for at in fitting
        if _stem(image_of[number]) != _stem(names[at])
    }
    if lost:
        listed = first_names([f"{keys[at].as_py()!r} for image {image!r}" for at, image in sorted(lost.items())], 3)
        raise LabelError(
            f"labels: {len(lost)} of {len(keys)} keys fit an image but for leading zeros: {listed}; write the keys "
            "with all their digits, in a spreadsheet as text"
        )


def _without_zeros(name: str) -> str:
    """Return a name of decimal digits, perhaps in folders, without leading zeros; empty if it is another name."""
    stem = _stem(name)
    return name[: -len(stem)] + (stem.lstrip("0") or "0") if stem.isascii() and stem.isdigit() else ""


def _stem(name: str) -> str:
    return name[name.rfind("/") + 1 :]


def _examples(names: pa.StringArray) -> str:
    return ", ".join(repr(name) for name in names[:3].to_pylist())


def labels_for(index: pa.Table, table: LabelTable | None, pseudonyms: Pseudonymiser) -> LabelTable:
    """Return the labels that images are joined with: their classes, or those of a table under the images' key.

    Args:
        index: Columns of `INDEX_SCHEMA`, each one chunk.
        table: Labels, keyed by true names; None: the images' `source_class` is their label.
        pseudonyms: With the key of the images.

    Raises:
        SourceError: If no image has a class.
        LabelError: If no key's pseudonym is in the index.
    """
    if table is None:
        return labels_of_classes(text_column(index, "image_id"), text_column(index, "source_class"))
    return table if pseudonyms.keeps_ids else pseudonymise_keys(table, index, pseudonyms)


def pseudonymise_keys(table: LabelTable, index: pa.Table, pseudonyms: Pseudonymiser) -> LabelTable:
    """Return a label table of true names as one of pseudonyms, as `convert` makes them.

    Args:
        table: Labels keyed by image id, `NAME#FRAME` for frames, by path, or by one of `PATIENT_KEYS`.
        index: As `read_index` returns it.
        pseudonyms: With the key of the conversion.

    Raises:
        LabelError: If no pseudonym of an image's key is in the index.
    """
    if table.keyed_by != "image":
        return replace(table, keys=pseudonyms_of(table.keys, table.keyed_by, pseudonyms))
    of_images, of_paths = (pseudonyms_of(table.keys, kind, pseudonyms) for kind in ("image", "path"))
    by_path = pc.is_in(of_paths, value_set=text_column(index, "source_path"))
    if pc.or_(by_path, pc.is_in(of_images, value_set=text_column(index, "image_id"))).true_count:
        return replace(table, keys=pc.if_else(by_path, of_paths, of_images))
    cure = _right_key(index, table.keys, pseudonyms)
    raise LabelError(
        f"labels: none of the {len(table.keys)} keys matches an image under its pseudonym; "
        f"{cure or 'a key is a path relative to the source of `convert`, with or without its ending'}"
    )


def pseudonyms_of(names: pa.StringArray, kind: str, pseudonyms: Pseudonymiser) -> pa.StringArray:
    """Return the pseudonyms of names as `convert` makes them: the number of an image's frame stays readable.

    Args:
        names: Shape (names,), null-free; `NAME#FRAME` for frames.
        kind: What they are: `image`, `path` or one of `PATIENT_KEYS`.
        pseudonyms: With the key of the conversion.
    """
    return pa.array([_pseudonym(pseudonyms, kind, str(name)) for name in names.to_pylist()], pa.string())


def _pseudonym(pseudonyms: Pseudonymiser, kind: str, name: str) -> str:
    """Return the pseudonym of an image id or a path; the number of a frame stays readable."""
    stem, mark, frame = name.rpartition("#")
    if kind == "image" and stem and frame.isdecimal():
        return f"{pseudonyms(kind, stem)}{mark}{frame}"
    return pseudonyms(kind, name)


def number_patients(
    index: pa.Table, within: pa.StringArray | None
) -> tuple[NDArray[np.int64], pa.StringArray, NDArray[np.int8], int]:
    """Return the patient of each row.

    A row without patient id is of the patient of its study, or of its series: both belong to one patient (PS3.3 A.1.2).
    Where those have several patient ids, it could be of each, and they become one patient. Without such a row different
    ids are different patients: a table may number studies within a patient, and copies may share a made-up UID.
    A patient is named by the first of its ids, else of its studies, else of its series, in the order of their names; an
    image without any of them is a patient of its own. A name does not depend on other patients.

    Args:
        index: Columns of `SHARD_INDEX_SCHEMA`.
        within: As for `join_labels`.

    Returns:
        The patient of each row, numbered as they occur; the name of each patient, `patient P`, `study S`, `series S` or
        `image I`, with `within` in front but for images; the first level of `LEVELS` at which each row has an id; and
        how many studies and series have images of several patient ids.
    """
    node, names = np.full((len(LEVELS), len(index)), -1), pa.array([], pa.string())
    counts: list[int] = []
    for number, level in enumerate(LEVELS):
        encoded = _names(index, level, within, unknown=node.max(axis=0) < 0).dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy()
        node[number] = np.where(codes < 0, -1, codes + len(names))
        names = pa.concat_arrays([names, encoded.dictionary])
        counts.append(len(encoded.dictionary))
    group = _connected(node, len(names))
    level_of_name = np.repeat(np.arange(len(LEVELS)), counts)
    order = np.lexsort((pc.rank(names).to_numpy(), level_of_name))
    first = order[np.unique(group[order], return_index=True)[1]]
    level_of_row = (node >= 0).argmax(axis=0)
    group_of_row = group[node[level_of_row, np.arange(len(index))]]
    patients = names.take(pa.array(first[group_of_row])).dictionary_encode()
    return (
        patients.indices.to_numpy().astype(np.int64),
        patients.dictionary,
        level_of_row.astype(np.int8),
        _shared_by_patients(node),
    )


def _names(index: pa.Table, level: str, within: pa.StringArray | None, unknown: NDArray[np.bool_]) -> Any:
    """Return `LEVEL ID` of each row, null where the id is blank; an image's only where nothing else is known."""
    joined: Any = pc.binary_join_element_wise  # its stubs lack scalars
    if level == "image":
        return joined("image", pc.if_else(pa.array(unknown), text_column(index, "image_id"), None), " ")
    ids = text_column(index, level)
    ids = pc.if_else(pc.equal(pc.utf8_trim_whitespace(ids), ""), None, ids)
    return joined(level, ids, " ") if within is None else joined(within, level, ids, " ")


def _connected(node: NDArray[np.int64], nodes: int) -> NDArray[np.int64]:
    """Return the connected component of each node, shape (nodes,), see `number_patients`.

    Args:
        node: Patient, study, series and image of each row, shape (4, rows); -1: none.
        nodes: How many there are.
    """
    patient, study, series, _ = node
    without = np.zeros(nodes + 1, bool)  # studies and series with images without patient id; the last is for -1
    without[node[1:3, patient < 0]] = True
    without[-1] = False
    both = (patient < 0) & (study >= 0) & (series >= 0)
    pairs = [(study[both], series[both])]
    for other in (study, series):
        linking = (patient >= 0) & without[other]
        pairs.append((patient[linking], other[linking]))
    ends = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(ends.shape[1], np.int8), ends), shape=(nodes, nodes))
    components: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return components


def _shared_by_patients(node: NDArray[np.int64]) -> int:
    """Return how many studies and series have several patient ids; `node` as for `_connected`."""
    patient, number = np.tile(node[0], 2), node[1:3].ravel()
    known = (patient >= 0) & (number >= 0)
    pairs = np.unique(np.stack([number[known], patient[known]]), axis=1)
    return int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())


def text_column(table: pa.Table, name: str) -> pa.StringArray:
    """Return a string column of one chunk as an array."""
    column: Any = table[name].combine_chunks()
    return cast(pa.StringArray, column)


def has_flag(index: pa.Table, flags: Collection[str]) -> NDArray[np.bool_]:
    """Return for each row whether it has any of `flags`; shape (rows,)."""
    lists = index["flags"].combine_chunks()
    matches = pc.is_in(pc.list_flatten(lists), value_set=pa.array(sorted(flags), pa.string()))
    marked = np.zeros(len(lists), bool)
    marked[pc.list_parent_indices(lists).filter(matches).to_numpy()] = True
    return marked
