"""What a published table says: its columns, rows and figures, and what those are worth."""

from importlib.resources import files
from typing import Any, Literal

import yaml

from hemo.config.load import validated
from hemo.config.types import Config


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
    text = files("hemo.study.published").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return validated(PublishedTable, yaml.safe_load(text), origin=f"{name}.yaml")
