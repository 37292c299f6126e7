"""The counts of a training set as a table for a terminal."""

from rich.table import Table

from hemo.curation.card import Count, TrainingSetCard


def count_table(card: TrainingSetCard) -> Table:
    """Return rows, patients, positives and pixel formats after each step and in each split."""
    table = Table(title=f"training set {card.digest}, split {card.split}")
    formats = sorted({name for step in card.steps for name in step.left.pixel_formats})
    table.add_column("step")
    for heading in ("removed", "images", "patients", *card.classes, *formats):
        table.add_column(heading, justify="right")
    for step in card.steps:
        table.add_row(step.name, f"{step.removed:,}", *_cells(step.left, card.classes, formats))
    table.add_section()
    for split, count in card.splits.items():
        table.add_row(split, "", *_cells(count, card.classes, formats))
    return table


def _cells(count: Count, classes: tuple[str, ...], formats: list[str]) -> list[str]:
    numbers = [count.rows, count.patients, *(count.positives[name] for name in classes)]
    return [f"{number:,}" for number in [*numbers, *(count.pixel_formats.get(name, 0) for name in formats)]]
