"""Plots of probabilities on test: reliability with intervals, as trained and calibrated, and decision curves."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hemo.reporting.figures.style import BLUE, GREEN, INK, VERMILION, drawing, panels, short, svg
from hemo.reporting.probabilities import ClassProbabilities, Reliability

PANELS_PER_ROW = 3
PANEL_CHARACTERS = 34
QUARTERS = (0, 0.25, 0.5, 0.75, 1)
LOWEST_BENEFIT = -0.35
"""Part of the prevalence below 0 down to which net benefit is drawn: what is lower is worse than doing nothing."""


def reliability_diagrams(found: Sequence[ClassProbabilities]) -> str | None:
    """Return a reliability diagram for each of `found`: bins of equal count with 95 % intervals.

    Returns:
        SVG, or None where there is nothing to draw.
    """
    if not found:
        return None
    columns = min(PANELS_PER_ROW, len(found))
    with drawing(3.1 * max(columns, 2), 3.3 * math.ceil(len(found) / columns) + 0.4) as figure:
        for panel, each in zip(panels(figure, len(found), columns, square=True), found, strict=True):
            panel.plot([0, 1], [0, 1], color=INK, alpha=0.35, linewidth=0.8)
            if each.calibrated is not None:
                _draw_bins(panel, each.trained, VERMILION, filled=False, name="as trained")
            name = "as trained" if each.calibrated is None else "calibrated"
            _draw_bins(panel, each.final, BLUE, filled=True, name=name)
            errors = [f"{part.metrics.calibration_error:.3f}" for part in (each.trained, each.calibrated) if part]
            panel.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=QUARTERS, yticks=QUARTERS)
            panel.set_title(f"{_title(each, found)}\nECE {' -> '.join(errors)}", fontsize=8, loc="left")
        _legend(figure, figure.axes)
        figure.supxlabel("predicted probability", fontsize=9)
        figure.supylabel("observed frequency", fontsize=9)
        return svg(figure)


def _draw_bins(panel: Axes, part: Reliability, colour: str, *, filled: bool, name: str) -> None:
    predicted = [each.predicted for each in part.bins]
    observed = [each.observed.value for each in part.bins]
    for each in part.bins:
        if each.observed.ends is not None:
            panel.plot([each.predicted] * 2, each.observed.ends, color=colour, linewidth=0.9, alpha=0.55)
    panel.plot(predicted, observed, color=colour, linewidth=0.8, alpha=0.5, linestyle="-" if filled else "--")
    panel.plot(
        predicted,
        observed,
        color=colour,
        linestyle="none",
        marker="o" if filled else "s",
        markersize=4.5,
        markerfacecolor=colour if filled else "none",
        label=name,
    )


def _title(each: ClassProbabilities, found: Sequence[ClassProbabilities]) -> str:
    several_classes = len({other.name for other in found}) > 1
    return short(each.name if several_classes else each.trial, PANEL_CHARACTERS)


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Draw one legend above all panels, with each series once."""
    named = {name: handle for each in axes for handle, name in zip(*each.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="outside upper left", ncols=len(named), frameon=False)


def decision_curves(found: Sequence[ClassProbabilities]) -> str | None:
    """Return net benefit by threshold probability for each of `found`, with acting on all images and on none.

    Returns:
        SVG, or None where there is nothing to draw.
    """
    drawn = [each for each in found if each.curve]
    if not drawn:
        return None
    columns = min(PANELS_PER_ROW, len(drawn))
    with drawing(3.1 * max(columns, 2), 2.7 * math.ceil(len(drawn) / columns) + 0.4) as figure:
        for panel, each in zip(panels(figure, len(drawn), columns), drawn, strict=True):
            _draw_curve(panel, each)
            panel.set_title(f"{_title(each, drawn)}\nprevalence {each.prevalence:.3g}", fontsize=8, loc="left")
        highest = max(each.prevalence for each in drawn)
        figure.axes[0].set(xlim=(0, 1), ylim=(LOWEST_BENEFIT * highest, 1.08 * highest), xticks=QUARTERS)
        _legend(figure, figure.axes)
        figure.supxlabel("threshold probability", fontsize=9)
        figure.supylabel("net benefit", fontsize=9)
        return svg(figure)


def _draw_curve(panel: Axes, each: ClassProbabilities) -> None:
    thresholds = [point.threshold for point in each.curve]
    ends = np.array([point.model.ends or (np.nan, np.nan) for point in each.curve])
    panel.fill_between(thresholds, ends[:, 0], ends[:, 1], color=BLUE, alpha=0.16, linewidth=0)
    if each.curve_as_trained:
        values = [point.model.value for point in each.curve_as_trained]
        panel.plot(thresholds, values, color=GREEN, linestyle=":", linewidth=1.3, label="model as trained")
    name = "model, calibrated" if each.curve_as_trained else "model"
    panel.plot(thresholds, [point.model.value for point in each.curve], color=BLUE, linewidth=1.6, label=name)
    panel.plot(
        [0.0, *thresholds],
        [each.prevalence, *(point.treat_all for point in each.curve)],
        color=VERMILION,
        linestyle="--",
        linewidth=1.2,
        label="acting on all",
    )
    panel.axhline(0, color=INK, linewidth=0.8, alpha=0.6, label="acting on none")
