"""All comparisons and published tables as one Markdown page, one CSV file of trials, and one LaTeX file of tables."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from hemo.config.report import METRICS
from hemo.reporting.comparison import Comparison
from hemo.reporting.headings import heading, subject
from hemo.reporting.metric_tables import measure_tables
from hemo.reporting.published.table import Beside
from hemo.reporting.table_format import Table, inline, latex_table, markdown_table
from hemo.reporting.trial_row import SPLITS, Row, figures_of
from hemo.reporting.trial_table import grid_table, same_settings
from hemo.stats.intervals import Interval
from hemo.sweeps.trial_changes import flattened


def markdown(title: str, comparisons: Sequence[Comparison], published: Sequence[Beside]) -> str:
    """Return published tables and comparisons as one Markdown page."""
    parts = [f"# {inline(title)}"]
    for beside in published:
        parts += [f"## {inline(beside.table.caption)}", _terms(beside.heading), *_table_parts(beside.table)]
    for comparison in comparisons:
        parts += [f"## {inline(subject(comparison))}", _terms(comparison_terms(comparison))]
        parts += _table_parts(grid_table(comparison))
        for table in measure_tables(comparison):
            parts += [f"### {inline(table.caption)}", *_table_parts(table)]
    return "\n\n".join(parts) + "\n"


def latex(comparisons: Sequence[Comparison], published: Sequence[Beside]) -> str:
    """Return published tables and comparison grids as LaTeX tables to be read in by a document."""
    tables = [beside.table for beside in published]
    for comparison in comparisons:
        grid = grid_table(comparison)
        tables.append(Table(subject(comparison), grid.head, grid.rows, notes=grid.notes))
    return "\n\n".join(map(latex_table, tables)) + "\n"


def csv_text(comparisons: Sequence[Comparison]) -> str:
    """Return every trial of every comparison as one CSV row, figures in full precision, empty where there is none."""
    rows = [_csv_row(row) for comparison in comparisons for row in comparison.rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _uncomputed(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def published_csv(published: Sequence[Beside]) -> str:
    """Return every published figure and ours as one CSV row, in full precision, empty where there is none."""
    pairs = [(beside.table.caption, pair) for beside in published for pair in beside.pairs]
    rows = [
        (title, pair.row, pair.training_set, pair.seeds, pair.figure, pair.published, pair.ours, pair.difference)
        for title, pair in pairs
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("table", "row", "training_set", "seeds", "figure", "published", "ours", "difference"))
    writer.writerows(rows)
    return text.getvalue()


def comparison_terms(comparison: Comparison) -> list[tuple[str, str]]:
    """Return what stands above a comparison as pairs of term and text."""
    return [*heading(comparison), ("The same in all", same_settings(comparison))]


def _terms(terms: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- {term}: {inline(text)}" for term, text in terms)


def _table_parts(table: Table) -> list[str]:
    notes = "\n".join(f"- {inline(note)}" for note in table.notes)
    return [markdown_table(table), *([notes] if notes else [])]


def _csv_row(row: Row) -> dict[str, Any]:
    record, config = row.record, row.record.config
    figures = {f"{split}_{name}": figures_of(record, split).get(name) for split in SPLITS for name in METRICS}
    return {
        **{"name": config.name, "digest": record.digest, "status": record.status, "reason": record.reason},
        **{"training_set": record.training_set, "split": record.split},
        **dict(flattened(config.deciding())),
        **{"parameters": record.parameters, "megabytes": record.megabytes, "latency_ms": record.latency_ms},
        "inference_images_per_second": record.inference_images_per_second,
        "inference_batch_size": record.inference_batch_size,
        **figures,
        **_ends("test_accuracy", row.accuracy),
        **_ends("test_auroc", row.auroc),
        "test_majority_accuracy": row.majority_accuracy,
        **{"best_epoch": record.best_epoch or None, "epochs_run": len(record.epochs)},
        **{"selected_by": record.selected_by, "selected_among": record.selected_among or None},
        **{"learning_time_s": record.seconds, "hardware": record.hardware},
        **{"reductions": "; ".join(record.reductions), "finished": record.finished},
    }


def _uncomputed(value: Any) -> Any:
    """Return a value that no spreadsheet computes: a text that begins as a formula does gets an apostrophe in front.

    Source:
        OWASP, CSV Injection.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    return {f"{name}_low": interval.low if interval else None, f"{name}_high": interval.high if interval else None}
