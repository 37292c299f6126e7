"""A study sheet: what hemo knows of a study, then three reporting guidelines item by item."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from hemo.config.types import Config
from hemo.reporting import elsewhere_tables
from hemo.reporting.documents.data_facts import DATA_FACTS, flow_table, missing_table, split_table
from hemo.reporting.documents.model_facts import MODEL_FACTS, class_table, format_table, performance_table
from hemo.reporting.documents.study import Study
from hemo.reporting.table_format import Table, inline, markdown_table
from hemo.trials.record import title_of

NOT_RECORDED = "not recorded"

FACTS = {**DATA_FACTS, **MODEL_FACTS}
"""Name of a fact -> function of a study that returns it."""

GUIDELINES = ("claim_2024", "stard_ai_2025", "tripod_ai_2024")
"""Guidelines that a sheet walks, each a file of this package."""


class Item(Config):
    """An item of a guideline."""

    number: str
    section: str
    topic: str  # in our own words
    facts: tuple[str, ...] = ()  # of `FACTS`
    statements: tuple[str, ...] = ()  # fields of `Statements`


class Guideline(Config):
    """A reporting guideline."""

    name: str
    title: str
    source: str
    items: tuple[Item, ...]


@cache
def guideline(name: str) -> Guideline:
    """Return one of `GUIDELINES`."""
    content: Any = yaml.safe_load(
        files("hemo.reporting.documents").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    )
    return Guideline.model_validate(content)


@dataclass(frozen=True)
class Entry:
    """What a study says on an item."""

    item: Item
    stated: tuple[str, ...]  # by the authors
    recorded: tuple[str, ...]  # by hemo

    @property
    def text(self) -> str:
        """The entry for the table."""
        return "; ".join([*(f"Authors: {text}" for text in self.stated), *self.recorded]) or NOT_RECORDED


def entries(study: Study, name: str) -> list[Entry]:
    """Return what a study says on each item of a guideline."""
    return [
        Entry(
            item,
            tuple(text for field in item.statements if (text := getattr(study.statements, field))),
            tuple(text for fact in item.facts if (text := FACTS[fact](study))),
        )
        for item in guideline(name).items
    ]


def study_sheet(study: Study) -> str:
    """Return the sheet of a study as Markdown."""
    parts = list(_parts(study))
    return "\n\n".join(parts) + "\n"


def _parts(study: Study) -> Iterator[str]:
    record = study.record
    yield f"# Study sheet: {inline(study.statements.title or title_of(record))}"
    yield (
        f"From record {record.digest} of training set {record.training_set}, finished "
        f"{record.finished[:10] or 'unknown'}. `Authors:` marks what the authors stated; the rest is from records and "
        "cards. What neither has is `not recorded`. The sheet helps to fill in a guideline; whether an item is met is "
        "for a reader to judge."
    )
    walked = {name: entries(study, name) for name in GUIDELINES}
    yield markdown_table(_coverage(walked))
    for table in _tables(study):
        yield f"## {inline(table.caption)}"
        yield markdown_table(table)
        yield from (f"- {inline(note)}" for note in table.notes)
    for name, found in walked.items():
        known = guideline(name)
        yield f"## {known.name}"
        yield f"{known.title}. {known.source}. Topics in hemo's own words."
        rows = tuple((entry.item.number, entry.item.section, entry.item.topic, entry.text) for entry in found)
        yield markdown_table(Table(known.name, ("item", "section", "topic", "entry"), rows), padded=False)


def _coverage(walked: dict[str, list[Entry]]) -> Table:
    """Return how many items have something from records, from the authors only, or nothing."""
    rows = []
    for name, found in walked.items():
        recorded = sum(bool(entry.recorded) for entry in found)
        stated = sum(bool(entry.stated) and not entry.recorded for entry in found)
        counts = (len(found), recorded, stated, len(found) - recorded - stated)
        rows.append((guideline(name).name, *map(str, counts)))
    return Table(
        "Items", ("guideline", "items with sub-items", "from records", "by the authors only", NOT_RECORDED), tuple(rows)
    )


def _tables(study: Study) -> Iterator[Table]:
    if study.card:
        yield flow_table(study.card)
    yield split_table(study.record)
    if study.card and (missing := missing_table(study.card)):
        yield missing
    yield performance_table(study)
    if by_format := format_table(study):
        yield by_format
    if by_class := class_table(study):
        yield by_class
    for found in study.elsewhere:
        yield elsewhere_tables.metrics_table(found)
        yield from elsewhere_tables.tables(found)
