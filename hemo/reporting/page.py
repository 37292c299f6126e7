"""One HTML page that stands alone, with every figure of the comparisons; it asks nothing of any server."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from hemo.reporting.comparison import SHOWN, Comparison
from hemo.reporting.documents import comparison_terms
from hemo.reporting.figures.calibration import reliability_diagrams
from hemo.reporting.figures.confusion import confusion_matrices
from hemo.reporting.figures.formats import format_bars
from hemo.reporting.figures.learning import curves, time_against_accuracy
from hemo.reporting.figures.ranking import roc_and_precision_recall
from hemo.reporting.figures.search import best_so_far, importance_bars, parallel_coordinates
from hemo.reporting.headings import subject
from hemo.reporting.metric_tables import measure_tables
from hemo.reporting.published.table import Beside
from hemo.reporting.table_format import Table
from hemo.reporting.trial_table import grid_table
from hemo.sweeps.results import HANDFUL, Search, importance, in_short, searches_of

TEMPLATE = "page.html.jinja"
UNFOLDED_ROWS = 12
"""Rows up to which a table below the grid is open from the first."""

WHOSE = f"Of the best trials that read test, one of each cell, at most {SHOWN}; of several classes, of the best trial."


@dataclass(frozen=True)
class PageFigure:
    """A figure of a comparison, or why there is none."""

    name: str  # of its file, without ending
    caption: str
    says: str  # how to read it, or why it is missing
    svg: str | None  # made by `hemo.reporting.figures`; goes into the page as it is


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
    template = environment.from_string(files("hemo.reporting").joinpath(TEMPLATE).read_text(encoding="utf-8"))
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


def figures_of_comparison(comparison: Comparison, seed: int) -> list[PageFigure]:
    """Return the figures for which the records have something to draw.

    Args:
        comparison: What to draw.
        seed: Of the forest behind the importance of settings.
    """
    searches = searches_of(comparison.searches)
    searched = [
        figure for number in range(len(searches)) for figure in _of_searches(comparison.key, searches, number, seed)
    ]
    drawn = [*searched, *_of_learning(comparison), *_of_test(comparison)]
    return [figure for figure in drawn if figure.svg or figure.name.startswith("importance")]


def _of_learning(comparison: Comparison) -> Iterator[PageFigure]:
    key = comparison.key
    yield PageFigure(
        f"time-{key}",
        "Learning time against accuracy",
        "A trial's train, validation and test accuracy stand above each other; a line leads to its name.",
        time_against_accuracy(comparison),
    )
    for metric in ("loss", "accuracy"):
        yield PageFigure(
            f"{metric}-{key}",
            f"{metric.capitalize()} by epoch",
            "Measured on train while learning, with dropout and augmentation on; where validation leaves train, "
            "the model learns its training images by heart.",
            curves(comparison, metric),
        )


def _of_test(comparison: Comparison) -> Iterator[PageFigure]:
    key = comparison.key
    yield PageFigure(
        f"ranking-{key}",
        "ROC and precision-recall on test",
        f"{WHOSE} Precision depends on the share of positives.",
        roc_and_precision_recall(comparison),
    )
    yield PageFigure(
        f"confusion-{key}",
        "Confusion on test",
        f"{WHOSE} Rows are the truth, columns what was called; a cell is shaded by its share of the row.",
        confusion_matrices(comparison),
    )
    yield PageFigure(
        f"calibration-{key}",
        "Calibration on test",
        f"{WHOSE} On the diagonal probabilities are honest, below it too high. Bars count the images in each bin, the "
        "number is that of the fullest; ECE: expected calibration error.",
        reliability_diagrams(comparison),
    )
    yield PageFigure(
        f"formats-{key}",
        "Pixel formats on test",
        "Of the best trial, with 95 % intervals by resampling patients.",
        format_bars(comparison),
    )


def _of_searches(key: str, searches: Sequence[Search], number: int, seed: int) -> Iterator[PageFigure]:
    """Yield the figures of one search; of several each says whose it is."""
    search = searches[number]
    if len(searches) == 1:
        yield from _of_search(search, key, seed)
        return
    for figure in _of_search(search, f"{key}-{number + 1}", seed):
        caption = f"{search.title}: {figure.caption[0].lower()}{figure.caption[1:]}"
        yield replace(figure, caption=caption, says=f"{in_short(search)}. {figure.says}")


def _of_search(search: Search, key: str, seed: int) -> Iterator[PageFigure]:
    yield PageFigure(
        f"search-{key}",
        "Best so far",
        "Values are those at each trial's lowest validation loss; stopped trials ran fewer epochs.",
        best_so_far(search),
    )
    yield PageFigure(
        f"parallel-{key}",
        "Settings and results",
        "One line a trial, through its settings to its result at the right; equal values are moved apart.",
        parallel_coordinates(search),
    )
    found = importance(search, seed)
    if found is None:
        count = len(search.trials)
        says = f"Not told: it takes {HANDFUL} trials with different results and two settings; here are {count} trials."
        yield PageFigure(f"importance-{key}", "Importance of settings", says, None)
        return
    when = "in the end" if found.epoch is None else f"after epoch {found.epoch}, which no trial was stopped before"
    yield PageFigure(
        f"importance-{key}",
        "Importance of settings",
        f"Rests on {found.trials} trials, compared {when}. A forest over so few says what to look at, not what is so.",
        importance_bars(found),
    )
