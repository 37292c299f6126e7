"""Records to `grid.md`, `grid.csv`, figures and `index.html`."""

from collections.abc import Iterator

from hemo.config.report import ReportConfig
from hemo.storage import join, require_writable, write_bytes
from hemo.study.comparison import Comparison, compared
from hemo.study.figures import curves, time_against_accuracy
from hemo.study.page import PageFigure, page_html
from hemo.study.record import read_records
from hemo.study.tables import csv_text, markdown

TABLE, GRID, PAGE = "grid.md", "grid.csv", "index.html"


def write_report(config: ReportConfig) -> str:
    """Write tables, figures and page below `config.out`, from the records alone.

    Returns:
        Where the page is.

    Raises:
        SourceError: If there are no records, or one cannot be read.
        OutputError: If `config.out` cannot be written.
    """
    records = read_records(config.records)
    require_writable(config.out)
    comparisons = compared(records, config.records, samples=config.bootstrap_samples, seed=config.seed)
    figures = {comparison.key: list(_figures(comparison)) for comparison in comparisons}
    for figure in (figure for group in figures.values() for figure in group):
        _write(join(config.out, "figures", f"{figure.name}.svg"), figure.svg)
    _write(join(config.out, TABLE), markdown(comparisons, config.title))
    _write(join(config.out, GRID), csv_text(comparisons))
    _write(join(config.out, PAGE), page_html(config.title, comparisons, figures))
    return join(config.out, PAGE)


def _figures(comparison: Comparison) -> Iterator[PageFigure]:
    drawn = [
        PageFigure(f"time-{comparison.key}", "Learning time against accuracy", time_against_accuracy(comparison)),
        PageFigure(f"loss-{comparison.key}", "Loss by epoch", curves(comparison, "loss")),
        PageFigure(f"accuracy-{comparison.key}", "Accuracy by epoch", curves(comparison, "accuracy")),
    ]
    return (figure for figure in drawn if figure.svg)


def _write(location: str, text: str) -> None:
    write_bytes(location, text.encode())
