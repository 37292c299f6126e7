"""Records to tables (`grid.md`, `grid.csv`, `grid.tex`, `published.csv`), figures and `index.html`."""

from collections.abc import Iterator, Sequence

from hemo.config.report import ReportConfig
from hemo.output_lock import output_lock
from hemo.reporting.comparison import Comparison, compared
from hemo.reporting.documents import csv_text, latex, markdown, published_csv
from hemo.reporting.page import figures_of_comparison, page_html
from hemo.reporting.published.source import published_table
from hemo.reporting.published.table import Beside, beside
from hemo.storage import join, write_bytes
from hemo.trials.record import read_records

TABLE, GRID, LATEX, PUBLISHED, PAGE = "grid.md", "grid.csv", "grid.tex", "published.csv", "index.html"


def write_report(config: ReportConfig) -> str:
    """Write tables, figures and page below `config.out`, from the records alone.

    Returns:
        Where the page is.

    Raises:
        SourceError: If there are no records, or one cannot be read.
        OutputError: If `config.out` cannot be written, or another run is writing there.
    """
    records = read_records(config.records)
    with output_lock(config.out, ("figures",)):
        comparisons = compared(records, config.records, samples=config.bootstrap_samples, seed=config.seed)
        published = _published(config.published, comparisons)
        figures = {comparison.key: figures_of_comparison(comparison, config.seed) for comparison in comparisons}
        for name, text in _files(config.title, comparisons, published):
            _write(join(config.out, name), text)
        for figure in (figure for group in figures.values() for figure in group if figure.svg):
            _write(join(config.out, "figures", f"{figure.name}.svg"), figure.svg or "")
        _write(join(config.out, PAGE), page_html(config.title, comparisons, figures, published))
    return join(config.out, PAGE)


def _published(names: Sequence[str], comparisons: Sequence[Comparison]) -> list[Beside]:
    rows = [row for comparison in comparisons for row in comparison.rows]
    return [found for name in names for found in beside(published_table(name), rows)]


def _files(title: str, comparisons: Sequence[Comparison], published: Sequence[Beside]) -> Iterator[tuple[str, str]]:
    yield TABLE, markdown(title, comparisons, published)
    yield GRID, csv_text(comparisons)
    yield LATEX, latex(comparisons, published)
    if published:
        yield PUBLISHED, published_csv(published)


def _write(location: str, text: str) -> None:
    write_bytes(location, text.encode())
