"""Plots of a search: best value so far, parallel coordinates of the settings, and their importance."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from hemo.reporting.figures.style import BLUE, GREEN, INK, PAPER, VERMILION, drawing, legend_above, short, svg
from hemo.reporting.trial_table import setting_name, setting_text
from hemo.sweeps.results import LOG_RATIO, Importance, Search, Trial

MAX_TICKS = 8
"""Values of a setting labelled on its axis, at most; of more, the ends."""
APART = 0.05
"""Width, as a fraction of an axis, over which trials with the same value are spread."""
TICK_CHARACTERS = 22
BEHIND = {"facecolor": PAPER, "alpha": 0.85, "edgecolor": "none", "pad": 0.8}
"""Background of text, so that lines do not cross it."""


def best_so_far(search: Search) -> str:
    """Return each trial's value in the order in which they ended, and the best complete one so far, as SVG."""
    with drawing(8.6, 3.2) as figure:
        axes = figure.subplots()
        for status, colour, marker in (("complete", BLUE, "o"), ("pruned", VERMILION, "x")):
            points = [(at, each.value) for at, each in enumerate(search.trials, 1) if each.record.status == status]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    color=colour,
                    marker=marker,
                    markersize=5,
                    linestyle="none",
                    label=status,
                )
        best = _running_best(search)
        axes.step(range(1, len(best) + 1), best, where="post", color=GREEN, label="best complete so far")
        selected = [(at, each.value) for at, each in enumerate(search.trials, 1) if each.record is search.selected]
        if selected:
            _mark_selected(axes, selected)
        axes.set_xlabel("trial, in the order in which they ended")
        axes.set_ylabel(search.metric_name)
        legend_above(axes, columns=4)
        return svg(figure)


def parallel_coordinates(search: Search) -> str | None:
    """Return one line for each trial through its settings to its result; None with only one setting."""
    if len(search.keys) < 2:
        return None
    columns = [[trial.settings[key] for trial in search.trials] for key in search.keys]
    columns.append([trial.value for trial in search.trials])
    with drawing(max(7.0, 1.7 * len(columns)), 4.2) as figure:
        axes = figure.subplots()
        heights = [_axis(axes, x, values) for x, values in enumerate(columns)]
        for at, trial in enumerate(search.trials):
            axes.plot(range(len(columns)), [column[at] for column in heights], **_line(trial, search))
        names = [setting_name(key) for key in search.keys]
        axes.set_xticks(range(len(columns)), [*names, search.metric_name])
        axes.set(xlim=(-0.15, len(columns) - 0.45), ylim=(-0.06, 1.06), yticks=[])
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(length=0, pad=8)
        axes.grid(visible=False)
        legend_above(axes, columns=4)
        return svg(figure)


def importance_bars(importance: Importance) -> str:
    """Return one bar for each setting, the most important first, as SVG."""
    with drawing(8.6, 0.9 + 0.32 * len(importance.fractions)) as figure:
        axes = figure.subplots()
        fractions = list(importance.fractions.values())
        axes.barh(range(len(fractions)), fractions, height=0.6, color=BLUE, alpha=0.75)
        for y, fraction in enumerate(fractions):
            axes.text(fraction + 0.01, y, f"{fraction:.2f}", va="center", fontsize=8)
        axes.set_yticks(range(len(fractions)), [setting_name(key) for key in importance.fractions])
        axes.set(ylim=(len(fractions) - 0.5, -0.5), xlim=(0, max(1.0, max(fractions) * 1.1)))
        axes.set_xlabel("fraction of variance explained (fANOVA)")
        axes.grid(visible=False, axis="y")
        return svg(figure)


def _mark_selected(axes: Axes, points: Sequence[tuple[int, float]]) -> None:
    axes.plot(
        *zip(*points, strict=True),
        marker="o",
        markersize=11,
        linestyle="none",
        markerfacecolor="none",
        markeredgecolor=INK,
        label="selected",
    )


def _running_best(search: Search) -> list[float]:
    """Return the best complete value up to each trial; NaN before the first."""
    better = min if search.less_is_better else max
    best, values = math.nan, []
    for trial in search.trials:
        if trial.record.status == "complete":
            best = trial.value if math.isnan(best) else better(best, trial.value)
        values.append(best)
    return values


def _line(trial: Trial, search: Search) -> dict[str, Any]:
    """Return the style of a trial's line: the best one, the best quarter, other complete ones, pruned ones."""
    ranked = search.ranked()
    if trial.record.status == "pruned":
        return {"color": INK, "alpha": 0.35, "linewidth": 0.8, "linestyle": ":", "label": "pruned", "zorder": 1}
    if trial is ranked[0]:
        return {"color": VERMILION, "linewidth": 2.4, "label": "best", "zorder": 4}
    if ranked.index(trial) < math.ceil(len(ranked) / 4):
        return {"color": BLUE, "linewidth": 1.4, "linestyle": "--", "label": "best quarter", "zorder": 3}
    return {"color": INK, "alpha": 0.45, "linewidth": 0.9, "label": "other complete", "zorder": 2}


def _axis(axes: Axes, x: int, values: Sequence[Any]) -> list[float]:
    """Draw one vertical axis with its values, and return the height of each trial on it, about 0 to 1."""
    axes.axvline(x, color=INK, linewidth=0.7, alpha=0.6)
    scaled = _scaled(values)
    ticks = sorted({(height, setting_text(value)) for height, value in zip(scaled, values, strict=True)})
    if len(ticks) > MAX_TICKS:
        ticks = [ticks[0], ticks[-1]]
    for height, text in ticks:
        axes.text(x + 0.03, height, short(text, TICK_CHARACTERS), va="center", fontsize=7.5, zorder=5, bbox=BEHIND)
    return _spread(scaled)


def _scaled(values: Sequence[Any]) -> list[float]:
    """Return heights 0 to 1: numbers on a linear or, from a factor of ten, logarithmic scale; texts evenly, sorted."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        low, high = min(values), max(values)
        if low > 0 and isinstance(low, float) and high / low >= LOG_RATIO:
            return [math.log(value / low) / math.log(high / low) for value in values]
        return [(value - low) / (high - low) if high > low else 0.5 for value in values]
    names = sorted(set(map(str, values)))
    return [names.index(str(value)) / max(1, len(names) - 1) for value in values]


def _spread(heights: Sequence[float]) -> list[float]:
    """Return heights with equal ones spread, so that no line hides another."""
    moved = []
    for index, height in enumerate(heights):
        same = [other for other, value in enumerate(heights) if value == height]
        moved.append(height + APART * ((same.index(index) + 0.5) / len(same) - 0.5) if len(same) > 1 else height)
    return moved
