"""One self-contained HTML page with every table and figure of the comparisons; it loads nothing from a server."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from hemo.reporting.comparison import MAX_PLOTTED, Comparison
from hemo.reporting.figures.evaluation import (
    confusion_matrices,
    format_bars,
    roc_and_precision_recall,
)
from hemo.reporting.figures.probabilities import decision_curves, reliability_diagrams
from hemo.reporting.figures.search import best_so_far, importance_bars, parallel_coordinates
from hemo.reporting.figures.training import curves, time_against_accuracy
from hemo.reporting.metric_tables import metric_tables
from hemo.reporting.published.table import PublishedComparison
from hemo.reporting.table_format import Table
from hemo.reporting.trial_table import findings, grid_table, heading, subject
from hemo.sweeps.results import MIN_TRIALS, Search, importance, search_summary, searches_of

TEMPLATE = "page.html.jinja"
OPEN_ROWS = 12
"""Rows up to which a table below the grid is not folded."""
PLOTTED = f"Best trial of each cell evaluated on test, at most {MAX_PLOTTED}; of several classes, the best trial only."


@dataclass(frozen=True)
class PageFigure:
    """A figure of a comparison, or why there is none."""

    name: str  # of its file, without ending
    title: str
    description: str  # how to read it, or why it is missing
    svg: str | None  # made by `hemo.reporting.figures`; inserted without escaping


def page_html(
    title: str,
    comparisons: Sequence[Comparison],
    figures: Mapping[str, Sequence[PageFigure]],
    published: Sequence[PublishedComparison] = (),
    unreadable: Sequence[str] = (),
) -> str:
    """Return the page.

    Args:
        title: Its heading.
        comparisons: In the order of the page.
        figures: Key of a comparison -> its figures.
        published: Published tables beside ours, above all comparisons.
        unreadable: A line for each record that is left out because it cannot be read.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["code_marked"] = code_marked
    template = environment.from_string(files("hemo.reporting").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    above = [_published_part(f"published-{number}", each) for number, each in enumerate(published, 1)]
    below = [_comparison_part(comparison, figures.get(comparison.key, ())) for comparison in comparisons]
    return template.render(title=title, unreadable=unreadable, parts=[*above, *below])


def code_marked(text: str) -> Markup:
    """Return text as HTML: escaped, with what is between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  (escaped)


def _published_part(anchor: str, published: PublishedComparison) -> dict[str, Any]:
    return {
        "anchor": anchor,
        "subject": f"Published: {published.table.caption}",
        "findings": [],
        "heading": published.heading,
        "grid": _table(published.table, anchor),
        "tables": [],
        "figures": [],
    }


def _comparison_part(comparison: Comparison, figures: Sequence[PageFigure]) -> dict[str, Any]:
    key = comparison.key
    return {
        "anchor": key,
        "subject": subject(comparison),
        "findings": findings(comparison),
        "heading": heading(comparison),
        "grid": _table(grid_table(comparison), f"{key}-grid"),
        "tables": [_table(table, f"{key}-{number}") for number, table in enumerate(metric_tables(comparison), 1)],
        "figures": figures,
    }


def _table(table: Table, anchor: str) -> dict[str, Any]:
    """Return a table for the template."""
    marks = table.marks or ("",) * len(table.rows)
    return {
        "anchor": anchor,
        "caption": table.caption,
        "head": table.head,
        "rows": [
            {"mark": mark, "cells": cells, "label": table.highlight if mark == "best" else ""}
            for mark, cells in zip(marks, table.rows, strict=True)
        ],
        "notes": table.notes,
        "open": len(table.rows) <= OPEN_ROWS,
    }


def plot_figures(comparison: Comparison, seed: int) -> list[PageFigure]:
    """Return the figures for which the records have data.

    Args:
        comparison: What to plot.
        seed: Of the random forest behind the importance of settings.
    """
    plotted = [*_of_searches(comparison, seed), *_of_training(comparison), *_of_test(comparison)]
    return [figure for figure in plotted if figure.svg or figure.name.startswith("importance")]


def _of_searches(comparison: Comparison, seed: int) -> Iterator[PageFigure]:
    """Yield the figures of each search; if there are several, with the search in the title."""
    searches = searches_of(comparison.searches)
    if len(searches) == 1:
        yield from _of_search(searches[0], comparison.key, seed)
        return
    for number, search in enumerate(searches, 1):
        for figure in _of_search(search, f"{comparison.key}-{number}", seed):
            title = f"{search.title}: {figure.title[0].lower()}{figure.title[1:]}"
            yield replace(figure, title=title, description=f"{search_summary(search)}. {figure.description}")


def _of_search(search: Search, key: str, seed: int) -> Iterator[PageFigure]:
    yield PageFigure(
        f"search-{key}",
        "Best so far",
        "Values at each trial's lowest validation loss; pruned trials ran fewer epochs.",
        best_so_far(search),
    )
    yield PageFigure(
        f"parallel-{key}",
        "Settings and results",
        "Parallel coordinates: one line for each trial, its result at the right. Equal values are slightly spread.",
        parallel_coordinates(search),
    )
    yield _importance_figure(search, key, seed)


def _importance_figure(search: Search, key: str, seed: int) -> PageFigure:
    name, title = f"importance-{key}", "Importance of settings"
    computed = importance(search, seed)
    if computed is None:
        needs = f"at least {MIN_TRIALS} trials with different results, and two settings"
        return PageFigure(
            name, title, f"Not computed: it needs {needs}; the search has {len(search.trials)} trials.", None
        )
    when = "after their last epoch"
    if computed.epoch is not None:
        when = f"after epoch {computed.epoch}, before which none was pruned"
    description = (
        f"fANOVA of {computed.trials} trials, compared {when}. With so few trials it suggests what to examine next and "
        "proves nothing."
    )
    return PageFigure(name, title, description, importance_bars(computed))


def _of_training(comparison: Comparison) -> Iterator[PageFigure]:
    key = comparison.key
    yield PageFigure(
        f"time-{key}",
        "Training time against accuracy",
        "Train, validation and test accuracy of a trial are on one vertical line.",
        time_against_accuracy(comparison),
    )
    for metric in ("loss", "accuracy"):
        yield PageFigure(
            f"{metric}-{key}",
            f"{metric.capitalize()} by epoch",
            "Train is measured during training, with dropout and augmentation. Validation that departs from train "
            "indicates overfitting.",
            curves(comparison, metric),
        )


def _of_test(comparison: Comparison) -> Iterator[PageFigure]:
    key = comparison.key
    yield PageFigure(
        f"ranking-{key}",
        "ROC and precision-recall curves on test",
        f"{PLOTTED} Precision depends on prevalence.",
        roc_and_precision_recall(comparison),
    )
    yield PageFigure(
        f"confusion-{key}",
        "Confusion matrix on test, normalised by true label",
        f"{PLOTTED} Shade and percentage: fraction of the images with the same true label.",
        confusion_matrices(comparison),
    )
    yield PageFigure(
        f"calibration-{key}",
        "Calibration on test",
        f"{PLOTTED} Bins of equal count with 95 % intervals, patients as the unit. Points below the diagonal: "
        "predicted probabilities are too high; ECE: expected calibration error in these bins.",
        reliability_diagrams(comparison.probabilities),
    )
    yield PageFigure(
        f"decisions-{key}",
        "Decision curves on test",
        f"{PLOTTED} Net benefit, in true positives an image, of acting where the probability is above the threshold, "
        "with 95 % intervals at the stated prevalence. A model helps where it is above both lines.",
        decision_curves(comparison.probabilities),
    )
    yield PageFigure(
        f"formats-{key}",
        "Pixel formats on test",
        "Best trial, with 95 % intervals where there are enough patients.",
        format_bars(comparison),
    )
