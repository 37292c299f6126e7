"""The table of trials: what each changed, what it reached, and how far seeds alone lie apart."""

from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import Any

from hemo.config.trial import TrialConfig
from hemo.reporting.cells import Cell
from hemo.reporting.comparison import Comparison
from hemo.reporting.table_format import MISSING, Table, hours, markdown_table, number
from hemo.reporting.trial_row import Row, figures_of
from hemo.sweeps.trial_changes import flattened, varying
from hemo.trials.record import TrialRecord, title_of

NAME = "trial"

Text = Callable[[Row], str]

SIDE = "model.side_px"
HEADS = {
    SIDE: "side (px)",
    "model.dense_width": "dense",
    "training.batch_size": "batch",
    "training.epochs": "epochs at most",
}
"""Dotted setting -> what heads its column; others by the last part of their name."""
SAID_ABOVE = ("task", "target")
"""Settings that a comparison's title tells."""
DEFAULTS = dict(flattened(TrialConfig().deciding()))

NEUTRAL = (
    "model.head",
    "model.side_px",
    "training.accumulation",
    "training.freeze_epochs",
    "training.layer_decay",
    "training.sync_batch_norm",
    "augment.strength",
)
"""Settings whose default changes nothing, though it is not 0."""

FIGURES: dict[str, Text] = {
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
    "size (MB)": lambda row: number(row.record.megabytes, 1),
    "latency (ms)": lambda row: number(row.record.latency_ms, 1),
    "throughput (images/s)": lambda row: number(row.record.inference_images_per_second, 0),
    "status": lambda row: row.record.status,
}
MEASURED_IN_THE_END = ("size (MB)", "latency (ms)", "throughput (images/s)")
"""Figures that have a column only where some record has them."""
ORDER = "Rows by validation loss, best first."

SPREAD_METRICS = (
    ("val", "loss", "validation loss"),
    ("test", "accuracy", "test accuracy"),
    ("test", "auroc", "test AUROC"),
)


def grid_table(comparison: Comparison) -> Table:
    """Return a comparison grid; only settings that differ have a column."""
    keys = _varying(comparison)
    settings = [_settings(row) for row in comparison.rows]
    figures = _figures(comparison)
    rows = tuple(
        (title_of(row.record), *(setting_text(values[key]) for key in keys), *(text(row) for text in figures.values()))
        for row, values in zip(comparison.rows, settings, strict=True)
    )
    marks = tuple("best" if row is comparison.best else row.record.status for row in comparison.rows)
    head = (NAME, *(setting_name(key) for key in keys), *figures)
    return Table("Trials", head, rows, marks, tuple(notes(comparison)))


def _settings(row: Row) -> dict[str, Any]:
    """Return a trial's settings by their dotted names."""
    settings = dict(flattened(row.record.config.deciding()))
    return {**settings, SIDE: settings[SIDE] or "as stored"}


def _figures(comparison: Comparison) -> dict[str, Text]:
    """Return the columns of figures; of what is measured in the end only what some record has."""
    rows = comparison.rows
    return {
        name: text
        for name, text in FIGURES.items()
        if name not in MEASURED_IN_THE_END or any(text(row) != MISSING for row in rows)
    }


def _loss_and_accuracy(row: Row, split: str) -> str:
    return (
        f"{_metric(row, split, 'loss')} / {_metric(row, split, 'accuracy')}"
        if figures_of(row.record, split)
        else MISSING
    )


def _metric(row: Row, split: str, name: str) -> str:
    return number(figures_of(row.record, split).get(name))


def same_settings(comparison: Comparison) -> str:
    """Return the settings that no trial changes, as one line, without what is off unless it is turned on."""
    told = (*SAID_ABOVE, *_varying(comparison))
    values = {key: value for key, value in flattened(comparison.first.config.deciding()) if key not in told}
    return ", ".join(
        f"{setting_name(key)} {setting_text(value)}" for key, value in values.items() if not _is_off(key, value)
    )


def setting_name(key: str) -> str:
    """Return what a dotted setting is called in tables and figures."""
    return HEADS.get(key, key.rsplit(".", 1)[-1].replace("_", " "))


def setting_text(value: Any) -> str:
    """Return a setting's value as text."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _varying(comparison: Comparison) -> list[str]:
    return [key for key in varying([row.record.config for row in comparison.rows]) if key not in SAID_ABOVE]


def _is_off(key: str, value: Any) -> bool:
    """Return whether a setting is one that is off by default, such as an augmentation, and still is."""
    off = key in NEUTRAL or (isinstance(value, float | bool) and not value)
    return off and value == DEFAULTS[key]


def notes(comparison: Comparison) -> list[str]:
    """Return what must be said below a table: order, where test was read, seeds, and why trials failed or stopped."""
    reasons = [
        f"{title_of(row.record)} {row.record.status}: {row.record.reason or 'no reason recorded'}"
        for row in comparison.rows
        if row.record.status != "complete"
    ]
    return [
        *(ORDER, *_test_read(comparison), *seed_spreads(comparison), *reasons, *_threshold(comparison)),
        *_speed_measured(comparison),
    ]


def _threshold(comparison: Comparison) -> list[str]:
    """Say at which threshold accuracies are, where there is one: they differ from those told epoch by epoch, at 0.5."""
    if comparison.rows[0].record.config.task == "multi_class":
        return []
    return ["Accuracies are at each class's threshold of best balanced accuracy on validation; those of epochs at 0.5."]


def _speed_measured(comparison: Comparison) -> list[str]:
    """Say how latency and throughput were measured, where they were."""
    records = [row.record for row in comparison.rows if row.record.latency_ms is not None]
    if not records:
        return []
    sizes = sorted({record.inference_batch_size for record in records if record.inference_batch_size})
    at_once = " to ".join(map(str, dict.fromkeys((sizes[0], sizes[-1])))) if sizes else "several"
    return [
        f"Latency is the median of one image, throughput is with {at_once} at once: torch on the trial's own hardware, "
        "beside what else ran there."
    ]


def _test_read(comparison: Comparison) -> list[str]:
    """Say for how many trials test was read, where it was not for all."""
    complete = [row.record for row in comparison.rows if row.record.status == "complete"]
    read = sum("test" in record.metrics for record in complete)
    chosen = sum(bool(record.selected_by) for record in complete)
    rule = "The search chose on validation and read test once, for the trial it chose."
    if len(comparison.choices) > 1:
        rule = f"{len(comparison.choices)} searches chose on validation; test was read for what each of them chose."
    elif chosen > 1:
        rule = f"The search went on and chose {chosen} times, on validation; test was read once for each of those."
    said = [rule] if chosen else []
    if read == len(complete):
        return said
    return [f"The test split was read for {read} of {len(complete)} complete trials; the others show `-`.", *said]


def summary(records: Sequence[TrialRecord]) -> str:
    """Return a short table of trials that ended, without intervals."""
    head = (NAME, "val loss / acc", "test loss / acc", "status")
    rows = tuple((title_of(record), *(FIGURES[column](Row(record)) for column in head[1:])) for record in records)
    return markdown_table(Table("", head, rows))


def seed_spreads(comparison: Comparison) -> list[str]:
    """Return a sentence for each cell with several seeds, in the order of their mean validation losses.

    `ResNet50, lr 0.001: 3 seeds, mean (standard deviation; least to most): validation loss 0.2000 (0.0500; ...), ...`.
    """
    return [_sentence(cell) for cell in comparison.cells if len(cell.rows) > 1]


def _sentence(cell: Cell) -> str:
    spans = []
    for split, metric, words in SPREAD_METRICS:
        values = cell.values(split, metric)
        if len(values) > 1:
            ends = f"{min(values):.4f} to {max(values):.4f}"
            spans.append(f"{words} {fmean(values):.4f} ({stdev(values):.4f}; {ends})")
    return f"{cell.name}: {len(cell.rows)} seeds, mean (standard deviation; least to most): {', '.join(spans)}"
