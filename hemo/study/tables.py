"""The comparison grid as Markdown that reads well in a terminal, and as CSV in full precision."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

from hemo.study.comparison import Comparison, Row, figures_of, title_of
from hemo.study.headings import heading, subject
from hemo.study.intervals import Interval
from hemo.study.record import TrialRecord

MISSING = "-"
NAME = "trial"

Cell = Callable[[Row], str]

SETTINGS: dict[str, Cell] = {
    "backbone": lambda row: row.record.config.model.backbone,
    "weights": lambda row: row.record.config.model.weights,
    "pooling": lambda row: row.record.config.model.pooling,
    "hidden layers": lambda row: str(row.record.config.model.hidden_layers),
    "dense": lambda row: str(row.record.config.model.dense_width),
    "dropout": lambda row: f"{row.record.config.model.dropout:g}",
    "learning rate": lambda row: f"{row.record.config.training.learning_rate:.3g}",
    "batch": lambda row: str(row.record.config.training.batch_size),
    "epochs at most": lambda row: str(row.record.config.training.epochs),
    "seed": lambda row: str(row.record.config.seed),
}
"""Settings of a trial: a column where they differ between trials, else said once."""

FIGURES: dict[str, Cell] = {
    "train loss / acc": lambda row: _loss_and_accuracy(row, "train"),
    "val loss / acc": lambda row: _loss_and_accuracy(row, "val"),
    "test loss / acc": lambda row: _loss_and_accuracy(row, "test"),
    "test acc 95 %": lambda row: f"{row.accuracy.low:.3f}-{row.accuracy.high:.3f}" if row.accuracy else MISSING,
    "test AUROC": lambda row: _metric(row, "test", "auroc"),
    "AUROC 95 %": lambda row: f"{row.auroc.low:.3f}-{row.auroc.high:.3f}" if row.auroc else MISSING,
    "best epoch": lambda row: (
        f"{row.record.best_epoch} of {len(row.record.epochs)}" if row.record.best_epoch else MISSING
    ),
    "learning time": lambda row: hours(row.record.seconds) if row.record.epochs else MISSING,
    "parameters": lambda row: f"{row.record.parameters:,}" if row.record.parameters else MISSING,
    "status": lambda row: row.record.status,
}


def hours(seconds: float) -> str:
    """Return a duration as `h:mm:ss`, rounded to whole seconds."""
    minutes, whole = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{whole:02d}"


def grid_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of a comparison grid as text; only settings that differ have a column."""
    differing = {head: cell for head, cell in SETTINGS.items() if len({cell(row) for row in comparison.rows}) > 1}
    columns: dict[str, Cell] = {NAME: lambda row: title_of(row.record), **differing, **FIGURES}
    return list(columns), [[cell(row) for cell in columns.values()] for row in comparison.rows]


def same_settings(comparison: Comparison) -> str:
    """Return the settings that no trial changes, as one line."""
    values = {head: {cell(row) for row in comparison.rows} for head, cell in SETTINGS.items()}
    return ", ".join(f"{head} {next(iter(seen))}" for head, seen in values.items() if len(seen) == 1)


def notes(comparison: Comparison) -> list[str]:
    """Return what must be said below a table: why trials failed or were pruned, and what was not read."""
    reasons = [
        f"{title_of(row.record)} {row.record.status}: {row.record.reason or 'no reason recorded'}"
        for row in comparison.rows
        if row.record.status != "complete"
    ]
    unread = any(row.record.status == "complete" and "test" not in row.record.metrics for row in comparison.rows)
    order = "Rows by validation loss, best first."
    chosen = ["A search reads the test split for the chosen trial alone; the others show `-`."] if unread else []
    return [order, *chosen, *reasons]


def markdown(comparisons: Sequence[Comparison], title: str) -> str:
    """Return all comparisons as one Markdown page."""
    parts = [f"# {_inline(title)}"]
    for comparison in comparisons:
        parts.append(f"## {_inline(subject(comparison))}")
        lines = [*heading(comparison), ("The same in all", same_settings(comparison))]
        parts.append("\n".join(f"- {term}: {_inline(text)}" for term, text in lines))
        parts.append(_aligned(*grid_table(comparison)))
        parts.append("\n".join(f"- {_inline(note)}" for note in notes(comparison)))
    return "\n\n".join(parts) + "\n"


def csv_text(comparisons: Sequence[Comparison]) -> str:
    """Return every trial of every comparison as one CSV row, figures in full precision, empty where there is none."""
    rows = [_csv_row(row) for comparison in comparisons for row in comparison.rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _loss_and_accuracy(row: Row, split: str) -> str:
    return (
        f"{_metric(row, split, 'loss')} / {_metric(row, split, 'accuracy')}"
        if figures_of(row.record, split)
        else MISSING
    )


def _metric(row: Row, split: str, name: str) -> str:
    value = figures_of(row.record, split).get(name)
    return MISSING if value is None else f"{value:.4f}"


def _inline(text: str) -> str:
    """Return text that cannot break a Markdown line or table: names are the user's own words."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with columns padded to one width."""
    cells = [list(head), *([_inline(text) for text in row] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _csv_row(row: Row) -> dict[str, Any]:
    record, config = row.record, row.record.config
    figures = {
        f"{split}_{name}": figures_of(record, split).get(name)
        for split in ("train", "val", "test")
        for name in ("loss", "accuracy", "auroc")
    }
    return {
        **{"name": config.name, "digest": record.digest, "status": record.status, "reason": record.reason},
        **{"training_set": record.training_set, "split": record.split, "task": config.task, "target": config.target},
        **config.model.model_dump(),
        **config.training.model_dump(),
        **{"seed": config.seed, "parameters": record.parameters},
        **figures,
        **_ends("test_accuracy", row.accuracy),
        **_ends("test_auroc", row.auroc),
        "test_majority_accuracy": row.majority_accuracy,
        **{"best_epoch": record.best_epoch or None, "epochs_run": len(record.epochs)},
        **{"learning_time_s": record.seconds, "hardware": record.hardware},
        **{"reductions": "; ".join(record.reductions), "finished": record.finished},
    }


def _ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    return {f"{name}_low": interval.low if interval else None, f"{name}_high": interval.high if interval else None}


def summary(records: Sequence[TrialRecord]) -> str:
    """Return a short table of trials that ended, without intervals."""
    head = [NAME, "val loss / acc", "test loss / acc", "status"]
    rows = [Row(record) for record in records]
    return _aligned(head, [[title_of(row.record), *(FIGURES[column](row) for column in head[1:])] for row in rows])
