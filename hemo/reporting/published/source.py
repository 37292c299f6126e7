"""Published tables, read from their YAML files, and our trials grouped by training set."""

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
    """A column: a setting, or one metric or two separated by a slash."""

    head: str
    setting: str = ""
    metrics: tuple[str, ...] = ()
    unit: Literal["", "hours", "milliseconds"] = ""


class PublishedRow(Config):
    """A row: the name of the cells that reproduce it, their settings, and the published metrics."""

    name: str
    settings: dict[str, Any]
    metrics: dict[str, float]


class PublishedTable(Config):
    """A table as it was published. Metrics are `split.metric`, `baseline.metric` of validation, or `seconds`."""

    title: str
    source: str
    limitations: tuple[str, ...]
    across_training_sets: bool = False
    columns: tuple[Column, ...]
    recipe: dict[str, Any]
    rows: tuple[PublishedRow, ...]


def published_table(name: str) -> PublishedTable:
    """Return a published table by its name, one of those in `hemo.config.report.Published`."""
    text = files("hemo.reporting.published").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return validated(PublishedTable, yaml.safe_load(text), origin=f"{name}.yaml")


def set_of(row: Row) -> SetName:
    """Return what a trial was trained on."""
    record = row.record
    return record.training_set, record.split, record.classes


def by_set(rows: Iterable[Row]) -> dict[SetName, list[Row]]:
    """Return the trials of each training set, in the order of `rows`."""
    groups: dict[SetName, list[Row]] = defaultdict(list)
    for row in rows:
        groups[set_of(row)].append(row)
    return dict(groups)


def training_set_notes(ours: Mapping[str, Sequence[Row]]) -> list[str]:
    """Return which rows are of which training set, and whether test is the same; nothing for one training set.

    Args:
        ours: Name of a published row -> its trials.
    """
    sets = by_set(row for rows in ours.values() for row in rows)
    if len(sets) < 2:
        return []
    lines = [
        f"{', '.join(name for name, rows in ours.items() if any(set_of(row) == one for row in rows))}: "
        f"training set {one[0]}, split {one[1]}, {_size(rows_of_set)}"
        for one, rows_of_set in sets.items()
    ]
    return [*lines, _test_images_note(list(sets.values()))]


def _test_images_note(sets: Sequence[Sequence[Row]]) -> str:
    first = [next((row.test for row in rows if row.test), None) for rows in sets]
    if None in first:
        return "Not all of these training sets were evaluated on test: their rows cannot be compared with the others"
    if len({test.images for test in first if test}) == 1:
        return "All rows were tested on the same images"
    return "These training sets were tested on different images: compare a row only with its published metrics"


def _size(rows: Sequence[Row]) -> str:
    """Return the numbers of images of a training set and their size, from the trials that ran."""
    ran = [row.record for row in rows if row.record.rows]
    if not ran:
        return "no trial ran"
    counts = ", ".join(f"{split} {images:,}" for split, images in ran[0].rows.items())
    sizes = " and ".join(dict.fromkeys(image_of(record) for record in ran if record.image))
    return f"images of {sizes}: {counts}" if sizes else f"images: {counts}"
