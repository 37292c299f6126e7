"""Tables below the grid: differences between cells, every figure of each split, mistakes, classes, pixel formats."""

from collections.abc import Iterator

from hemo.config.report import METRICS
from hemo.reporting.comparison import Comparison
from hemo.reporting.subgroups import ClassFigures
from hemo.reporting.table_format import MISSING, Table, number
from hemo.reporting.trial_row import SPLITS, Row, figures_of
from hemo.stats.intervals import Interval
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
"""Figure -> what heads its column; others by their name."""
BY_FORMAT = ("recall", "specificity", "precision", "calibration_error")
"""Figures by pixel format that the record has, beside those that come with an interval."""


def measure_tables(comparison: Comparison) -> list[Table]:
    """Return the tables for which the records have figures, in the order of the page."""
    tables = (
        differences_table(comparison),
        metrics_table(comparison),
        confusion_table(comparison),
        class_table(comparison),
        format_table(comparison),
    )
    return [table for table in tables if table is not None]


def differences_table(comparison: Comparison) -> Table | None:
    """Return the best cell's test accuracy against that of each other one; None where test was read for one only."""
    found = comparison.differences
    if not found:
        return None
    rows = tuple(
        (
            each.other.name,
            str(len(each.other.rows)),
            number(each.accuracy.value, signed=True),
            f"{number(each.accuracy.low, signed=True)} to {number(each.accuracy.high, signed=True)}",
            number(each.p),
            number(each.p_corrected),
            "real" if each.real else "may be chance",
        )
        for each in found
    )
    notes = (
        "Differences of accuracy on the same test images; above 0 where the best one is right on more. p: share of "
        "swaps of the two models within patients that lie as far apart; corrected by Holm for the number of "
        "comparisons, and real below 0.05.",
    )
    head = ("other", "seeds", "difference", "95 %", "p", "p corrected", "verdict")
    return Table(f"Test accuracy of {found[0].best.name} minus that of the others", head, rows, notes=notes)


def metrics_table(comparison: Comparison) -> Table | None:
    """Return every figure of each split, of complete trials; of searches, only the chosen ones'."""
    chosen = comparison.choices or list(comparison.rows)
    lines = [line for row in chosen if row.record.status == "complete" for line in _metric_lines(row)]
    if not lines:
        return None
    known = [name for name in METRICS if any(name in figures for _, _, figures in lines)]
    rows = tuple((name, split, *(number(figures.get(metric)) for metric in known)) for name, split, figures in lines)
    notes = ("Of several classes the mean. FNR: false negative rate; AP: average precision; ECE: calibration error.",)
    return Table("Figures of each split", ("trial", "split", *map(_head, known)), rows, notes=notes)


def confusion_table(comparison: Comparison) -> Table | None:
    """Return the counts of right and wrong calls on test, of binary trials; None where there are none."""
    if comparison.first.config.task != "binary":
        return None
    read = [row.record for row in comparison.rows if "test" in row.record.confusion]
    rows = []
    for record in read:
        (true_negatives, false_positives), (false_negatives, true_positives) = record.confusion["test"][0]
        counts = (true_positives, false_negatives, false_positives, true_negatives)
        rows.append((title_of(record), *(f"{count:,}" for count in counts), number(record.thresholds[0], 3)))
    head = ("trial", "found", "missed", "false alarms", "rightly negative", "threshold")
    notes = ("Found and missed are images with the target, the others without; a threshold was chosen on validation.",)
    return Table("Right and wrong calls on test", head, tuple(rows), notes=notes) if rows else None


def class_table(comparison: Comparison) -> Table | None:
    """Return the figures of each class on test, of the trial to look at; None with one class or an unread test."""
    if comparison.best is None or not comparison.by_class:
        return None
    rows = tuple(tuple(_class_cells(each)) for each in comparison.by_class)
    head = (
        "class",
        "images",
        "found",
        "false alarms",
        "recall",
        "specificity",
        "precision",
        "AUROC",
        "AUROC 95 %",
        "AP",
    )
    return Table(f"{title_of(comparison.best.record)} by class, on test", head, rows)


def format_table(comparison: Comparison) -> Table | None:
    """Return the trial to look at by pixel format, on test; None where there are no two formats."""
    if comparison.best is None or not comparison.by_format:
        return None
    groups = comparison.best.record.by_pixel_format.get("test", {})
    known = [name for name in BY_FORMAT if any(name in group.metrics for group in groups.values())]
    rows = []
    for each in comparison.by_format:
        metrics = groups[each.pixel_format].metrics if each.pixel_format in groups else {}
        figures = (number(each.accuracy.value), _ends(each.accuracy), number(each.auroc), _ends(each.auroc_interval))
        others = (number(metrics.get(name)) for name in known)
        rows.append((each.pixel_format, f"{each.images:,}", number(each.positive), *figures, *others))
    head = ("pixel format", "images", "positive", "acc", "acc 95 %", "AUROC", "AUROC 95 %", *map(_head, known))
    note = "Where the share of positives differs between formats, a model may have learned the format."
    return Table(f"{title_of(comparison.best.record)} by pixel format, on test", head, tuple(rows), notes=(note,))


def _metric_lines(row: Row) -> Iterator[tuple[str, str, dict[str, float]]]:
    for split in SPLITS:
        figures = figures_of(row.record, split)
        if figures:
            yield title_of(row.record), split, figures


def _class_cells(each: ClassFigures) -> Iterator[str]:
    positives = each.true_positives + each.false_negatives
    yield from (each.name, f"{positives:,}", f"{each.true_positives:,}", f"{each.false_positives:,}")
    yield _share(each.true_positives, positives)
    yield _share(each.true_negatives, each.true_negatives + each.false_positives)
    yield _share(each.true_positives, each.true_positives + each.false_positives)
    yield from (number(each.auroc.value if each.auroc else None), _ends(each.auroc), number(each.average_precision))


def _share(part: int, whole: int) -> str:
    return number(part / whole) if whole else MISSING


def _ends(interval: Interval | None) -> str:
    return f"{interval.low:.3f}-{interval.high:.3f}" if interval else MISSING


def _head(metric: str) -> str:
    return HEADS.get(metric, metric)
