"""Audit leaks between splits: equal pixels, patients linked by them, conflicting labels."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hemo.config.curate import SPLITS
from hemo.corpus.labels import NULL_LABEL
from hemo.curation.labelled_index import OFFICIAL_PREFIX, Rows, has_flag, text_column
from hemo.errors import SplitError

UNLINKABLE = ("blank", "secondary_capture")
"""Flags of images that link no patients: thousands may have the same black slice or screen layout."""

_EXAMPLES = 5


def equal_pixels(index: pa.Table) -> NDArray[np.int64]:
    """Return a number a row, equal for rows of equal pixels; -1 for images flagged `UNLINKABLE`.

    Args:
        index: Columns `pixel_digest` and `flags`, shape (rows,).
    """
    digests = index["pixel_digest"].combine_chunks()
    codes = digests.dictionary_encode().indices
    numbers: NDArray[np.int64] = codes.fill_null(-1).to_numpy().astype(np.int64)
    numbers[has_flag(index, UNLINKABLE)] = -1
    return numbers


def link_patients(patient: NDArray[np.int64], pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join patients with an image in common, directly or through others.

    Args:
        patient: Patient number of each row, shape (rows,), from 0 without gaps.
        pixels: `equal_pixels`, or other numbers that link patients, shape (rows,); -1: links nobody.

    Returns:
        Group of each patient, shape (patients,).
    """
    patients, images = int(patient.max()) + 1, int(pixels.max()) + 1
    linkable = pixels >= 0
    ends = (patient[linkable], patients + pixels[linkable])
    graph = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(patients + images, patients + images))
    groups = connected_components(graph, directed=False)[1][:patients]
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def group_names(groups: NDArray[np.int64], patient_names: pa.StringArray) -> pa.StringArray:
    """Name each group by the first of its patients in the order of their names.

    A name does not depend on other groups, so that new patients never rename, and never move, those that were there.

    Args:
        groups: Group of each patient, shape (patients,), from 0 without gaps.
        patient_names: Shape (patients,).
    """
    order = pc.sort_indices(patient_names).to_numpy()
    first = np.unique(groups[order], return_index=True)[1]
    return patient_names.take(order[first])


def conflicting_labels(rows: Rows, pixels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the row numbers of each group of equal pixels in which a class is both 0 and 1."""
    known = np.flatnonzero((pixels >= 0) & rows.labelled)
    if not len(known):
        return []
    order = known[np.argsort(pixels[known], kind="stable")]
    starts = np.flatnonzero(np.diff(pixels[order], prepend=-1))
    labels = rows.labels[order]
    lowest = np.minimum.reduceat(labels, starts, axis=0)
    highest = np.maximum.reduceat(np.where(labels == NULL_LABEL, 0, labels), starts, axis=0)
    stops = np.append(starts[1:], len(order))
    return [order[starts[at] : stops[at]] for at in np.flatnonzero(((lowest == 0) & (highest == 1)).any(axis=1))]


def audit(rows: Rows, groups: NDArray[np.int64], pixels: NDArray[np.int64]) -> dict[str, Any]:
    """Return the counts of linked patients, equal pixels and conflicts, for the card.

    Args:
        rows: All images of the conversion.
        groups: Group of each patient, shape (patients,).
        pixels: `equal_pixels`, shape (rows,).
    """
    members = np.bincount(groups)
    copies = np.bincount(pixels[pixels >= 0], minlength=1)
    conflicts = conflicting_labels(rows, pixels)
    image_ids = rows.index["image_id"]
    return {
        "images": len(pixels),
        "patients": len(groups),
        "studies_of_several_patients": rows.shared_studies,
        "linked_groups": int((members > 1).sum()),
        "linked_patients": int(members[members > 1].sum()),
        "largest_group_patients": int(members.max()),
        "equal_pixel_groups": int((copies > 1).sum()),
        "equal_pixel_conflicts": len(conflicts),
        "equal_pixel_conflict_examples": _names(image_ids, conflicts),
        "positives_by_pixel_format": positives_by_format(rows),
    }


def positives_by_format(rows: Rows) -> dict[str, dict[str, dict[str, int]]]:
    """Return pixel format -> class -> `positive` and `labelled` images: formats may give labels away."""
    codes = rows.index["pixel_format"].combine_chunks().dictionary_encode()
    numbers = codes.indices.to_numpy()
    table = {}
    for number, name in enumerate(codes.dictionary.to_pylist()):
        count = rows.count(np.flatnonzero(numbers == number))
        table[str(name)] = {
            label: {"positive": positive, "labelled": count.labelled(label)}
            for label, positive in count.positives.items()
        }
    return dict(sorted(table.items()))


def _names(image_ids: "pa.ChunkedArray[Any]", groups: Iterable[NDArray[np.int64]]) -> list[list[str]]:
    """Return the ids of up to five images in each of the first five groups."""
    shown = list(groups)[:_EXAMPLES]
    return [[str(name) for name in image_ids.take(group[:_EXAMPLES]).to_pylist()] for group in shown]


def equal_pixel_table(
    rows: Rows,
    pixels: NDArray[np.int64],
    groups: tuple[NDArray[np.int64], pa.StringArray],
    placed: tuple[NDArray[np.int64], NDArray[np.int8]],
) -> pa.Table:
    """List the images whose pixels another image has as well, group by group.

    Args:
        rows: All images.
        pixels: `equal_pixels`, shape (rows,).
        groups: Linked group of each row, shape (rows,), and the name of each group.
        placed: Rows that are used, shape (chosen,), and the split of each.

    Returns:
        Columns `equal_pixels` (number of the group of equal pixels), `image_id`, `source_path`, `patient`,
        `linked_patient` (name of the group of patients; `train patient P` of an official split), `links_patients`
        (whether several patients have these pixels), `conflict` (whether a class is both 0 and 1 among them), `split`
        (null: not used) and `label_NAME`.
    """
    copies = np.bincount(pixels[pixels >= 0], minlength=1)
    members = np.flatnonzero((pixels >= 0) & (copies[pixels] > 1))
    members = members[np.argsort(pixels[members], kind="stable")]
    number = np.unique(pixels[members], return_inverse=True)[1]
    columns = {
        "equal_pixels": pa.array(number, pa.int32()),
        **{name: text_column(rows.index, name).take(members) for name in ("image_id", "source_path", "patient")},
        "linked_patient": pc.replace_substring_regex(groups[1].take(groups[0][members]), OFFICIAL_PREFIX, r"\1 "),
        "links_patients": _several(number, rows.patient[members]),
        "conflict": _is_member(members, conflicting_labels(rows, pixels)),
        "split": _split_names(len(pixels), placed).take(members),
    }
    return pa.table(columns | rows.label_columns(members))


def link_examples(table: pa.Table) -> list[str]:
    """Return the patients linked by equal pixels, for up to five groups: `ID_1 of P1 = ID_2 of P2`.

    Args:
        table: As `equal_pixel_table` returns it.
    """
    links = table.filter(table["links_patients"])
    shown = links["equal_pixels"].unique().slice(0, _EXAMPLES).to_pylist()
    groups = (links.filter(pc.equal(links["equal_pixels"], number)).slice(0, _EXAMPLES) for number in shown)
    return [" = ".join(_image_of_patient(image) for image in group.to_pylist()) for group in groups]


def _image_of_patient(image: dict[str, Any]) -> str:
    return f"{image['image_id']} of {image['patient']}" if image["patient"] is not None else str(image["image_id"])


def _several(number: NDArray[np.int64], patient: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each row whether its number, from 0 without gaps, occurs with more than one patient."""
    pairs = np.unique(np.stack([number, patient]), axis=1)
    several: NDArray[np.bool_] = (np.bincount(pairs[0], minlength=1) > 1)[number]
    return several


def _is_member(members: NDArray[np.int64], lists: list[NDArray[np.int64]]) -> NDArray[np.bool_]:
    """Return for each member whether it is in one of the lists of row numbers."""
    return np.isin(members, np.concatenate(lists) if lists else [])


def _split_names(rows: int, placed: tuple[NDArray[np.int64], NDArray[np.int8]]) -> pa.StringArray:
    """Return the split of each of `rows` images by name, null where it is not used."""
    chosen, splits = placed
    number = np.full(rows, len(SPLITS), np.int8)
    number[chosen] = splits
    return pa.array([*SPLITS, None], pa.string()).take(pa.array(number))


def in_two_splits(kind: NDArray[np.int64], splits: NDArray[np.int8]) -> NDArray[np.int64]:
    """Return the values of `kind` that occur in more than one split, ascending.

    Args:
        kind: Number of the patient or of the equal pixels of each row, shape (rows,); -1: none.
        splits: Split of each row, shape (rows,).
    """
    known = kind >= 0
    pairs = np.unique(kind[known] * len(SPLITS) + splits[known])
    values, times = np.unique(pairs // len(SPLITS), return_counts=True)
    return values[times > 1]


def split_examples(kind: NDArray[np.int64], splits: NDArray[np.int8], image_ids: pa.StringArray) -> list[str]:
    """Return an image in each split for up to five values that are in two splits: `ID_1 in train and ID_2 in val`.

    Args:
        kind: As for `in_two_splits`.
        splits: Split of each row, shape (rows,).
        image_ids: Shape (rows,).
    """
    shown = []
    for value in in_two_splits(kind, splits)[:_EXAMPLES]:
        members = np.flatnonzero(kind == value)
        present, first = np.unique(splits[members], return_index=True)
        pairs = zip(image_ids.take(members[first]).to_pylist(), present, strict=True)
        shown.append(" and ".join(f"{image_id} in {SPLITS[split]}" for image_id, split in pairs))
    return shown


def require_apart(kind: NDArray[np.int64], splits: NDArray[np.int8], image_ids: pa.StringArray, what: str) -> None:
    """Refuse a split with the same patient or image in two splits.

    Args:
        kind: As for `in_two_splits`.
        splits: Split of each row, shape (rows,).
        image_ids: Shape (rows,).
        what: Name of the kind for the message, such as `linked patients`.

    Raises:
        SplitError: With their number and, for up to five of them, the images and their splits.
    """
    if evidence := split_examples(kind, splits, image_ids):
        count = len(in_two_splits(kind, splits))
        raise SplitError(
            f"split: {count} {what} in two splits, such as {'; '.join(evidence)}; this is a bug in hemo, please "
            "report it"
        )
