"""Records to a report: `grid.md`, `grid.csv`, `grid.tex`, `pairs.csv`, `published.csv` and `index.html`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hemo.config.report import ReportConfig
from hemo.config.tune import flattened
from hemo.output_lock import output_lock
from hemo.reporting import elsewhere_tables
from hemo.reporting.cell_tables import cells_table, pair_rows
from hemo.reporting.comparison import Comparison
from hemo.reporting.content import read_content
from hemo.reporting.elsewhere import Elsewhere
from hemo.reporting.leak_table import read_leaks
from hemo.reporting.metric_tables import metric_tables
from hemo.reporting.page.data_set import DataSet, read_data_set
from hemo.reporting.page.render import data_html, study_html
from hemo.reporting.published.table import PublishedComparison
from hemo.reporting.table_format import Table, csv_table, inline, latex_table, markdown_table
from hemo.reporting.trial_row import SPLITS, Row, interval_ends
from hemo.reporting.trial_table import findings, grid_table, heading, subject
from hemo.storage import join, write_bytes
from hemo.training.results import METRICS
from hemo.trials.record import metrics_of

TABLE, GRID, LATEX, PAGE = "grid.md", "grid.csv", "grid.tex", "index.html"
DATA_PAGE = "data.html"
PAIRS, PUBLISHED, EVALUATIONS = "pairs.csv", "published.csv", "evaluations.csv"


def write_report(config: ReportConfig) -> str:
    """Write tables and page below `config.out`, from the records alone; `data.html` from a data set.

    Returns:
        Path of the page.

    Raises:
        SourceError: If there are no records, or none can be read; likewise of the data.
        ConfigError: If a prevalence is given of a class that no trial has.
        OutputError: If `config.out` cannot be written, or another run is writing there.
    """
    files: dict[str, str] = {}
    data = read_data_set(config.data) if config.data else None
    if data:
        files[DATA_PAGE] = data_html(data, read_leaks(config.leaks, data.card.digest) if config.leaks else None)
    if config.records:
        files |= _of_records(config, data)
    with output_lock(config.out):
        for name, text in files.items():
            write_bytes(join(config.out, name), text.encode())
    return join(config.out, PAGE if config.records else DATA_PAGE)


def _of_records(config: ReportConfig, data: DataSet | None) -> dict[str, str]:
    """Return the files of a report: path below `config.out` -> text."""
    content = read_content(config, data)
    comparisons, published, elsewhere = content.comparisons, content.published, content.elsewhere
    return {
        TABLE: markdown(config.title, comparisons, published, content.unreadable, elsewhere),
        GRID: csv_text(comparisons),
        **({EVALUATIONS: evaluations_csv(elsewhere)} if elsewhere else {}),
        LATEX: latex(comparisons, published),
        **({PAIRS: pairs} if (pairs := pairs_csv(comparisons)) else {}),
        **({PUBLISHED: published_csv(published)} if published else {}),
        PAGE: study_html(config.title, content),
    }


def markdown(
    title: str,
    comparisons: Sequence[Comparison],
    published: Sequence[PublishedComparison],
    unreadable: Sequence[str] = (),
    elsewhere: Sequence[Elsewhere] = (),
) -> str:
    """Return published tables, comparisons and evaluations as one Markdown page; unreadable records in lines above."""
    parts = [f"# {inline(title)}", *(inline(line) for line in unreadable)]
    parts += [f"**{inline(text)}** ({inline(subject(each))})" for each in comparisons for text in findings(each)]
    parts += [f"**{inline(text)}**" for found in elsewhere for text in elsewhere_tables.findings(found)]
    for each in published:
        parts += [f"## {inline(each.table.caption)}", _terms(each.heading), *_table_parts(each.table)]
    for comparison in comparisons:
        parts += [f"## {inline(subject(comparison))}", _terms(heading(comparison))]
        parts += _table_parts(grid_table(comparison))
        for table in metric_tables(comparison):
            parts += [f"### {inline(table.caption)}", *_table_parts(table)]
    return "\n\n".join([*parts, *map(evaluation_markdown, elsewhere)]).rstrip() + "\n"


def evaluation_markdown(found: Elsewhere) -> str:
    """Return heading and tables of an evaluation as a part of a Markdown page."""
    first = elsewhere_tables.metrics_table(found)
    parts = [f"## Evaluated elsewhere: {inline(first.caption)}", _terms(elsewhere_tables.heading(found))]
    parts += _table_parts(first)
    for table in elsewhere_tables.tables(found):
        parts += [f"### {inline(table.caption)}", *_table_parts(table)]
    return "\n\n".join(parts)


def _terms(terms: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- {term}: {inline(text)}" for term, text in terms)


def _table_parts(table: Table) -> list[str]:
    notes = "\n".join(f"- {inline(note)}" for note in table.notes)
    return [markdown_table(table), *([notes] if notes else [])]


def latex(comparisons: Sequence[Comparison], published: Sequence[PublishedComparison]) -> str:
    """Return published tables, grids and cells on test as LaTeX tables, to be included in a document."""
    tables = [each.table for each in published]
    for comparison in comparisons:
        grid = grid_table(comparison)
        tables.append(replace(grid, caption=subject(comparison)))
        if comparison.tested:
            cells = cells_table(comparison.tested, comparison.order)
            tables.append(replace(cells, caption=f"{cells.caption}: {subject(comparison)}"))
    return "\n\n".join(map(latex_table, tables)) + "\n"


def csv_text(comparisons: Sequence[Comparison]) -> str:
    """Return every trial of every comparison as one CSV row, metrics in full precision, empty where not defined."""
    return csv_table([_csv_row(row, comparison) for comparison in comparisons for row in comparison.rows])


def pairs_csv(comparisons: Sequence[Comparison]) -> str:
    """Return every pair of cells that were evaluated on test as one CSV row; empty without a pair."""
    rows = [
        {"training_set": comparison.first.training_set, "comparison": comparison.key, **row}
        for comparison in comparisons
        if comparison.tested
        for row in pair_rows(comparison.tested)
    ]
    return csv_table(rows) if rows else ""


def evaluations_csv(elsewhere: Sequence[Elsewhere]) -> str:
    """Return every part of every evaluation as one CSV row, metrics in full precision, empty where not defined."""
    return csv_table([row for each in elsewhere for row in elsewhere_tables.csv_rows(each)])


def _csv_row(row: Row, comparison: Comparison) -> dict[str, Any]:
    record, config, test = row.record, row.record.config, row.test
    choice = next((each for each in comparison.choices if each.record is record), None)
    metrics = {f"{split}_{name}": metrics_of(record, split).get(name) for split in SPLITS for name in METRICS}
    return {
        **{"name": config.name, "digest": record.digest, "status": record.status, "reason": record.reason},
        **{"training_set": record.training_set, "split": record.split},
        "external": record.external,
        **{key: record.settings.get(key) for key, _ in flattened(config.deciding())},
        **{"parameters": record.parameters, "megabytes": record.megabytes, "latency_ms": record.latency_ms},
        "inference_images_per_second": record.inference_images_per_second,
        "inference_batch_size": record.inference_batch_size,
        **metrics,
        **interval_ends("test_accuracy", test.accuracy if test else None),
        "test_balanced_accuracy": test.balanced_accuracy.value if test and test.balanced_accuracy else None,
        **interval_ends("test_balanced_accuracy", test.balanced_accuracy if test else None),
        **interval_ends("test_auroc", test.auroc if test else None),
        "test_group": comparison.letters.get(record.digest),
        "test_majority_accuracy": test.majority_accuracy if test else None,
        "test_images": test.image_count if test else None,
        "test_patients": test.patient_count if test else None,
        "chosen_by": choice.metric if choice else None,
        "chosen_value_corrected": choice.corrected if choice else None,
        **{"best_epoch": record.best_epoch or None, "epochs_run": len(record.epochs)},
        **{"selected_by": record.selected_by, "selected_among": record.selected_among or None},
        **{"training_time_s": record.seconds, "hardware": record.hardware},
        **{"reductions": "; ".join(record.reductions), "finished": record.finished},
    }


PUBLISHED_COLUMNS = ("table", "row", "training_set", "seeds", "metric", "published", "ours", "difference")


def published_csv(published: Sequence[PublishedComparison]) -> str:
    """Return every published metric beside ours as one CSV row, in full precision, empty where there is none."""
    rows = []
    for each in published:
        for pair in each.pairs:
            values = (pair.metric, pair.published, pair.ours, pair.difference)
            cells = (each.table.caption, pair.row, pair.training_set, pair.seeds, *values)
            rows.append(dict(zip(PUBLISHED_COLUMNS, cells, strict=True)))
    return csv_table(rows, PUBLISHED_COLUMNS)
