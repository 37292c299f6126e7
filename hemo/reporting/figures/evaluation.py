"""Plots of the test split: ROC and precision-recall curves, confusion matrices, pixel formats."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from hemo.reporting.comparison import Comparison
from hemo.reporting.figures.style import BLUE, GREEN, INK, LINES, drawing, label, short, svg
from hemo.reporting.table_format import metric
from hemo.reporting.trial_row import estimate
from hemo.stats.intervals import Interval
from hemo.stats.metrics import area_under_roc, average_precision, precision_recall_points, roc_points
from hemo.training.results import ConfusionMatrix
from hemo.trials.predictions import Scores
from hemo.trials.record import title_of

PANELS_PER_ROW = 3
CURVE_CHARACTERS = 40
"""Of a class's name in the legend of curves."""

DARKEST = 0.55
"""Opacity of a matrix cell that holds its whole row: text stays readable on it, on light and dark pages."""
NUMBERED_CLASSES = 12
"""Classes up to which each matrix cell shows its count."""
MATRIX_CHARACTERS = 32
CLASS_CHARACTERS = 18
BINARY_LABELS = ("negative", "positive")


@dataclass(frozen=True, eq=False)
class Series:
    """One curve: scores and labels of shape (rows,), with both labels present."""

    name: str
    scores: NDArray[np.float32]
    labels: NDArray[np.uint8]


def roc_and_precision_recall(comparison: Comparison) -> str | None:
    """Return ROC and precision-recall curves on test, side by side, with the area under each in the legend.

    Binary task: one curve for each trial. Otherwise one for each class of the best trial; if they are too many to
    distinguish, thin ones without names, and one of all images and classes pooled.

    Returns:
        SVG, or None where no test split with both labels was evaluated.
    """
    if not comparison.plotted:
        return None
    best = comparison.plotted[0]
    faint: list[Series] = []
    if best.scores.labels.shape[1] == 1:
        named = [_series(label(each.record), each.scores, 0) for each in comparison.plotted]
    else:
        named = [
            _series(short(name, CURVE_CHARACTERS), best.scores, column)
            for column, name in enumerate(best.record.classes)
        ]
    named = [series for series in named if 0 < series.labels.sum() < len(series.labels)]
    if len(named) > len(LINES):
        named, faint = [_pooled(best.scores)], named
    if not named:
        return None
    with drawing(8.6, 4.7 + 0.2 * len(named)) as figure:
        roc, precision_recall = figure.subplots(1, 2)
        _draw_curves(roc, precision_recall, named, faint)
        _frame(roc, "false positive rate (1 - specificity)", "true positive rate (recall)")
        _frame(precision_recall, "recall", "precision")
        roc.plot([0, 1], [0, 1], color=INK, alpha=0.35, linewidth=0.8)
        handles, names = roc.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower left", ncols=1, frameon=False, handlelength=3)
        return svg(figure)


def _series(name: str, scores: Scores, column: int) -> Series:
    return Series(name, scores.scores[:, column], scores.labels[:, column])


def _pooled(scores: Scores) -> Series:
    """Return one curve of every image with every class."""
    return Series(
        "all images and classes pooled", scores.probabilities.ravel().astype(np.float32), scores.labels.ravel()
    )


def _draw_curves(roc: Axes, precision_recall: Axes, named: Sequence[Series], faint: Sequence[Series]) -> None:
    for number, series in enumerate(faint):
        name = f"each of {len(faint)} classes" if number == 0 else None
        roc.plot(*roc_points(series.scores, series.labels), color=INK, alpha=0.22, linewidth=0.6, label=name)
        points = precision_recall_points(series.scores, series.labels)
        precision_recall.plot(*points, color=INK, alpha=0.22, linewidth=0.6)
    for series, (colour, dashes) in zip(named, LINES, strict=False):
        count = len(series.labels)
        area = metric(area_under_roc(series.scores, series.labels), count)
        precision = metric(average_precision(series.scores, series.labels), count)
        hidden = " " if series.name.startswith("_") else ""  # legends leave out names that begin with an underscore
        name = f"{hidden}{series.name}: AUROC {area}, AP {precision}, prevalence {series.labels.mean():.1%}"
        roc.plot(*roc_points(series.scores, series.labels), color=colour, linestyle=dashes, label=name)
        points = precision_recall_points(series.scores, series.labels)
        precision_recall.plot(*points, color=colour, linestyle=dashes)


def _frame(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set(xlabel=x_label, ylabel=y_label, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_box_aspect(1)


def confusion_matrices(comparison: Comparison) -> str | None:
    """Return one matrix for each trial (binary), for each class (multi_label), or for all classes (multi_class).

    Cells are shaded by their fraction of the row; up to `NUMBERED_CLASSES` classes they show the count as well.

    Returns:
        SVG, or None where test was not evaluated.
    """
    records = [each.record for each in comparison.plotted if "test" in each.record.confusion]
    if not records:
        return None
    best, task = records[0], comparison.first.config.task
    if task == "multi_class":
        return _large_matrix(title_of(best), best.confusion["test"][0], best.classes)
    if task == "multi_label":
        return _small_matrices(list(zip(best.classes, best.confusion["test"], strict=True)))
    return _small_matrices([(title_of(record), record.confusion["test"][0]) for record in records])


def _small_matrices(matrices: Sequence[tuple[str, ConfusionMatrix]]) -> str:
    columns = min(PANELS_PER_ROW, len(matrices))
    rows = math.ceil(len(matrices) / columns)
    with drawing(2.7 * max(columns, 2), 2.5 * rows) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for panel in grid.flat[len(matrices) :]:
            panel.set_visible(False)
        for panel, (name, matrix) in zip(grid.flat, matrices, strict=False):
            _draw_matrix(panel, matrix, BINARY_LABELS)
            panel.set_title(short(name, MATRIX_CHARACTERS), fontsize=8, loc="left")
        for panel in grid[:, 1:].flat:
            panel.set_yticks([])
        figure.supxlabel("predicted label", fontsize=9)
        figure.supylabel("true label", fontsize=9)
        return svg(figure)


def _large_matrix(name: str, matrix: ConfusionMatrix, classes: Sequence[str]) -> str:
    side = min(9.0, 2.5 + 0.45 * len(classes))
    with drawing(side, side) as figure:
        panel = figure.subplots()
        _draw_matrix(panel, matrix, [short(each, CLASS_CHARACTERS) for each in classes])
        panel.tick_params(labelsize=8 if len(classes) <= NUMBERED_CLASSES else 6)
        panel.tick_params(axis="x", rotation=90)
        panel.set(xlabel="predicted label", ylabel="true label")
        panel.set_title(short(name, 60), fontsize=8, loc="left")
        return svg(figure)


def _draw_matrix(panel: Axes, matrix: ConfusionMatrix, classes: Sequence[str]) -> None:
    """Draw the cells that are not empty, first class at the upper left."""
    for row, counts in enumerate(matrix):
        total = sum(counts)
        for column, count in enumerate(counts):
            if count:
                shade = to_rgba(BLUE, 0.04 + (DARKEST - 0.04) * count / total)
                panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=shade, edgecolor="none"))
            if len(classes) <= NUMBERED_CLASSES:
                text = f"{count:,}"
                if len(classes) == 2:
                    quadrant = (("TN", "FP"), ("FN", "TP"))[row][column]
                    text = f"{quadrant} {text}" + (f"\n{count / total:.1%}" if total else "")
                panel.text(column, row, text, ha="center", va="center", fontsize=8)
    panel.set(xlim=(-0.5, len(classes) - 0.5), ylim=(len(classes) - 0.5, -0.5), aspect="equal")
    panel.set_xticks(range(len(classes)), classes)
    panel.set_yticks(range(len(classes)), classes)
    panel.grid(visible=False)
    panel.tick_params(length=0)


def format_bars(comparison: Comparison) -> str | None:
    """Return accuracy and AUROC of the best trial by pixel format, the most frequent first, with 95 % intervals.

    Returns:
        SVG, or None without two formats.
    """
    groups = comparison.by_format
    if not groups:
        return None
    names = [f"{each.pixel_format}\n{each.images:,} images, prevalence {each.prevalence:.0%}" for each in groups]
    with drawing(8.6, 0.9 + 0.5 * len(groups)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        _bars(left, [each.accuracy for each in groups], BLUE)
        _bars(right, [each.auroc for each in groups], GREEN)
        left.set_yticks(range(len(groups)), names, fontsize=8)
        left.set_ylim(len(groups) - 0.5, -0.5)
        left.set_xlabel("accuracy")
        right.set_xlabel("AUROC")
        return svg(figure)


def _bars(axes: Axes, intervals: Sequence[Interval | None], colour: str) -> None:
    axes.set_xlim(0, 1)
    axes.grid(visible=False, axis="y")
    for y, interval in enumerate(intervals):
        if interval is None:
            axes.text(0.02, y, "not defined: only one label", va="center", fontsize=8)
            continue
        axes.barh(y, interval.value, height=0.6, color=colour, alpha=0.55)
        if interval.ends:
            axes.plot(interval.ends, [y, y], color=INK, linewidth=1.4, marker="|", markersize=7)
        axes.text(0.02, y, estimate(interval), va="center", fontsize=8)
