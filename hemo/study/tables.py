"""The comparison grid as Markdown that reads well in a terminal, and as CSV in full precision."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

from hemo.config.metrics import METRICS
from hemo.config.trial import TrialConfig
from hemo.study.comparison import Comparison, Row, figures_of, title_of
from hemo.study.headings import heading, subject
from hemo.study.intervals import Interval
from hemo.study.overrides import flattened, varying
from hemo.study.record import TrialRecord
from hemo.study.spread import seed_spreads

MISSING = "-"
NAME = "trial"

Cell = Callable[[Row], str]

HEADS = {"model.dense_width": "dense", "training.batch_size": "batch", "training.epochs": "epochs at most"}
"""Dotted setting -> what heads its column; others by the last part of their name."""
SAID_ABOVE = ("task", "target")
"""Settings that a comparison's title tells."""
DEFAULTS = dict(flattened(TrialConfig().deciding()))

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
    keys = _varying(comparison)
    settings = [dict(flattened(row.record.config.deciding())) for row in comparison.rows]
    rows = [
        [title_of(row.record), *(_value(values[key]) for key in keys), *(cell(row) for cell in FIGURES.values())]
        for row, values in zip(comparison.rows, settings, strict=True)
    ]
    return [NAME, *(_head(key) for key in keys), *FIGURES], rows


def same_settings(comparison: Comparison) -> str:
    """Return the settings that no trial changes, as one line, without what is off unless it is turned on."""
    told = (*SAID_ABOVE, *_varying(comparison))
    values = {key: value for key, value in flattened(comparison.first.config.digested()) if key not in told}
    return ", ".join(f"{_head(key)} {_value(value)}" for key, value in values.items() if not _is_off(key, value))


def format_table(comparison: Comparison) -> tuple[list[str], list[list[str]]] | None:
    """Return head and rows of the best trial's test figures by pixel format; None where there are no two formats."""
    if comparison.best is None or not comparison.best.by_format:
        return None
    rows = [
        [
            group.pixel_format,
            f"{group.images:,}",
            f"{group.positive:.4f}",
            f"{group.accuracy:.4f}",
            MISSING if group.auroc is None else f"{group.auroc:.4f}",
        ]
        for group in comparison.best.by_format
    ]
    return ["pixel format", "test images", "share positive", "test acc", "test AUROC"], rows


def format_caption(comparison: Comparison) -> str:
    """Return what stands above `format_table`."""
    name = title_of(comparison.best.record) if comparison.best else ""
    return f"{name} by pixel format: where the share of positives differs, a model may have learned the format"


def _varying(comparison: Comparison) -> list[str]:
    return [key for key in varying([row.record.config for row in comparison.rows]) if key not in SAID_ABOVE]


def _head(key: str) -> str:
    return HEADS.get(key, key.rsplit(".", 1)[-1].replace("_", " "))


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _is_off(key: str, value: Any) -> bool:
    """Tell whether a setting is one that is off by default, such as an augmentation, and still is."""
    return isinstance(value, float | bool) and not value and value == DEFAULTS[key]


ORDER = "Rows by validation loss, best first."


def notes(comparison: Comparison) -> list[str]:
    """Return what must be said below a table: order, where test was read, seeds, and why trials failed or stopped."""
    reasons = [
        f"{title_of(row.record)} {row.record.status}: {row.record.reason or 'no reason recorded'}"
        for row in comparison.rows
        if row.record.status != "complete"
    ]
    return [ORDER, *_test_read(comparison), *seed_spreads(comparison), *reasons, *_threshold(comparison)]


def _threshold(comparison: Comparison) -> list[str]:
    """Say at which threshold accuracies are, where there is one: they differ from those told epoch by epoch, at 0.5."""
    if comparison.rows[0].record.config.task == "multi_class":
        return []
    return ["Accuracies are at each class's threshold of best balanced accuracy on validation; those of epochs at 0.5."]


def _test_read(comparison: Comparison) -> list[str]:
    """Say for how many trials test was read, where it was not for all."""
    complete = [row.record for row in comparison.rows if row.record.status == "complete"]
    read = sum("test" in record.metrics for record in complete)
    chosen = sum(bool(record.selected_by) for record in complete)
    again = f" The search went on and chose {chosen} times." if chosen > 1 else ""
    if read == len(complete):
        return [again.strip()] if again else []
    return [f"The test split was read for {read} of {len(complete)} complete trials; the others show `-`.{again}"]


def markdown(comparisons: Sequence[Comparison], title: str) -> str:
    """Return all comparisons as one Markdown page."""
    parts = [f"# {_inline(title)}"]
    for comparison in comparisons:
        parts.append(f"## {_inline(subject(comparison))}")
        lines = [*heading(comparison), ("The same in all", same_settings(comparison))]
        parts.append("\n".join(f"- {term}: {_inline(text)}" for term, text in lines))
        parts.append(_aligned(*grid_table(comparison)))
        by_format = format_table(comparison)
        if by_format:
            parts.extend([f"{_inline(format_caption(comparison))}:", _aligned(*by_format)])
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
        f"{split}_{name}": figures_of(record, split).get(name) for split in ("train", "val", "test") for name in METRICS
    }
    return {
        **{"name": config.name, "digest": record.digest, "status": record.status, "reason": record.reason},
        **{"training_set": record.training_set, "split": record.split},
        **dict(flattened(config.deciding())),
        "parameters": record.parameters,
        **figures,
        **_ends("test_accuracy", row.accuracy),
        **_ends("test_auroc", row.auroc),
        "test_majority_accuracy": row.majority_accuracy,
        **{"best_epoch": record.best_epoch or None, "epochs_run": len(record.epochs)},
        **{"selected_by": record.selected_by, "selected_among": record.selected_among or None},
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
