"""Tables below the grid: paired tests, metrics of each split, confusion matrix, metrics by class and pixel format."""

from hemo.reporting.cells import TEST_NAME
from hemo.reporting.comparison import Comparison
from hemo.reporting.table_format import MISSING, Table, number
from hemo.reporting.trial_row import SPLITS, ClassMetrics, metrics_of, span
from hemo.training.results import METRICS
from hemo.trials.record import title_of

HEADS = {
    "log_loss": "log loss",
    "accuracy": "acc",
    "f1": "F1",
    "false_negative_rate": "FNR",
    "auroc": "AUROC",
    "average_precision": "AP",
    "calibration_error": "ECE",
}
"""Metric -> head of its column; others have their own name."""
BY_FORMAT = ("recall", "specificity", "precision", "calibration_error")
"""Metrics by pixel format from the record, beside those with an interval."""


def metric_tables(comparison: Comparison) -> list[Table]:
    """Return the tables for which the records have metrics, in the order of the page."""
    tables = (
        differences_table(comparison),
        splits_table(comparison),
        confusion_table(comparison),
        class_table(comparison),
        format_table(comparison),
    )
    return [table for table in tables if table is not None]


def differences_table(comparison: Comparison) -> Table | None:
    """Return the paired tests of the best cell; None where fewer than two cells were evaluated on test."""
    if not comparison.differences:
        return None
    rows = tuple(
        (
            each.other.name,
            str(len(each.other.rows)),
            number(each.accuracy.value, signed=True),
            f"{number(each.accuracy.low, signed=True)} to {number(each.accuracy.high, signed=True)}",
            number(each.p),
            number(each.p_holm),
            "significant" if each.significant else "not significant",
        )
        for each in comparison.differences
    )
    best = comparison.differences[0].best.name
    notes = (
        f"Differences in accuracy on the same test images; above 0: {best} is more accurate.",
        f"p: {TEST_NAME}. p (Holm): adjusted for the number of comparisons; significant: Holm-adjusted p < 0.05.",
    )
    head = ("other cell", "seeds", "difference", "95 %", "p", "p (Holm)", "verdict")
    return Table(f"Test accuracy of {best} minus that of the others", head, rows, notes=notes)


def splits_table(comparison: Comparison) -> Table | None:
    """Return all metrics of each split, of complete trials; of searches, only of the trials they selected."""
    listed = comparison.selected_rows or list(comparison.rows)
    lines = [
        (title_of(row.record), split, metrics_of(row.record, split))
        for row in listed
        if row.record.status == "complete"
        for split in SPLITS
        if metrics_of(row.record, split)
    ]
    if not lines:
        return None
    known = [name for name in METRICS if any(name in metrics for _, _, metrics in lines)]
    rows = tuple((name, split, *(number(metrics.get(metric)) for metric in known)) for name, split, metrics in lines)
    note = "Several classes: mean. FNR: false negative rate; AP: average precision; ECE: expected calibration error."
    return Table("Metrics of each split", ("trial", "split", *map(_head, known)), rows, notes=(note,))


def confusion_table(comparison: Comparison) -> Table | None:
    """Return the confusion matrices of binary trials on test; None where there are none."""
    if comparison.first.config.task != "binary":
        return None
    rows = []
    for record in (row.record for row in comparison.rows if "test" in row.record.confusion):
        (true_negatives, false_positives), (false_negatives, true_positives) = record.confusion["test"][0]
        counts = (true_positives, false_negatives, false_positives, true_negatives)
        rows.append((title_of(record), *(f"{count:,}" for count in counts), number(record.thresholds[0], 3)))
    head = ("trial", "TP", "FN", "FP", "TN", "threshold")
    notes = ("Images at the threshold selected on validation.",)
    return Table("Confusion matrix on test", head, tuple(rows), notes=notes) if rows else None


def class_table(comparison: Comparison) -> Table | None:
    """Return the best trial's metrics of each class on test; None with one class, or without test."""
    if comparison.best is None or not comparison.by_class:
        return None
    rows = tuple(_class_cells(each) for each in comparison.by_class)
    head = (
        *("class", "positives", "TP", "FP", "recall", "specificity", "precision"),
        *("AUROC", "AUROC 95 %", "AP"),
    )
    return Table(f"{title_of(comparison.best.record)} by class, on test", head, rows)


def _class_cells(each: ClassMetrics) -> tuple[str, ...]:
    positives = each.true_positives + each.false_negatives
    return (
        *(each.name, f"{positives:,}", f"{each.true_positives:,}", f"{each.false_positives:,}"),
        _ratio(each.true_positives, positives),
        _ratio(each.true_negatives, each.true_negatives + each.false_positives),
        _ratio(each.true_positives, each.true_positives + each.false_positives),
        number(each.auroc.value if each.auroc else None),
        span(each.auroc),
        number(each.average_precision),
    )


def format_table(comparison: Comparison) -> Table | None:
    """Return the best trial's metrics of each pixel format on test; None without two formats."""
    if comparison.best is None or not comparison.by_format:
        return None
    groups = comparison.best.record.by_pixel_format.get("test", {})
    known = [name for name in BY_FORMAT if any(name in group.metrics for group in groups.values())]
    rows = []
    for each in comparison.by_format:
        recorded = groups[each.pixel_format].metrics if each.pixel_format in groups else {}
        computed = (number(each.accuracy.value), span(each.accuracy), number(each.auroc), span(each.auroc_interval))
        others = (number(recorded.get(name)) for name in known)
        rows.append((each.pixel_format, f"{each.images:,}", number(each.prevalence), *computed, *others))
    head = ("pixel format", "images", "prevalence", "acc", "acc 95 %", "AUROC", "AUROC 95 %", *map(_head, known))
    note = "Where prevalence differs between pixel formats, a model may predict from the format."
    return Table(f"{title_of(comparison.best.record)} by pixel format, on test", head, tuple(rows), notes=(note,))


def _ratio(part: int, whole: int) -> str:
    return number(part / whole) if whole else MISSING


def _head(metric: str) -> str:
    return HEADS.get(metric, metric)
