"""Plots of training: loss and accuracy by epoch, and training time against accuracy."""

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hemo.reporting.comparison import Comparison
from hemo.reporting.figures.style import BLUE, GREEN, INK, VERMILION, drawing, label, legend_above, panels, svg
from hemo.trials.record import TrialRecord, metrics_of

SERIES = {"train": (BLUE, "o", "-"), "val": (VERMILION, "s", "--"), "test": (GREEN, "D", ":")}
"""Split -> colour, marker, line."""
PANEL_INCHES = (2.6, 1.9)
PANELS_PER_ROW = 4
NAME_CHARACTERS = 64
"""Of a trial's name beside the scatter."""
TITLE_CHARACTERS = 36
"""Of a trial's name above its panel, in each of two lines."""


def curves(comparison: Comparison, metric: str) -> str | None:
    """Return one panel for each trial with `metric` on train and validation by epoch, all on the same scales.

    Args:
        comparison: Its trials; those without a finished epoch have no panel.
        metric: `loss` or `accuracy`.

    Returns:
        SVG, or None if no trial finished an epoch.
    """
    records = [record for record in comparison.ran if record.epochs]
    if not records:
        return None
    columns = min(PANELS_PER_ROW, len(records))
    rows = math.ceil(len(records) / columns)
    with drawing(PANEL_INCHES[0] * max(columns, 2), PANEL_INCHES[1] * rows + 0.3) as figure:
        grid = panels(figure, len(records), columns)
        for panel, record in zip(grid, records, strict=True):
            _curve_panel(panel, record, metric)
        _legend_above_panels(figure, grid[0])
        figure.supxlabel("epoch", fontsize=9)
        figure.supylabel(metric, fontsize=9)
        return svg(figure)


def time_against_accuracy(comparison: Comparison) -> str | None:
    """Return a scatter of training time against accuracy on train, validation and test, with trial names at the right.

    Returns:
        SVG, or None if no trial has epochs and metrics.
    """
    records = [record for record in comparison.ran if record.epochs and "accuracy" in metrics_of(record, "val")]
    if not records:
        return None
    longest = max(len(label(record, NAME_CHARACTERS)) for record in records)
    with drawing(6.4 + 0.065 * longest, max(3.6, 0.19 * len(records) + 1.2)) as figure:
        axes = figure.subplots()
        for record in records:
            _trial_points(axes, record)
        axes.set_xlabel("training time (minutes)")
        axes.set_ylabel("accuracy")
        axes.margins(x=0.04, y=0.08)
        _name_at_right(axes, records)
        legend_above(axes, columns=3)
        return svg(figure)


def _curve_panel(panel: Axes, record: TrialRecord, metric: str) -> None:
    epochs = [epoch.epoch for epoch in record.epochs]
    for split in ("train", "val"):
        colour, _, line = SERIES[split]
        panel.plot(
            epochs,
            [getattr(epoch, split).get(metric, math.nan) for epoch in record.epochs],
            color=colour,
            linestyle=line,
        )
    panel.axvline(record.best_epoch or epochs[-1], color=INK, alpha=0.35, linewidth=0.8)
    panel.set_title(_title(record), fontsize=8, loc="left")
    panel.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))


def _title(record: TrialRecord) -> str:
    """Return a trial's name in at most two lines."""
    return "\n".join(textwrap.wrap(label(record, 2 * TITLE_CHARACTERS - 12), TITLE_CHARACTERS)[:2])


def _legend_above_panels(figure: Figure, panel: Axes) -> None:
    """Draw the legend of the lines above all panels."""
    names = ["train", "validation", "best epoch"]
    figure.legend(
        panel.get_lines()[:3], names, loc="outside upper left", ncols=3, frameon=False, borderpad=0, handlelength=2.2
    )


def _trial_points(axes: Axes, record: TrialRecord) -> None:
    """Draw a trial's accuracies above its training time, joined by a thin line."""
    minutes = record.seconds / 60
    known = {split: metrics_of(record, split) for split in SERIES}
    points = {split: metrics["accuracy"] for split, metrics in known.items() if "accuracy" in metrics}
    axes.plot([minutes] * len(points), list(points.values()), color=INK, alpha=0.25, linewidth=0.8)
    for split, accuracy in points.items():
        colour, marker, _ = SERIES[split]
        axes.plot(
            minutes,
            accuracy,
            color=colour,
            marker=marker,
            markersize=5,
            linestyle="none",
            label="validation" if split == "val" else split,
        )


def _name_at_right(axes: Axes, records: Sequence[TrialRecord]) -> None:
    """Write each trial's name in a column at the right, evenly spread, with a thin line to its validation point."""
    ordered = sorted(records, key=lambda record: (metrics_of(record, "val")["accuracy"], -record.seconds))
    for index, record in enumerate(ordered):
        height = (index + 0.5) / len(ordered)
        point = (record.seconds / 60, metrics_of(record, "val")["accuracy"])
        arrow = {"arrowstyle": "-", "color": INK, "alpha": 0.3, "linewidth": 0.6, "shrinkA": 2, "shrinkB": 4}
        from_left_end = {"relpos": (0, 0.5)}  # else lines cross other names
        axes.annotate(
            label(record, NAME_CHARACTERS),
            point,
            xytext=(1.04, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            arrowprops=arrow | from_left_end,
        )
