"""What the corpus hides: the same pixels under several patients, labels that contradict each other."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hemo.corpus.labels import NULL_LABEL
from hemo.curation.rows import Rows, has_flag

UNLINKABLE = ("blank", "secondary_capture")
"""Flags of images whose equality says nothing: thousands of patients may share a black slice or a screen layout."""

_EXAMPLES = 5


def equal_pixels(rows: Rows) -> NDArray[np.int64]:
    """Return a number a row, the same for rows of equal pixels; -1 where equality says nothing. Shape (rows,)."""
    digests = rows.index["pixel_digest"].combine_chunks()
    codes = digests.dictionary_encode().indices
    numbers: NDArray[np.int64] = codes.fill_null(-1).to_numpy().astype(np.int64)
    numbers[has_flag(rows.index, UNLINKABLE)] = -1
    return numbers


def link_patients(patient: NDArray[np.int64], pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join patients who share an image, directly or through others.

    Args:
        patient: Patient number of each row, shape (rows,), from 0 without gaps.
        pixels: `equal_pixels`, shape (rows,).

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
    """Describe what was found, for the card.

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
        "linked_groups": int((members > 1).sum()),
        "linked_patients": int(members[members > 1].sum()),
        "largest_group_patients": int(members.max()),
        "equal_pixel_groups": int((copies > 1).sum()),
        "equal_pixel_conflicts": len(conflicts),
        "equal_pixel_conflict_examples": _names(image_ids, conflicts),
        "positives_by_pixel_format": positives_by_format(rows),
    }


def positives_by_format(rows: Rows) -> dict[str, dict[str, int]]:
    """Return pixel format -> `rows` and class -> positives, of the labelled images: formats may give labels away."""
    codes = rows.index["pixel_format"].combine_chunks().dictionary_encode()
    numbers = codes.indices.to_numpy()
    table = {}
    for number, name in enumerate(codes.dictionary.to_pylist()):
        count = rows.count(np.flatnonzero((numbers == number) & rows.labelled))
        table[str(name)] = {"rows": count.rows, **count.positives}
    return dict(sorted(table.items()))


def _names(image_ids: "pa.ChunkedArray[Any]", groups: Iterable[NDArray[np.int64]]) -> list[list[str]]:
    """Return the ids of up to five images in each of the first five groups."""
    shown = list(groups)[:_EXAMPLES]
    return [[str(name) for name in image_ids.take(group[:_EXAMPLES]).to_pylist()] for group in shown]
