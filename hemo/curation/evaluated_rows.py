"""Rows of an evaluation: labels of a checkpoint's classes, groups of images, and patients to recalibrate on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hemo.config.validation import meant
from hemo.corpus.labels import NULL_LABEL, PATIENT_KEYS, parse_columns
from hemo.curation.hash_order import hash_texts
from hemo.curation.labelled_index import match_keys, pseudonyms_of, text_column
from hemo.curation.select import unflagged
from hemo.errors import ConfigError, LabelError
from hemo.pseudonym import Pseudonymiser

SOURCE_SIZE = "source_size"
"""Subgroup by rows and columns of the source image."""

IMAGE_GROUPS = ("pixel_format", "scanner", "spacing_mm", "slice_thickness_mm", SOURCE_SIZE, "source_class")
"""Subgroups that the images themselves give."""

MOST_GROUPS = 8
"""Groups of a column at most: more numbers are cut at their quartiles, of more texts the rarest are `others`."""

UNKNOWN, OTHERS = "unknown", "others"


def columns_of_classes(known: Sequence[str], classes: Sequence[str], class_names: Mapping[str, str]) -> list[int]:
    """Return the column of each class of a checkpoint in labels.

    Args:
        known: Classes of the labels, in the order of their columns.
        classes: Of the checkpoint.
        class_names: Class of the checkpoint -> its name in the labels, where that differs.

    Raises:
        ConfigError: If `class_names` names a class that the checkpoint does not have.
        LabelError: If the labels lack a class.
    """
    if unknown := [name for name in class_names if name not in classes]:
        raise ConfigError(f"class_names: {unknown[0]!r} is no class of the checkpoint; it has {', '.join(classes)}")
    found = []
    for name in classes:
        wanted = class_names.get(name, name)
        if wanted not in known:
            raise LabelError(
                f"labels: no class {wanted!r}{meant(wanted, list(known))}; they have {', '.join(known)}: if one of "
                f"them means the same, give --class_names '{{{name}: {known[0]}}}'"
            )
        found.append(list(known).index(wanted))
    return found


def usable(
    index: pa.Table, labels: NDArray[np.uint8], drop_flags: Sequence[str], *, exclusive: bool
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Return which images have all labels and no flag to leave out, and how many are left out for which reason.

    Args:
        index: Columns of `INDEX_SCHEMA`, each one chunk.
        labels: 0, 1 or `NULL_LABEL`, shape (rows, classes).
        drop_flags: Flags of images to leave out.
        exclusive: Whether an image has one class only.

    Raises:
        LabelError: If no image has all labels, or one of exclusive classes has none or several.
        ConfigError: If a flag is none that `convert` sets, or all images with labels have one.
    """
    labelled, clean = (labels != NULL_LABEL).all(axis=1), unflagged(index, tuple(drop_flags))
    kept = labelled & clean
    if labelled.any() and not kept.any():
        raise ConfigError(f"drop_flags: {', '.join(drop_flags)} leaves none of the labelled images; drop fewer")
    if not kept.any():
        raise LabelError(f"labels: none of {len(labels):,} images has labels of all classes of the checkpoint")
    if exclusive and (wrong := kept & (labels.sum(axis=1) != 1)).any():
        first = text_column(index, "image_id")[int(wrong.argmax())].as_py()
        raise LabelError(f"labels: the checkpoint's classes exclude each other, and image {first} has none or several")
    reasons = {"without a label of every class": int((~labelled).sum()), "flagged": int((labelled & ~clean).sum())}
    return kept, {reason: count for reason, count in reasons.items() if count}


def recalibrated_on(patients: pa.StringArray, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Return which images are of the patients to recalibrate on: those with the smallest hashes of their names.

    Args:
        patients: Of each image, shape (images,).
        fraction: Of the patients.
        seed: Of the choice.
    """
    encoded = patients.dictionary_encode()
    names: Any = encoded.dictionary
    order = np.argsort(hash_texts(names, "recalibration", seed), kind="stable")
    chosen = np.zeros(len(names), bool)
    chosen[order[: round(fraction * len(names))]] = True
    return np.asarray(chosen[encoded.indices.to_numpy()])


def image_group(index: pa.Table, name: str) -> list[str]:
    """Return the value of one of `IMAGE_GROUPS` for each image as a text, empty where it is unknown."""
    if name == SOURCE_SIZE:
        pairs = zip(index["source_rows"].to_pylist(), index["source_cols"].to_pylist(), strict=True)
        return [f"{rows} x {cols}" for rows, cols in pairs]
    return ["" if value is None else _text(value) for value in index[name].to_pylist()]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def read_groups(
    data: bytes, location: str, key: str, columns: Sequence[str]
) -> tuple[str, pa.StringArray, dict[str, pa.StringArray]]:
    """Return key and columns of a user's table, see `parse_columns`.

    Raises:
        LabelError: If a column is missing, or rows contradict each other.
    """
    try:
        return parse_columns(data, location, key=key, columns=columns)
    except LabelError as error:
        raise LabelError(str(error).replace("labels: ", "subgroup_table: ", 1)) from error


def table_groups(
    data: bytes, location: str, index: pa.Table, key: str, columns: Sequence[str], pseudonyms: Pseudonymiser
) -> dict[str, list[str]]:
    """Return columns of a user's table for each image, as texts, empty where the table has none.

    Args:
        data: Content of the table.
        location: Its name.
        index: Columns of `INDEX_SCHEMA` of the images, each one chunk.
        key: Column that names the rows; one of `PATIENT_KEYS` holds those ids; empty: as in a table of labels.
        columns: Wanted.
        pseudonyms: With the key of the images.

    Raises:
        LabelError: If a column is missing, rows contradict each other, or none belongs to an image.
    """
    key, keys, cells = read_groups(data, location, key, columns)
    if key in PATIENT_KEYS:
        hidden = pa.array([pseudonyms(key, str(name)) for name in keys.to_pylist()], pa.string())
        positions: Any = pc.index_in(text_column(index, key), value_set=hidden)
    elif pseudonyms.keeps_ids:
        positions = match_keys(index, keys)
    else:
        kinds = {"image": "image_id", "path": "source_path"}
        found = [
            pc.index_in(text_column(index, column), value_set=pseudonyms_of(keys, kind, pseudonyms))
            for kind, column in kinds.items()
        ]
        positions = pc.coalesce(*found)
    if positions.null_count == len(positions):
        raise LabelError(f"subgroup_table: no row of {location} belongs to an image; give the column by --subgroup_key")
    return {name: [str(cell or "") for cell in values.take(positions).to_pylist()] for name, values in cells.items()}


def grouped(values: Sequence[str]) -> list[str]:
    """Return the group of each value: itself, a range where there are many numbers, `unknown` where it is blank."""
    known = [value for value in values if value]
    distinct = sorted(set(known))
    if len(distinct) <= MOST_GROUPS:
        return [value or UNKNOWN for value in values]
    numbers = _numbers(known)
    if numbers is not None:
        edges = np.unique(np.quantile(numbers, (0, 0.25, 0.5, 0.75, 1)))
        return [_range(float(value), edges) if value else UNKNOWN for value in values]
    counts = Counter(known)
    common = sorted(distinct, key=lambda value: (-counts[value], value))[: MOST_GROUPS - 1]
    return [(value if value in common else OTHERS) if value else UNKNOWN for value in values]


def _numbers(values: Sequence[str]) -> NDArray[np.float64] | None:
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _range(value: float, edges: NDArray[np.float64]) -> str:
    at = min(max(int(np.searchsorted(edges, value, "right")) - 1, 0), len(edges) - 2)
    return f"{edges[at]:.4g} to {edges[at + 1]:.4g}"
