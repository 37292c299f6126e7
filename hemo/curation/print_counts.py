"""The counts of a training set, and what its audit found, for a terminal."""

from collections.abc import Iterable, Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from hemo.curation.card import Count, TrainingSetCard


def count_tables(card: TrainingSetCard) -> Group:
    """Return images, patients, positives and pixel formats (rows) after each step, then in each split (columns).

    Two tables, so that six classes, five steps and any number of formats fit a terminal of 80 columns.
    """
    steps = _count_table({step.name: step.left for step in card.steps}, card.classes)
    steps.add_row("removed", *(f"{step.removed:,}" for step in card.steps))
    splits = _count_table(card.splits, card.classes)
    return Group(f"training set {card.digest}: what was left after each step", steps, f"split {card.split}", splits)


def _count_table(counts: dict[str, Count], classes: tuple[str, ...]) -> Table:
    """Return one table of counts, a column each."""
    table = _empty_table(counts)
    columns = list(counts.values())
    _add_row(table, "images", [count.rows for count in columns])
    _add_row(table, "patients", [count.patients for count in columns])
    for name in classes:
        _add_row(table, name, [count.positives[name] for count in columns])
    for name in sorted({name for count in columns for name in count.pixel_formats}):
        _add_row(table, f"format {name}", [count.pixel_formats.get(name, 0) for count in columns])
    return table


def _empty_table(headings: Iterable[str]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _add_row(table: Table, heading: str, numbers: list[int]) -> None:
    table.add_row(heading, *(f"{number:,}" for number in numbers))


def format_table(card: TrainingSetCard) -> Group:
    """Return the share of positives by pixel format: where formats differ, a model may read the scanner instead."""
    formats = card.audit["positives_by_pixel_format"]
    table = _empty_table(formats)
    for name in card.classes:
        table.add_row(name, *(_share(found[name], found["rows"]) for found in formats.values()))
    return Group("positives among the labelled images of each pixel format", table)


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})" if whole else "none"


def finding_lines(card: TrainingSetCard) -> Iterator[str]:
    """Yield a line for each thing the audit found; nothing for what it did not."""
    found = card.audit
    if found["linked_patients"]:
        yield (
            f"{found['linked_patients']:,} patients are linked by equal pixels, in {found['linked_groups']:,} groups "
            f"of up to {found['largest_group_patients']:,}"
        )
    if found["equal_pixel_conflicts"]:
        yield (
            f"{found['equal_pixel_conflicts']:,} of {found['equal_pixel_groups']:,} groups of equal pixels have "
            "labels that contradict each other"
        )
    for name, what in (
        ("linked_patients", "patients (linked ones count as one)"),
        ("equal_pixels", "groups of equal pixels"),
    ):
        if torn := found[f"{name}_in_two_splits"]:
            yield f"LEAK: {torn:,} {what} stand in two splits, as {card.split} allows"
    if found["images_without_labels"]:
        yield f"{found['images_without_labels']:,} images have no label and are left out"
    if found["labels_without_images"]:
        yield f"{found['labels_without_images']:,} labels have no image"
    if constant := found["constant_in_train"]:
        yield f"in train, {', '.join(constant)} never varies: nothing can be learnt of it"
