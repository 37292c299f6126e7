"""Accuracy and AUROC on test by pixel format, with their intervals."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from hemo.reporting.comparison import Comparison
from hemo.reporting.figures.style import BLUE, GREEN, INK, drawing, svg
from hemo.stats.intervals import Interval


def format_bars(comparison: Comparison) -> str | None:
    """Return bars of the trial to look at, one a pixel format, commonest first, with 95 % intervals.

    Returns:
        SVG, or None where there are no two formats.
    """
    groups = comparison.by_format
    if not groups:
        return None
    names = [f"{each.pixel_format}\n{each.images:,} images, {each.positive:.0%} positive" for each in groups]
    with drawing(8.6, 0.9 + 0.5 * len(groups)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        _bars(left, [each.accuracy.value for each in groups], [each.accuracy for each in groups], BLUE)
        _bars(right, [each.auroc for each in groups], [each.auroc_interval for each in groups], GREEN)
        left.set_yticks(range(len(groups)), names, fontsize=8)
        left.set_ylim(len(groups) - 0.5, -0.5)
        left.set_xlabel("accuracy")
        right.set_xlabel("AUROC")
        return svg(figure)


def _bars(axes: Axes, values: Sequence[float | None], ends: Sequence[Interval | None], colour: str) -> None:
    axes.set_xlim(0, 1)
    axes.grid(visible=False, axis="y")
    for place, (value, interval) in enumerate(zip(values, ends, strict=True)):
        if value is None:
            axes.text(0.02, place, "not defined: one label only", va="center", fontsize=8)
            continue
        axes.barh(place, value, height=0.6, color=colour, alpha=0.55)
        if interval:
            axes.plot([interval.low, interval.high], [place, place], color=INK, linewidth=1.4, marker="|", markersize=7)
        axes.text(0.02, place, f"{value:.3f}", va="center", fontsize=8)
