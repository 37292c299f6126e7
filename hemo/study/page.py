"""One HTML page that stands alone: tables, figures and what they rest on. It asks nothing of any server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from hemo.study.comparison import Comparison
from hemo.study.headings import heading, subject
from hemo.study.tables import format_caption, format_table, grid_table, notes, same_settings

TEMPLATE = "page.html.jinja"


@dataclass(frozen=True)
class PageFigure:
    """A figure of a comparison."""

    name: str  # of its file, without ending
    caption: str
    svg: str  # made by `hemo.study.figures`; goes into the page as it is


def page_html(title: str, comparisons: Sequence[Comparison], figures: Mapping[str, Sequence[PageFigure]]) -> str:
    """Return the page.

    Args:
        title: Its heading.
        comparisons: What it shows, in order.
        figures: Key of a comparison -> its figures.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(files("hemo.study").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        title=title, parts=[_part(comparison, figures.get(comparison.key, ())) for comparison in comparisons]
    )


def _part(comparison: Comparison, figures: Sequence[PageFigure]) -> dict[str, Any]:
    head, rows = grid_table(comparison)
    marks = ["best" if row is comparison.best else row.record.status for row in comparison.rows]
    by_format = format_table(comparison)
    return {
        "subject": subject(comparison),
        "heading": [*heading(comparison), ("The same in all", same_settings(comparison))],
        "head": head,
        "rows": [{"mark": mark, "cells": cells} for mark, cells in zip(marks, rows, strict=True)],
        "by_format": by_format and {"caption": format_caption(comparison), "head": by_format[0], "rows": by_format[1]},
        "notes": notes(comparison),
        "figures": figures,
    }
