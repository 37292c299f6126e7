"""Every image of equal pixels as a table: what the audit's counts stand for."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hemo.config.curate import SPLITS
from hemo.corpus.labels import NULL_LABEL
from hemo.curation.audit import conflicting_labels
from hemo.curation.rows import Rows, text_column

_EXAMPLES = 5


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
        `linked_patient` (name of the group of patients), `links_patients` (whether these pixels stand under several
        patients), `conflict` (whether a class is both 0 and 1 among them), `split` (null: not used) and `label_NAME`.
    """
    copies = np.bincount(pixels[pixels >= 0], minlength=1)
    members = np.flatnonzero((pixels >= 0) & (copies[pixels] > 1))
    members = members[np.argsort(pixels[members], kind="stable")]
    number = np.unique(pixels[members], return_inverse=True)[1]
    columns = {
        "equal_pixels": pa.array(number, pa.int32()),
        **{name: text_column(rows.index, name).take(members) for name in ("image_id", "source_path", "patient")},
        "linked_patient": groups[1].take(groups[0][members]),
        "links_patients": _several(number, rows.patient[members]),
        "conflict": _among(members, conflicting_labels(rows, pixels)),
        "split": _split_names(len(pixels), placed).take(members),
    }
    for at, name in enumerate(rows.classes):
        values = rows.labels[members, at]
        columns[f"label_{name}"] = pa.array(values, pa.uint8(), mask=values == NULL_LABEL)
    return pa.table(columns)


def link_examples(table: pa.Table) -> list[str]:
    """Return who is linked through what, for up to five groups of equal pixels: `ID_1 of P1 = ID_2 of P2`.

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
    """Tell for each row whether its number, from 0 without gaps, occurs with more than one patient."""
    pairs = np.unique(np.stack([number, patient]), axis=1)
    several: NDArray[np.bool_] = (np.bincount(pairs[0], minlength=1) > 1)[number]
    return several


def _among(members: NDArray[np.int64], lists: list[NDArray[np.int64]]) -> NDArray[np.bool_]:
    """Tell for each member whether it is in one of the lists of row numbers."""
    return np.isin(members, np.concatenate(lists) if lists else [])


def _split_names(rows: int, placed: tuple[NDArray[np.int64], NDArray[np.int8]]) -> pa.StringArray:
    """Return the split of each of `rows` images by name, null where it is not used."""
    chosen, splits = placed
    number = np.full(rows, len(SPLITS), np.int8)
    number[chosen] = splits
    return pa.array([*SPLITS, None], pa.string()).take(pa.array(number))
