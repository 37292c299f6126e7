"""Tables below the grid: cells on test, metrics of each split, confusion matrix, classes and pixel formats."""

from hemo.reporting.cell_tables import cells_table, differences_table
from hemo.reporting.comparison import Comparison
from hemo.reporting.probabilities import probability_tables
from hemo.reporting.table_format import Table, metric, probability_text
from hemo.reporting.trial_row import SPLITS, ClassMetrics, estimate
from hemo.stats import CALIBRATION_BINS
from hemo.training.results import METRICS, applied_thresholds
from hemo.trials.record import metrics_of, title_of

HEADS = {
    "log_loss": "log loss",
    "accuracy": "acc",
    "f1": "F1",
    "false_negative_rate": "FNR",
    "auroc": "AUROC",
    "average_precision": "AP",
    "calibration_error": "ECE (equal width)",
}
"""Metric -> head of its column; others have their own name."""
BY_FORMAT = ("recall", "specificity", "precision", "calibration_error")
"""Metrics by pixel format from the record, beside those with an interval."""


def metric_tables(comparison: Comparison) -> list[Table]:
    """Return the tables for which the records have metrics, in the order of the page."""
    tables = (
        *((cells_table(tested, comparison.order), differences_table(tested)) if (tested := comparison.tested) else ()),
        splits_table(comparison),
        confusion_table(comparison),
        class_table(comparison),
        format_table(comparison),
    )
    known = [table for table in tables if table is not None]
    return [*known, *probability_tables(comparison.probabilities, comparison.tested_cells)]


def splits_table(comparison: Comparison) -> Table | None:
    """Return all metrics of each split, of complete trials but those that a search passed over."""
    lines = [
        (title_of(row.record), split, metrics_of(row.record, split), row.record.rows.get(split, 0))
        for row in comparison.candidates
        if row.record.status == "complete"
        for split in SPLITS
        if metrics_of(row.record, split)
    ]
    if not lines:
        return None
    known = [name for name in METRICS if any(name in metrics for _, _, metrics, _ in lines)]
    rows = tuple(
        (trial, split, *(metric(metrics.get(name), images) for name in known))
        for trial, split, metrics, images in lines
    )
    notes = (
        "Several classes: mean. FNR: false negative rate; AP: average precision; ECE (equal width): expected "
        f"calibration error in {CALIBRATION_BINS} bins of equal width.",
    )
    return Table("Metrics of each split", ("trial", "split", *map(_head, known)), rows, notes=notes)


def confusion_table(comparison: Comparison) -> Table | None:
    """Return the confusion matrices of binary trials on test with recall and specificity; None where there are none."""
    if comparison.first.config.task != "binary":
        return None
    rows = []
    for row in comparison.rows:
        if row.test is None or "test" not in row.record.confusion:
            continue
        (true_negatives, false_positives), (false_negatives, true_positives) = row.record.confusion["test"][0]
        counts = (true_positives, false_negatives, false_positives, true_negatives)
        rates = (estimate(row.test.recall), estimate(row.test.specificity))
        threshold = probability_text(applied_thresholds(row.record.thresholds)[0])
        rows.append((title_of(row.record), *(f"{count:,}" for count in counts), *rates, threshold))
    head = ("trial", "TP", "FN", "FP", "TN", "recall (95 %)", "specificity (95 %)", "threshold")
    notes = (f"{comparison.first.config.row_noun.many.capitalize()} at the threshold selected on validation.",)
    return Table("Confusion matrix on test", head, tuple(rows), notes=notes) if rows else None


def class_table(comparison: Comparison) -> Table | None:
    """Return the best trial's metrics of each class on test; None with one class, or without test."""
    if comparison.best is None or not comparison.by_class:
        return None
    images = comparison.best.record.rows.get("test", 0)
    rows = tuple(_class_cells(each, images) for each in comparison.by_class)
    head = (
        *("class", "positives", "TP", "FP", "recall (95 %)", "specificity (95 %)", "precision"),
        *("AUROC (95 %)", "AP"),
    )
    reasons = {each.auroc.reason: None for each in comparison.by_class if each.auroc and each.auroc.reason}
    notes = tuple(f"No interval of some classes: {reason}." for reason in reasons)
    return Table(f"{title_of(comparison.best.record)} by class, on test", head, rows, notes=notes)


def _class_cells(each: ClassMetrics, images: int) -> tuple[str, ...]:
    counts = (each.positives, each.true_positives, each.false_positives)
    return (
        *(each.name, *(f"{count:,}" for count in counts), estimate(each.recall), estimate(each.specificity)),
        *(metric(each.precision, images), estimate(each.auroc), metric(each.average_precision, images)),
    )


def format_table(comparison: Comparison) -> Table | None:
    """Return the best trial's metrics of each pixel format on test; None without two formats."""
    if comparison.best is None or not comparison.by_format:
        return None
    groups = comparison.best.record.by_pixel_format.get("test", {})
    known = [name for name in BY_FORMAT if any(name in group.metrics for group in groups.values())]
    rows = []
    for each in comparison.by_format:
        recorded = groups[each.name].metrics if each.name in groups else {}
        others = (metric(recorded.get(name), each.images) for name in known)
        computed = (each.prevalence.text, estimate(each.accuracy), estimate(each.auroc))
        rows.append((each.name, f"{each.images:,}", *computed, *others))
    head = (
        "pixel format",
        "images",
        comparison.by_format[0].prevalence.head,
        "acc (95 %)",
        "AUROC (95 %)",
        *map(_head, known),
    )
    reasons = [each.reason for group in comparison.by_format for each in (group.accuracy, group.auroc) if each]
    notes = (
        "Where prevalence differs between pixel formats, a model may predict from the format.",
        *(f"No interval of some formats: {reason}." for reason in dict.fromkeys(filter(None, reasons))),
    )
    return Table(f"{title_of(comparison.best.record)} by pixel format, on test", head, tuple(rows), notes=notes)


def _head(name: str) -> str:
    return HEADS.get(name, name)
