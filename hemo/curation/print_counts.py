"""Print the counts of a training set and the findings of its audit as tables and lines."""

from collections.abc import Iterable, Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from hemo.config.curate import LEAKY
from hemo.curation.card import LEVELS, Count, TrainingSetCard, grouping_text, synthetic_text


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
        _add_row(table, f"{name} blank", [count.blanks[name] for count in columns], unless_none=True)
    for level in LEVELS[1:]:
        _add_row(table, f"by {level}", [count.grouped_by.get(level, 0) for count in columns], unless_none=True)
    for name in sorted({name for count in columns for name in count.pixel_formats}):
        _add_row(table, f"format {name}", [count.pixel_formats.get(name, 0) for count in columns])
    return table


def _empty_table(headings: Iterable[str]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _add_row(table: Table, heading: str, numbers: list[int], *, unless_none: bool = False) -> None:
    if any(numbers) or not unless_none:
        table.add_row(heading, *(f"{number:,}" for number in numbers))


def format_table(card: TrainingSetCard) -> Group:
    """Return the fraction of positives by pixel format: where it differs, a model may learn the scanner instead."""
    formats = card.audit["positives_by_pixel_format"]
    table = _empty_table(formats)
    for name in card.classes:
        table.add_row(name, *(_fraction(**counts[name]) for counts in formats.values()))
    return Group("positives among the images of each pixel format that have a label of the class", table)


def _fraction(positive: int, labelled: int) -> str:
    return f"{positive:,} of {labelled:,} ({positive / labelled:.1%})" if labelled else "none"


def finding_lines(card: TrainingSetCard) -> Iterator[str]:
    """Yield a line for each finding on splits, patients and labels."""
    audit = card.audit
    if synthetic := synthetic_text(card.synthetic_images):
        yield synthetic
    yield from (finding.text for finding in card.findings)
    yield from _way_out(card)
    if grouping := grouping_text(card.grouped_by):
        yield grouping
    if audit["studies_of_several_patients"]:
        yield (
            f"{audit['studies_of_several_patients']:,} studies and series have several patient ids: these count as one "
            "patient only where images without id link them"
        )
    if audit["linked_patients"]:
        yield (
            f"{audit['linked_patients']:,} patients are linked by equal pixels, in {audit['linked_groups']:,} groups "
            f"of up to {audit['largest_group_patients']:,}"
        )
    yield from _image_lines(audit)
    for name, what in (
        ("linked_patients", "patients (linked ones count as one)"),
        ("equal_pixels", "groups of equal pixels"),
    ):
        if count := audit[f"{name}_in_two_splits"]:
            yield f"LEAK: {count:,} {what} are in two splits, as {card.split} allows"
    if audit["images_without_labels"]:
        yield f"{audit['images_without_labels']:,} images have no label and are left out"
    if audit["labels_without_images"]:
        yield f"{audit['labels_without_images']:,} labels have no image"
    if stacks := audit.get("stacks"):
        yield (
            f"neighbours: {stacks['stacks']:,} stacks of slices without gaps in {stacks['series']:,} series; "
            f"{stacks['without_neighbour']:,} images have no neighbour"
        )


def _image_lines(audit: dict[str, Any]) -> Iterator[str]:
    """Yield what is known of images that are equal or similar."""
    if audit["equal_pixel_conflicts"]:
        yield (
            f"{audit['equal_pixel_conflicts']:,} of {audit['equal_pixel_groups']:,} groups of equal pixels have "
            "conflicting labels"
        )
    if (similar := audit.get("near_duplicates")) and similar["pairs"]:
        most = f", with the {similar['listed']:,} most similar" if similar["listed"] < similar["pairs"] else ""
        yield (
            f"{similar['pairs']:,} pairs of {similar['images']:,} images of different patients are nearly the same "
            f"(cosine at least {similar['cosine']:g}), {similar['pairs_in_two_splits']:,} of them in two splits: see "
            f"near_duplicates.parquet{most}"
        )


def _way_out(card: TrainingSetCard) -> Iterator[str]:
    """Yield what to do where validation or test has too few patients with, or without, a class."""
    one_label = [finding for finding in card.findings if finding.patients_with or finding.patients_without]
    if card.split in ("by_patient", *LEAKY) and any(finding.split != "train" for finding in one_label):
        yield (
            "--split by_patient_stratified spreads the labels evenly over the splits; if they are still too small, "
            "take larger fractions or more patients"
        )
