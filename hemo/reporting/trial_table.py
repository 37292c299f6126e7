"""The grid of trials: the heading above it, a row for each trial with settings and metrics, and the notes below."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, stdev
from typing import Any

from hemo.config.trial import TrialConfig
from hemo.config.tune import flattened, varying
from hemo.curation.card import grouping_text
from hemo.reporting.cells import Cell, describe_difference
from hemo.reporting.comparison import Comparison
from hemo.reporting.table_format import MISSING, Table, hours, markdown_table, number
from hemo.reporting.trial_row import Row, image_of, join_with_counts, metrics_of, span, split_name
from hemo.sweeps.results import search_lines
from hemo.trials.record import TrialRecord, title_of

NAME = "trial"

Text = Callable[[Row], str]

SIDE = "model.side_px"
HEADS = {
    SIDE: "side (px)",
    "model.dense_width": "dense",
    "training.batch_size": "batch",
    "training.epochs": "max epochs",
}
"""Dotted setting -> head of its column; others have the last part of their name."""
IN_TITLE = ("task", "target")
"""Settings that are in a comparison's title."""
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

COLUMNS: dict[str, Text] = {
    "train loss / acc": lambda row: _loss_and_accuracy(row, "train"),
    "val loss / acc": lambda row: _loss_and_accuracy(row, "val"),
    "test loss / acc": lambda row: _loss_and_accuracy(row, "test"),
    "test acc 95 %": lambda row: span(row.accuracy),
    "test AUROC": lambda row: _metric(row, "test", "auroc"),
    "AUROC 95 %": lambda row: span(row.auroc),
    "best epoch": lambda row: (
        f"{row.record.best_epoch} of {len(row.record.epochs)}" if row.record.best_epoch else MISSING
    ),
    "training time": lambda row: hours(row.record.seconds) if row.record.epochs else MISSING,
    "parameters": lambda row: f"{row.record.parameters:,}" if row.record.parameters else MISSING,
    "size (MB)": lambda row: number(row.record.megabytes, 1),
    "latency (ms)": lambda row: number(row.record.latency_ms, 1),
    "throughput (images/s)": lambda row: number(row.record.inference_images_per_second, 0),
    "status": lambda row: row.record.status,
}
"""Head of a column -> the text of its cells."""
OPTIONAL = ("size (MB)", "latency (ms)", "throughput (images/s)")
"""Columns that are left out where no record has a value."""

SEED_METRICS = (
    ("val", "loss", "validation loss"),
    ("test", "accuracy", "test accuracy"),
    ("test", "auroc", "test AUROC"),
)
"""Split, metric and name of what is summarised over seeds."""


def subject(comparison: Comparison) -> str:
    """Return a comparison's title: task, target, loss where it is not the default, and training set."""
    config = comparison.first.config
    tasks = {"binary": f"Binary, target {config.target}", "multi_label": "Multi-label", "multi_class": "Multi-class"}
    loss = "" if config.training.loss == "default" else f", loss {config.training.loss}"
    return f"{tasks[config.task]}{loss}: training set {comparison.first.training_set}"


def heading(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the lines above a table as pairs of term and text."""
    return list(_heading(comparison))


def findings(comparison: Comparison) -> list[str]:
    """Return which splits have too few patients to choose or compare by, and how patients were found."""
    texts = [finding.text for record in comparison.ran for finding in record.findings]
    grouping = [grouping_text(record.grouped_by) for record in comparison.ran]
    return list(dict.fromkeys(text for text in [*texts, *grouping] if text))


def _heading(comparison: Comparison) -> Iterator[tuple[str, str]]:
    statuses = Counter(row.record.status for row in comparison.rows)
    counts = ", ".join(f"{count} {status}" for status, count in statuses.items())
    yield "Trials", f"{len(comparison.rows)} ({counts})"
    yield "Split", split_name(comparison.first)
    yield "Images", _images(comparison)
    yield "Majority class on test", _majority(comparison)
    if comparison.best is not None:
        untrained = comparison.best.record.baseline.get("val", {})
        if "loss" in untrained:
            yield "Before training", f"validation loss {untrained['loss']:.4f} ({title_of(comparison.best.record)})"
        yield (
            "Selected trial" if comparison.selected_rows else "Lowest validation loss",
            _best(comparison.best, comparison),
        )
    if comparison.differences:
        yield "Two best cells", describe_difference(comparison.differences[0])
    yield from search_lines(comparison.searches)
    yield "Reductions", join_with_counts([record.reductions for record in comparison.ran]) or "none"
    hardware = join_with_counts([(record.hardware,) for record in comparison.ran])
    yield "Hardware", hardware or "unknown: no trial ran"
    finished = max((row.record.finished for row in comparison.rows), default="")
    if finished:
        yield "Finished", finished[:10]
    yield "Common settings", common_settings(comparison)


def _images(comparison: Comparison) -> str:
    images = {split: rows for record in comparison.ran for split, rows in record.rows.items()}
    size = join_with_counts([(image_of(record),) for record in comparison.ran if record.image])
    parts = [f"{split} {rows:,}" for split, rows in images.items()] + ([f"each {size}"] if size else [])
    return ", ".join(parts) or "unknown: no trial ran"


def _majority(comparison: Comparison) -> str:
    majority = comparison.majority_accuracy
    if majority is None:
        return "unknown: no trial was evaluated on test"
    return f"accuracy {majority:.4f} by always predicting the most frequent class"


def _best(best: Row, comparison: Comparison) -> str:
    """Return a sentence on the best trial, and whether it beats the majority class on test."""
    majority, record = comparison.majority_accuracy, best.record
    name = title_of(record)
    if record.selected_by:
        name += f", by {record.selected_by} among {record.selected_among} trials"
    if best.accuracy is None or majority is None:
        return f"{name}; not evaluated on test"
    relation = "above" if best.accuracy.low > majority else "not clearly above"
    interval = f"{best.accuracy.value:.4f}, 95 % interval {best.accuracy.low:.3f} to {best.accuracy.high:.3f}"
    tested = sum(row.accuracy is not None for row in comparison.rows)
    caution = f" (intervals are not adjusted for the {tested} trials compared)" if tested > 2 else ""
    return f"{name}: test accuracy {interval}, {relation} the majority class{caution}"


def common_settings(comparison: Comparison) -> str:
    """Return the settings that all trials share, as one line; what is off by default is listed only where it is on."""
    elsewhere = (*IN_TITLE, *_varying(comparison))
    values = {key: value for key, value in flattened(comparison.first.config.deciding()) if key not in elsewhere}
    return ", ".join(
        f"{setting_name(key)} {setting_text(value)}" for key, value in values.items() if not _is_off(key, value)
    )


def _is_off(key: str, value: Any) -> bool:
    """Return whether a setting is one that is off by default, such as an augmentation, and still is."""
    off = key in NEUTRAL or (isinstance(value, float | bool) and not value)
    return off and value == DEFAULTS[key]


def _varying(comparison: Comparison) -> list[str]:
    return [key for key in varying([row.record.config for row in comparison.rows]) if key not in IN_TITLE]


def setting_name(key: str) -> str:
    """Return the name of a dotted setting in tables and figures."""
    return HEADS.get(key, key.rsplit(".", 1)[-1].replace("_", " "))


def setting_text(value: Any) -> str:
    """Return a setting's value as text."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def grid_table(comparison: Comparison) -> Table:
    """Return the grid of a comparison; only settings that differ have a column."""
    keys = _varying(comparison)
    columns = {
        name: text
        for name, text in COLUMNS.items()
        if name not in OPTIONAL or any(text(row) != MISSING for row in comparison.rows)
    }
    rows = []
    for row in comparison.rows:
        settings = dict(flattened(row.record.config.deciding()))
        settings[SIDE] = settings[SIDE] or "as stored"
        cells = (*(setting_text(settings[key]) for key in keys), *(text(row) for text in columns.values()))
        rows.append((title_of(row.record), *cells))
    marks = tuple("best" if row is comparison.best else row.record.status for row in comparison.rows)
    head = (NAME, *(setting_name(key) for key in keys), *columns)
    return Table("Trials", head, tuple(rows), marks, tuple(notes(comparison)))


def summary(records: Sequence[TrialRecord]) -> str:
    """Return a short table of trials that ended, without intervals."""
    head = (NAME, "val loss / acc", "test loss / acc", "status")
    rows = tuple((title_of(record), *(COLUMNS[column](Row(record)) for column in head[1:])) for record in records)
    return markdown_table(Table("", head, rows))


def _loss_and_accuracy(row: Row, split: str) -> str:
    if not metrics_of(row.record, split):
        return MISSING
    return f"{_metric(row, split, 'loss')} / {_metric(row, split, 'accuracy')}"


def _metric(row: Row, split: str, name: str) -> str:
    return number(metrics_of(row.record, split).get(name))


def notes(comparison: Comparison) -> list[str]:
    """Return the notes below a grid: order, use of test, spread over seeds, failures, thresholds, speed."""
    return [
        "Rows are sorted by validation loss, lowest first.",
        *_use_of_test(comparison),
        *(_seed_spread(cell) for cell in comparison.cells if len(cell.rows) > 1),
        *_failures(comparison),
        *_thresholds(comparison),
        *_speed(comparison),
    ]


def _use_of_test(comparison: Comparison) -> Iterator[str]:
    """Yield for how many trials test was evaluated where it was not for all, and how a search used it."""
    complete = [row.record for row in comparison.rows if row.record.status == "complete"]
    tested = sum("test" in record.metrics for record in complete)
    if tested < len(complete):
        yield f"Test was evaluated for {tested} of {len(complete)} complete trials; the others have `-`."
    selected = sum(bool(record.selected_by) for record in complete)
    if len(comparison.selected_rows) > 1:
        searches = len(comparison.selected_rows)
        yield f"{searches} searches selected on validation; test was evaluated for the trial that each selected."
    elif selected > 1:
        yield (
            f"The search was continued and selected {selected} times, on validation; test was evaluated once for each "
            "selected trial."
        )
    elif selected:
        yield "The search selected on validation; test was evaluated once, for the selected trial."


def _seed_spread(cell: Cell) -> str:
    """Return mean, standard deviation and range over the seeds of a cell.

    `ResNet50, lr 0.001: 3 seeds, mean (standard deviation; range): validation loss 0.2000 (0.0500; ...), ...`.
    """
    spreads = []
    for split, metric, name in SEED_METRICS:
        values = cell.values(split, metric)
        if len(values) > 1:
            ends = f"{min(values):.4f} to {max(values):.4f}"
            spreads.append(f"{name} {fmean(values):.4f} ({stdev(values):.4f}; {ends})")
    return f"{cell.name}: {len(cell.rows)} seeds, mean (standard deviation; range): {', '.join(spreads)}"


def _failures(comparison: Comparison) -> list[str]:
    return [
        f"{title_of(row.record)} {row.record.status}: {row.record.reason or 'no reason recorded'}"
        for row in comparison.rows
        if row.record.status != "complete"
    ]


def _thresholds(comparison: Comparison) -> list[str]:
    if comparison.first.config.task == "multi_class":
        return []
    return [
        "Accuracies are at the threshold with the best balanced accuracy on validation, one for each class; those by "
        "epoch are at 0.5."
    ]


def _speed(comparison: Comparison) -> list[str]:
    """Return how latency and throughput were measured, where they were."""
    records = [row.record for row in comparison.rows if row.record.latency_ms is not None]
    if not records:
        return []
    sizes = sorted({record.inference_batch_size for record in records if record.inference_batch_size})
    batch = " to ".join(map(str, dict.fromkeys((sizes[0], sizes[-1])))) if sizes else "several"
    return [
        f"Latency: median time for one image. Throughput: in batches of {batch} images. Both with torch on the trial's "
        "hardware, while other trials may have run there."
    ]
