"""The counts of a training set as a table for a terminal."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from hemo.curation.card import Count, TrainingSetCard


def count_table(card: TrainingSetCard) -> Table:
    """Return images, patients, positives and pixel formats (rows) after each step and in each split (columns)."""
    table = Table(title=f"training set {card.digest}, split {card.split}", box=SIMPLE_HEAD)
    counts = {**{step.name: step.left for step in card.steps}, **card.splits}
    for heading in ("", *counts):
        table.add_column(heading, justify="right" if heading else "left")
    _add_row(table, "removed", [step.removed for step in card.steps])
    _add_row(table, "images", [count.rows for count in counts.values()])
    _add_row(table, "patients", [count.patients for count in counts.values()])
    for name in card.classes:
        _add_row(table, name, [count.positives[name] for count in counts.values()])
    for name in sorted({name for count in counts.values() for name in count.pixel_formats}):
        _add_row(table, f"format {name}", [_of_format(count, name) for count in counts.values()])
    return table


def _add_row(table: Table, heading: str, numbers: list[int]) -> None:
    table.add_row(heading, *(f"{number:,}" for number in numbers))


def _of_format(count: Count, name: str) -> int:
    return count.pixel_formats.get(name, 0)
