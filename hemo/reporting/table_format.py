"""Tables of text cells, numbers formatted for them, and their Markdown, LaTeX and CSV."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hemo.trials.record import TrialRecord, metrics_of

MISSING = "-"
"""Text of a missing value."""

LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"{{{character}}}" for character in "[]*"},  # after the end of a row they would be its options
}


@dataclass(frozen=True)
class Table:
    """Text cells in rows and columns."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marks: tuple[str, ...] = ()  # CSS class of each row: best, complete, pruned, failed, published, difference
    notes: tuple[str, ...] = ()  # sentences below it
    highlight: str = ""  # why a row is marked `best`; stands in its first cell

    @property
    def labelled_rows(self) -> tuple[tuple[str, ...], ...]:
        """The rows, with the reason in the first cell of the highlighted one."""
        marks = self.marks or ("",) * len(self.rows)
        return tuple(
            (f"{row[0]} [{self.highlight}]", *row[1:]) if mark == "best" and self.highlight else row
            for mark, row in zip(marks, self.rows, strict=True)
        )


def number(value: float | None, digits: int = 4, *, signed: bool = False) -> str:
    """Return a number with fixed decimals, `MISSING` for None; one that rounds to zero has no minus.

    Args:
        value: The number.
        digits: Decimals.
        signed: Whether it is a difference, with `+` from zero up.
    """
    return MISSING if value is None else f"{value:{'+' if signed else ''}z.{digits}f}"


def probability_text(value: float) -> str:
    """Return a probability or threshold with three digits that are not 0, and of one near 1 that are not 9."""
    rest = float(f"{min(value, 1 - value):.3g}")  # 1 - 0.9 is a little less than 0.1
    return number(value, min(9, max(3, 2 - math.floor(math.log10(rest)))) if rest > 0 else 3)


def decimals(half_width: float) -> int:
    """Return the decimals that show two significant digits of an interval's half-width, from 2 to 4."""
    return 4 if half_width <= 0 else min(4, max(2, 1 - math.floor(math.log10(half_width))))


def metric(value: float | None, images: int) -> str:
    """Return a metric that has no interval, to the digits that its number of images supports; `MISSING` for None.

    1 / sqrt(images) is the half-width of the interval of a proportion of 0.5 of that many independent images.
    """
    return number(value, decimals(1 / math.sqrt(images)) if images else 2)


def loss_and_accuracy(record: TrialRecord, split: str) -> str:
    """Return `0.351 / 0.872` of a split; `MISSING` where a trial was not evaluated on it."""
    metrics, images = metrics_of(record, split), record.rows.get(split, 0)
    if not metrics:
        return MISSING
    return f"{metric(metrics.get('loss'), images)} / {metric(metrics.get('accuracy'), images)}"


def inline(text: str) -> str:
    """Return text escaped for a line or table of Markdown, without links and images: names are user input."""
    plain = " ".join(text.split()).replace("\\", "\\\\")  # else a backslash in the text would undo the escape of a pipe
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", plain.replace("|", "\\|").replace("](", "]\\("))


def markdown_table(table: Table, *, padded: bool = True) -> str:
    """Return a Markdown table without caption and notes, columns padded to one width unless their texts are long."""
    cells = [list(table.head), *([inline(text) for text in row] for row in table.labelled_rows)]
    widths = [max(len(line[column]) for line in cells) if padded else 0 for column in range(len(table.head))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def latex_text(text: str) -> str:
    """Return text escaped for LaTeX: none of its characters is a command."""
    return "".join(LATEX.get(character, character) for character in " ".join(text.split()))


def latex_table(table: Table) -> str:
    """Return a `table` environment with a plain `tabular`, which needs no package; first column left, others right."""
    lines = [_latex_row(table.head), r"\hline", *(_latex_row(row) for row in table.labelled_rows)]
    notes = [rf"\par\footnotesize {latex_text(note)}" for note in table.notes]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{latex_text(table.caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}",
            r"\hline",
            *lines,
            r"\hline",
            r"\end{tabular}",
            *notes,
            r"\end{table}",
        ]
    )


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(latex_text, cells)) + r" \\"


def csv_table(rows: Sequence[Mapping[str, Any]], head: Sequence[str] = ()) -> str:
    """Return rows as CSV below a head; None is an empty cell.

    Args:
        rows: Column -> value, the same columns each.
        head: Of the columns, where there may be no row.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=head or (list(rows[0]) if rows else []), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _no_formula(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _no_formula(value: Any) -> Any:
    """Return a value that no spreadsheet evaluates: text that begins like a formula gets an apostrophe in front.

    Source:
        OWASP, CSV Injection.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
