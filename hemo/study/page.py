"""One HTML page that stands alone: tables, figures and what they rest on. It asks nothing of any server."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from hemo.study.comparison import Comparison
from hemo.study.documents import comparison_terms
from hemo.study.headings import subject
from hemo.study.markup import Table
from hemo.study.measures import measure_tables
from hemo.study.published.table import Beside
from hemo.study.tables import grid_table

TEMPLATE = "page.html.jinja"
UNFOLDED_ROWS = 12
"""Rows up to which a table below the grid is open from the first."""


@dataclass(frozen=True)
class PageFigure:
    """A figure of a comparison, or why there is none."""

    name: str  # of its file, without ending
    caption: str
    says: str  # how to read it, or why it is missing
    svg: str | None  # made by `hemo.study.figures`; goes into the page as it is


def page_html(
    title: str,
    comparisons: Sequence[Comparison],
    figures: Mapping[str, Sequence[PageFigure]],
    published: Sequence[Beside] = (),
) -> str:
    """Return the page.

    Args:
        title: Its heading.
        comparisons: What it shows, in order.
        figures: Key of a comparison -> its figures.
        published: Published tables beside ours, above all comparisons.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["marked_up"] = marked_up
    template = environment.from_string(files("hemo.study").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    above = [_published_part(f"published-{number}", beside) for number, beside in enumerate(published, 1)]
    below = [_part(comparison, figures.get(comparison.key, ())) for comparison in comparisons]
    return template.render(title=title, parts=[*above, *below])


def marked_up(text: str) -> Markup:
    """Return a sentence as HTML: escaped, and what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _published_part(anchor: str, beside: Beside) -> dict[str, Any]:
    return {
        "anchor": anchor,
        "subject": f"Published: {beside.table.caption}",
        "heading": beside.heading,
        "grid": _shown(beside.table, anchor),
        "tables": [],
        "figures": [],
    }


def _part(comparison: Comparison, figures: Sequence[PageFigure]) -> dict[str, Any]:
    key = comparison.key
    tables = [_shown(table, f"{key}-{number}") for number, table in enumerate(measure_tables(comparison), 1)]
    return {
        "anchor": key,
        "subject": subject(comparison),
        "heading": comparison_terms(comparison),
        "grid": _shown(grid_table(comparison), f"{key}-grid"),
        "tables": tables,
        "figures": figures,
    }


def _shown(table: Table, anchor: str) -> dict[str, Any]:
    """Return a table for the template; a row without a mark has none."""
    marks = table.marks or ("",) * len(table.rows)
    return {
        "anchor": anchor,
        "caption": table.caption,
        "head": table.head,
        "rows": [{"mark": mark, "cells": cells} for mark, cells in zip(marks, table.rows, strict=True)],
        "notes": table.notes,
        "open": len(table.rows) <= UNFOLDED_ROWS,
    }
