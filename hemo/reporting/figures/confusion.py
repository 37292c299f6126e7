"""Confusion matrices on test: rows by truth, columns by what was called."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from hemo.reporting.comparison import Comparison
from hemo.reporting.figures.style import BLUE, drawing, short, svg
from hemo.training.results import ConfusionMatrix
from hemo.trials.record import title_of

DARKEST = 0.55
"""Opacity of a cell that holds its whole row: text stays readable on it, on light and dark pages."""
NUMBERED_CLASSES = 12
"""Classes up to which each cell shows its count."""
PANELS_A_ROW = 3
TITLE_CHARACTERS = 32
CLASS_CHARACTERS = 18
YES_NO = ("no", "yes")


def confusion_matrices(comparison: Comparison) -> str | None:
    """Return a matrix a trial for a binary task, a class for several labels, and one for exclusive classes.

    Cells are shaded by their share of the row, and of up to `NUMBERED_CLASSES` classes show the count as well.

    Returns:
        SVG, or None where test was not read.
    """
    records = [shown.record for shown in comparison.shown if "test" in shown.record.confusion]
    if not records:
        return None
    first, task = records[0], comparison.first.config.task
    if task == "multi_class":
        return _large(title_of(first), first.confusion["test"][0], first.classes)
    if task == "multi_label":
        return _small(list(zip(first.classes, first.confusion["test"], strict=True)))
    return _small([(title_of(record), record.confusion["test"][0]) for record in records])


def _small(matrices: Sequence[tuple[str, ConfusionMatrix]]) -> str:
    across = min(PANELS_A_ROW, len(matrices))
    down = math.ceil(len(matrices) / across)
    with drawing(2.7 * max(across, 2), 2.5 * down) as figure:
        grid = figure.subplots(down, across, squeeze=False)
        for panel in grid.flat[len(matrices) :]:
            panel.set_visible(False)
        for panel, (name, matrix) in zip(grid.flat, matrices, strict=False):
            _draw(panel, matrix, YES_NO)
            panel.set_title(short(name, TITLE_CHARACTERS), fontsize=8, loc="left")
        figure.supxlabel("called", fontsize=9)
        figure.supylabel("truth", fontsize=9)
        return svg(figure)


def _large(name: str, matrix: ConfusionMatrix, classes: Sequence[str]) -> str:
    side = min(9.0, 2.5 + 0.45 * len(classes))
    with drawing(side, side) as figure:
        panel = figure.subplots()
        _draw(panel, matrix, [short(each, CLASS_CHARACTERS) for each in classes])
        panel.tick_params(labelsize=8 if len(classes) <= NUMBERED_CLASSES else 6)
        panel.tick_params(axis="x", rotation=90)
        panel.set(xlabel="called", ylabel="truth")
        panel.set_title(short(name, 60), fontsize=8, loc="left")
        return svg(figure)


def _draw(panel: Axes, matrix: ConfusionMatrix, classes: Sequence[str]) -> None:
    """Draw the cells that are not empty, first class at the upper left."""
    for row, counts in enumerate(matrix):
        whole = sum(counts)
        for column, count in enumerate(counts):
            if count:
                shade = to_rgba(BLUE, 0.04 + (DARKEST - 0.04) * count / whole)
                panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=shade, edgecolor="none"))
            if len(classes) <= NUMBERED_CLASSES:
                share = f"\n{count / whole:.1%}" if whole and len(classes) == 2 else ""
                panel.text(column, row, f"{count:,}{share}", ha="center", va="center", fontsize=8)
    panel.set(xlim=(-0.5, len(classes) - 0.5), ylim=(len(classes) - 0.5, -0.5), aspect="equal")
    panel.set_xticks(range(len(classes)), classes)
    panel.set_yticks(range(len(classes)), classes)
    panel.grid(visible=False)
    panel.tick_params(length=0)
