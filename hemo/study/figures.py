"""Figures of a comparison as SVG: curves by epoch, and learning time against accuracy.

Text and axes take the colour of the page (`currentColor`), so that one file serves light and dark. Series differ in hue
and in line or marker, in colours that colour-blind readers can tell apart.

Source of the colours: Okabe and Ito, Color Universal Design (2008).
"""

import io
import math
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib import RcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hemo.study.comparison import Comparison, figures_of, title_of
from hemo.study.record import TrialRecord

INK = "#010203"
"""Stands for the page's own text colour until the SVG is written."""
SERIES = {"train": ("#0072b2", "o", "-"), "val": ("#d55e00", "s", "--"), "test": ("#009e73", "D", ":")}
"""Split -> colour, marker, line."""
STYLE: RcParams = RcParams(
    {
        "font.size": 9.0,
        "svg.fonttype": "none",
        "svg.hashsalt": "hemo",
        "text.parse_math": False,
        "axes.grid": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.7,
        "lines.linewidth": 1.6,
        "grid.alpha": 0.12,
        "grid.linewidth": 0.6,
        **dict.fromkeys(
            ("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color", "grid.color"), INK
        ),
        **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    }
)
PANEL_INCHES = (2.6, 1.9)
PANELS_A_ROW = 4
LABEL_CHARACTERS = 34


def curves(comparison: Comparison, metric: str) -> str:
    """Return one panel a trial with `metric` on train and validation by epoch, all on the same scales.

    Args:
        comparison: Trials that ran or failed; those without an epoch have no panel.
        metric: `loss` or `accuracy`.

    Returns:
        SVG, or an empty string if no trial finished an epoch.
    """
    records = [record for record in comparison.ran if record.epochs]
    if not records:
        return ""
    across = min(PANELS_A_ROW, len(records))
    down = math.ceil(len(records) / across)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PANEL_INCHES[0] * max(across, 2), PANEL_INCHES[1] * down + 0.3), layout="constrained")
        panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        for place in range(len(records), panels.size):
            panels.flat[place].set_visible(False)
            panels.flat[place - across].xaxis.set_tick_params(labelbottom=True)
        for panel, record in zip(panels.flat, records, strict=False):
            _curve_panel(panel, record, metric)
        _say_lines(figure, panels.flat[0])
        figure.supxlabel("epoch", fontsize=9)
        figure.supylabel(metric, fontsize=9)
        return _svg(figure)


def time_against_accuracy(comparison: Comparison) -> str:
    """Return a scatter of learning time against accuracy on train, validation and test, each trial named at the right.

    Returns:
        SVG, or an empty string if no trial has figures.
    """
    records = [record for record in comparison.ran if "accuracy" in figures_of(record, "val")]
    if not records:
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, max(3.6, 0.19 * len(records) + 1.2)), layout="constrained")
        axes = figure.subplots()
        for record in records:
            _trial_points(axes, record)
        axes.set_xlabel("learning time (minutes)")
        axes.set_ylabel("accuracy")
        axes.margins(x=0.04, y=0.08)
        _name_at_right(axes, records)
        handles, splits = axes.get_legend_handles_labels()
        unique = dict(zip(splits, handles, strict=True))
        axes.legend(
            unique.values(),
            unique.keys(),
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=3,
            frameon=False,
            borderpad=0,
            handletextpad=0.2,
        )
        return _svg(figure)


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
    panel.set_title(_short(record), fontsize=8, loc="left")
    panel.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))


def _say_lines(figure: Figure, panel: Axes) -> None:
    """Name the lines above all panels."""
    names = ["train", "validation", "best epoch"]
    figure.legend(
        panel.get_lines()[:3], names, loc="outside upper left", ncols=3, frameon=False, borderpad=0, handlelength=2.2
    )


def _trial_points(axes: Axes, record: TrialRecord) -> None:
    """Draw a trial's accuracies above its learning time, joined by a thin line."""
    minutes = record.seconds / 60
    known = {split: figures_of(record, split) for split in SERIES}
    points = {split: figures["accuracy"] for split, figures in known.items() if "accuracy" in figures}
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
    ordered = sorted(records, key=lambda record: (figures_of(record, "val")["accuracy"], -record.seconds))
    for place, record in enumerate(ordered):
        height = (place + 0.5) / len(ordered)
        point = (record.seconds / 60, figures_of(record, "val")["accuracy"])
        arrow = {"arrowstyle": "-", "color": INK, "alpha": 0.3, "linewidth": 0.6, "shrinkA": 2, "shrinkB": 4}
        axes.annotate(
            _short(record),
            point,
            xytext=(1.04, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            arrowprops=arrow,
        )


def _short(record: TrialRecord) -> str:
    name = title_of(record)
    fitting = name if len(name) <= LABEL_CHARACTERS else name[: LABEL_CHARACTERS - 3] + "..."
    return f"{fitting} (pruned)" if record.status == "pruned" else fitting


def _svg(figure: Figure) -> str:
    """Return a figure as an SVG element without prologue, date or metadata, in the page's own ink and font."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    content = text.getvalue()
    return content[content.index("<svg") :].replace(INK, "currentColor")
