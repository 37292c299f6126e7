"""What a published table says, and which training sets its rows are compared on."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, Literal

import yaml

from hemo.config.types import Config
from hemo.config.validation import validated
from hemo.reporting.trial_row import Row, image_of

SetName = tuple[str, str, tuple[str, ...]]
"""Digest of a training set, split, and classes of the logits."""


class Column(Config):
    """A column: a setting, or one figure or two with a slash between them."""

    head: str
    setting: str = ""
    figures: tuple[str, ...] = ()
    unit: Literal["", "hours", "milliseconds"] = ""


class PublishedRow(Config):
    """A row: the name of the cells that are to give the same figures, and what was published."""

    name: str
    settings: dict[str, Any]
    figures: dict[str, float]


class PublishedTable(Config):
    """A table as it was published. Figures are `split.metric`, `baseline.metric` of validation, or `seconds`."""

    title: str
    source: str
    worth: tuple[str, ...]
    across_training_sets: bool = False
    columns: tuple[Column, ...]
    recipe: dict[str, Any]
    rows: tuple[PublishedRow, ...]


def published_table(name: str) -> PublishedTable:
    """Return a published table by its name, one of those in `hemo.config.report.Published`."""
    text = files("hemo.reporting.published").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return validated(PublishedTable, yaml.safe_load(text), origin=f"{name}.yaml")


def set_of(row: Row) -> SetName:
    """Return what a trial learned from."""
    record = row.record
    return record.training_set, record.split, record.classes


def by_set(rows: Iterable[Row]) -> dict[SetName, list[Row]]:
    """Return the trials of each training set, in the order given."""
    found: dict[SetName, list[Row]] = defaultdict(list)
    for row in rows:
        found[set_of(row)].append(row)
    return dict(found)


def sets_told(found: Mapping[str, Sequence[Row]]) -> list[str]:
    """Say which row is of which training set, and whether they had the same test images; nothing for one set.

    Args:
        found: Name of a published row -> its trials.
    """
    sets = by_set(row for rows in found.values() for row in rows)
    if len(sets) < 2:
        return []
    told = [
        f"{', '.join(name for name, rows in found.items() if any(set_of(row) == one for row in rows))}: "
        f"training set {one[0]}, split {one[1]}, {_size(mine)}"
        for one, mine in sets.items()
    ]
    return [*told, _tested_on(list(sets.values()))]


def _tested_on(sets: Sequence[Sequence[Row]]) -> str:
    first = [next((row.by_patient for row in mine if row.by_patient is not None), None) for mine in sets]
    known = [part for part in first if part is not None]
    if len(known) < len(first):
        return "Not every one of these training sets was tested on: its rows cannot be set beside the others"
    if all(part.same_images(known[0]) for part in known[1:]):
        return "All rows were tested on the same patients with as many images each"
    return "These training sets were tested on different images: a row can be set beside its published figures only"


def _size(rows: Sequence[Row]) -> str:
    """Return the size of a training set and its images, as the trials that ran saw them."""
    ran = [row.record for row in rows if row.record.rows]
    if not ran:
        return "on which no trial ran"
    counts = ", ".join(f"{split} {images:,}" for split, images in ran[0].rows.items())
    seen = " and ".join(dict.fromkeys(image_of(record) for record in ran if record.image))
    return f"images of {seen}: {counts}" if seen else f"images: {counts}"
