"""The HTML of a page: one file with data, styles, and the scripts of plotly and of DataTables, which itables ships."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from hemo.curation.card import TrainingSetCard, grouping_text, synthetic_images, synthetic_text
from hemo.reporting import elsewhere_tables
from hemo.reporting.cell_tables import cells_table
from hemo.reporting.cells import CellComparison
from hemo.reporting.comparison import Comparison
from hemo.reporting.content import Content
from hemo.reporting.elsewhere import Elsewhere
from hemo.reporting.leak_table import LeaksCard, leak_table
from hemo.reporting.metric_tables import metric_tables
from hemo.reporting.page.data_page import audit_facts, data_page, flow, made, split_boxes
from hemo.reporting.page.data_set import DataSet
from hemo.reporting.page.gallery import NOT_PUBLIC
from hemo.reporting.page.summary import answer, cautions, question
from hemo.reporting.table_format import Table
from hemo.reporting.trial_table import heading, notes, subject

RANKED_ROWS = 10
"""Rows that a ranking has in the summary, at most."""
RANKING = ("cell", "seeds", "AUROC (95 %)", "group", "minus the next (95 %)", "P(not better)")
"""Columns of the cells on test that the summary has; all of them are in the table below."""
MOST_LETTERS = 8
"""Letters of a cell up to which the summary has them."""
MOST_ROWS = 60
"""Rows up to which a table is on the page; longer ones are in `grid.md`."""


@dataclass(frozen=True)
class Live:
    """What a page needs that follows its records."""

    version: str  # of what it shows, as the server states it
    refresh_s: float  # how often it looks


def study_html(title: str, content: Content, live: Live | None = None) -> str:
    """Return the page of the trials; without `live` it loads nothing from a server.

    Args:
        title: Its heading.
        content: What it shows; without comparisons and evaluations, a live page waits for them.
        live: Of a page that follows its records.
    """
    return _page(
        "study",
        title,
        {**content.data, "live": asdict(live) if live else None},
        live=live is not None,
        parts=[_part(comparison) for comparison in content.comparisons],
        published=[
            {"caption": each.table.caption, "heading": each.heading, "table": table_data(each.table)}
            for each in content.published
        ],
        unreadable=content.unreadable,
        elsewhere=[_elsewhere_part(each) for each in content.elsewhere],
    )


def _elsewhere_part(each: Elsewhere) -> dict[str, Any]:
    return {
        "key": each.key,
        "title": elsewhere_tables.title(each),
        "findings": elsewhere_tables.findings(each),
        "heading": elsewhere_tables.heading(each),
        "metrics": table_data(elsewhere_tables.metrics_table(each)),
        "tables": [table_data(table) for table in elsewhere_tables.tables(each)],
        "classes": [found.name for found in elsewhere_tables.diagrams(each)],
    }


def _part(comparison: Comparison) -> dict[str, Any]:
    tables = metric_tables(comparison)
    return {
        "key": comparison.key,
        "subject": subject(comparison),
        "question": question(comparison),
        "answer": answer(comparison),
        "cautions": cautions(comparison),
        "ranking": [table_data(_ranking(comparison.tested), RANKED_ROWS)] if comparison.tested else [],
        "heading": heading(comparison),
        "notes": notes(comparison),
        "tables": [table_data(table) for table in tables if len(table.rows) <= MOST_ROWS],
        "left_out": [table.caption for table in tables if len(table.rows) > MOST_ROWS],
    }


def _ranking(tested: CellComparison) -> Table:
    """Return the cells on test in fewer columns."""
    table = cells_table(tested)
    crowded = any(len(cell.letters) > MOST_LETTERS for cell in tested.cells)
    kept = [index for index, name in enumerate(table.head) if name in RANKING and not (crowded and name == "group")]
    rows = tuple(tuple(row[index] for index in kept) for row in table.rows)
    note = "In the order of validation. Cells that share a letter cannot be told apart; more columns are in the tables."
    if crowded:
        note = "In the order of validation. Cells are too many for letters of those that cannot be told apart."
    return Table("Ranking", tuple(table.head[index] for index in kept), rows, notes=(note,))


def table_data(table: Table, most: int | None = None) -> dict[str, Any]:
    """Return a table for the template, its first `most` rows."""
    marks = table.marks or ("",) * len(table.rows)
    rows = [
        {"mark": mark, "cells": cells, "label": table.highlight if mark == "best" else ""}
        for mark, cells in zip(marks, table.rows, strict=True)
    ]
    left_out = len(rows) - len(rows[:most])
    place = "the table below" if len(rows) <= MOST_ROWS else "grid.md"
    more = (f"{left_out:,} more rows are in {place}.",) if left_out else ()
    return {"caption": table.caption, "head": table.head, "rows": rows[:most], "notes": [*more, *table.notes]}


def data_html(data: DataSet, leaks: LeaksCard | None = None) -> str:
    """Return the page of a training set or of shards, with what leaks are worth; it loads nothing from a server."""
    shown, card = data_page(data), data.card
    curated = card if isinstance(card, TrainingSetCard) else None
    title = (curated.dataset.name or f"Training set {card.digest}") if curated else f"Shards {card.digest}"
    return _page(
        "data",
        title,
        shown,
        flow=flow(data),
        splits=split_boxes(curated) if curated else [],
        findings=_data_findings(data),
        sheets=shown["sheets"],
        not_public="" if data.ids_are_public else NOT_PUBLIC,
        histograms=shown["histograms"],
        audit=audit_facts(curated) if curated and data.ids_are_public else [],
        rejected=shown["rejects"],
        leaks={"conclusions": leaks.conclusions, "table": table_data(leak_table(leaks.rows))} if leaks else None,
        made=list(made(data)),
    )


def _data_findings(data: DataSet) -> list[str]:
    """Return what must not be concluded: of synthetic images, small splits, and patients that are guessed."""
    texts = [synthetic_text(synthetic_images(data.rows["scanner"]))]
    if isinstance(data.card, TrainingSetCard):
        texts += [*(finding.text for finding in data.card.findings), grouping_text(data.card.grouped_by)]
    return [text for text in texts if text]


def _page(kind: str, title: str, data: Mapping[str, Any], *, live: bool = False, **parts: Any) -> str:
    """Return the HTML of the template `kind`; a live page has a script more, and may ask its server."""
    environment = Environment(
        loader=PackageLoader("hemo.reporting.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"code_marked": code_marked, "unbroken": unbroken}
    scripts = ("page", kind, "live") if live else ("page", kind)
    return environment.get_template(f"{kind}.html.jinja").render(
        title=title,
        data=Markup(json_block(data)),  # noqa: S704  (escaped)
        plotly=Markup(_script(_packaged("plotly", "package_data/plotly.min.js"))),  # noqa: S704
        tables_module=Markup(json_block(_packaged("itables", "html/dt_bundle.js"))),  # noqa: S704
        tables_css=Markup(_packaged("itables", "html/dt_bundle.css")),  # noqa: S704
        css=Markup(_packaged("hemo.reporting.page", "page.css")),  # noqa: S704
        scripts=[Markup(_script(_packaged("hemo.reporting.page", f"{name}.js"))) for name in scripts],  # noqa: S704
        live=live,
        **parts,
    )


def json_block(data: Any) -> str:
    """Return data as JSON that may stand in a `script` element: no text in it can end the element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def code_marked(text: str) -> Markup:
    """Return text as HTML: escaped, with what is between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  (escaped)


def unbroken(text: str) -> Markup:
    """Return text as HTML: escaped, with intervals in parentheses, exponents and `3 of 12` each on one line."""
    marked = re.sub(
        r"\([^()]{1,40}\)|[\d.]+e[-+]\d+|\d+ of \d+", r'<span class="unbroken">\g<0></span>', str(escape(text))
    )
    return Markup(marked)  # noqa: S704  (escaped)


@lru_cache
def _packaged(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")


def _script(text: str) -> str:
    """Return a script that an HTML parser reads to its end; the escapes mean the same in texts and patterns."""
    return re.sub(r"</(?=script)", r"<\\/", text, flags=re.IGNORECASE).replace("<!--", r"<\!--")
