"""Reliability diagrams: how often what was said with some probability was so."""

import math
from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes

from hemo.reporting.comparison import Comparison
from hemo.reporting.figures.style import BLUE, INK, VERMILION, drawing, panels, short, svg
from hemo.stats.curves import CALIBRATION_BINS, Reliability, reliability
from hemo.trials.predictions import Scores
from hemo.trials.record import title_of

PANELS_A_ROW = 3
COUNTS_HEIGHT = 0.3
"""Height of the bar of the fullest bin, as a share of the panel."""
TITLE_CHARACTERS = 36


def reliability_diagrams(comparison: Comparison) -> str | None:
    """Return one diagram a trial on test; of several labels one a class of the trial to look at.

    Points on the diagonal are honest; below it probabilities are too high. Bars count the images in each bin.

    Returns:
        SVG, or None where test was not read.
    """
    found = list(_diagrams(comparison))
    if not found:
        return None
    across = min(PANELS_A_ROW, len(found))
    with drawing(2.9 * max(across, 2), 2.9 * math.ceil(len(found) / across)) as figure:
        for panel, (name, diagram) in zip(panels(figure, len(found), across, square=True), found, strict=True):
            _panel(panel, name, diagram)
        figure.supxlabel("probability said", fontsize=9)
        figure.supylabel("share found", fontsize=9)
        return svg(figure)


def _diagrams(comparison: Comparison) -> Iterator[tuple[str, Reliability]]:
    if not comparison.shown:
        return
    first = comparison.shown[0]
    if first.scores.exclusive:
        yield f"{title_of(first.record)}, most probable class", _of_most_probable(first.scores)
    elif first.scores.labels.shape[1] > 1:
        for column, name in enumerate(first.record.classes):
            yield name, reliability(first.scores.probabilities[:, column], first.scores.labels[:, column])
    else:
        for shown in comparison.shown:
            yield title_of(shown.record), reliability(shown.scores.probabilities[:, 0], shown.scores.labels[:, 0])


def _of_most_probable(scores: Scores) -> Reliability:
    return reliability(scores.probabilities.max(axis=1), scores.correct.astype(np.int64))


def _panel(panel: Axes, name: str, diagram: Reliability) -> None:
    bins = np.minimum(diagram.said * CALIBRATION_BINS // 1, CALIBRATION_BINS - 1)
    panel.bar(
        (bins + 0.5) / CALIBRATION_BINS,
        COUNTS_HEIGHT * diagram.counts / diagram.counts.max(),
        width=0.9 / CALIBRATION_BINS,
        color=INK,
        alpha=0.18,
    )
    panel.plot([0, 1], [0, 1], color=INK, alpha=0.35, linewidth=0.8)
    panel.plot(diagram.said, diagram.found, color=BLUE, marker="o", markersize=3.5, linewidth=1)
    at = int(diagram.counts.argmax())
    place = (float(bins[at]) + 0.5) / CALIBRATION_BINS
    side = "left" if place < 0.15 else "right" if place > 0.85 else "center"
    panel.text(
        place, COUNTS_HEIGHT + 0.02, f"{diagram.counts[at]:,}", ha=side, va="bottom", fontsize=7, color=VERMILION
    )
    panel.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    panel.set_title(f"{short(name, TITLE_CHARACTERS)}\nECE {diagram.error:.3f}", fontsize=8, loc="left")
