"""ROC and precision-recall curves, of the best trials, or of the classes of the best one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hemo.reporting.comparison import Comparison
from hemo.reporting.figures.style import INK, LINES, drawing, label, short, svg
from hemo.stats.curves import average_precision, precision_recall_points, roc_points
from hemo.stats.intervals import weighted_auroc
from hemo.trials.predictions import Scores

LABEL_CHARACTERS = 40


@dataclass(frozen=True, eq=False)
class Series:
    """One curve: scores and labels of shape (rows,), both labels among them."""

    name: str
    scores: NDArray[np.float32]
    labels: NDArray[np.uint8]


def roc_and_precision_recall(comparison: Comparison) -> str | None:
    """Return ROC and precision-recall curves on test, side by side, with the area under each in the legend.

    One line a trial for a binary task. Else one line a class of the trial to look at; where they are too many to tell
    apart, thin ones without names, and one of all images and classes pooled.

    Returns:
        SVG, or None where no test split with both labels was read.
    """
    if not comparison.shown:
        return None
    first = comparison.shown[0]
    if first.scores.labels.shape[1] == 1:
        named = [_series(label(shown.record), shown.scores, 0) for shown in comparison.shown]
        faint: list[Series] = []
    else:
        faint = _classes(first.scores, first.record.classes)
        named, faint = (faint, []) if len(faint) <= len(LINES) else ([_pooled(first.scores)], faint)
    named = [series for series in named if 0 < series.labels.sum() < len(series.labels)]
    if not named:
        return None
    with drawing(8.6, 4.7 + 0.2 * len(named)) as figure:
        roc, precision_recall = figure.subplots(1, 2)
        _draw(roc, precision_recall, named, faint)
        _frame(roc, "1 - specificity", "recall (sensitivity)")
        _frame(precision_recall, "recall (sensitivity)", "precision")
        roc.plot([0, 1], [0, 1], color=INK, alpha=0.35, linewidth=0.8)
        handles, names = roc.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower left", ncols=1, frameon=False, handlelength=3)
        return svg(figure)


def _series(name: str, scores: Scores, column: int) -> Series:
    return Series(name, scores.scores[:, column], scores.labels[:, column])


def _classes(scores: Scores, classes: Sequence[str]) -> list[Series]:
    """Return a curve for each class with both labels."""
    found = [_series(short(name, LABEL_CHARACTERS), scores, column) for column, name in enumerate(classes)]
    return [series for series in found if 0 < series.labels.sum() < len(series.labels)]


def _pooled(scores: Scores) -> Series:
    """Return one curve of every image with every class."""
    return Series(
        "all images and classes pooled", scores.probabilities.ravel().astype(np.float32), scores.labels.ravel()
    )


def _draw(roc: Axes, precision_recall: Axes, named: Sequence[Series], faint: Sequence[Series]) -> None:
    for place, series in enumerate(faint):
        name = f"each of {len(faint)} classes" if place == 0 else None
        roc.plot(*roc_points(series.scores, series.labels), color=INK, alpha=0.22, linewidth=0.6, label=name)
        points = precision_recall_points(series.scores, series.labels)
        precision_recall.plot(*points, color=INK, alpha=0.22, linewidth=0.6)
    for series, (colour, dashes) in zip(named, LINES, strict=False):
        area = weighted_auroc(series.scores, series.labels, np.ones((1, len(series.labels))))[0]
        precision = average_precision(series.scores, series.labels)
        hidden = " " if series.name.startswith("_") else ""  # legends leave out names that begin with an underscore
        name = f"{hidden}{series.name}: AUROC {area:.3f}, AP {precision:.3f}, {series.labels.mean():.1%} positive"
        roc.plot(*roc_points(series.scores, series.labels), color=colour, linestyle=dashes, label=name)
        points = precision_recall_points(series.scores, series.labels)
        precision_recall.plot(*points, color=colour, linestyle=dashes)


def _frame(axes: Axes, across: str, up: str) -> None:
    axes.set(xlabel=across, ylabel=up, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_box_aspect(1)
