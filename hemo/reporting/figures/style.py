"""Style shared by all plots: colours, lines, panels, legends, and their SVG.

Text and axes take the colour of the page (`currentColor`), so that one file serves light and dark. Series differ in hue
and in line or marker, in colours that colour-blind readers can tell apart.

Source of the colours: Okabe and Ito, Color Universal Design (2008).
"""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
from matplotlib import RcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hemo.trials.record import TrialRecord, title_of

INK = "#010203"
"""Stands for the page's own text colour until the SVG is written."""
PAPER = "#030201"
"""Stands for the page's own background, behind text that lines would cross; transparent outside a page."""
BLUE, VERMILION, GREEN = "#0072b2", "#d55e00", "#009e73"
LINES = (
    (BLUE, "-"),
    (VERMILION, "--"),
    (GREEN, "-."),
    ("#cc79a7", ":"),
    ("#e69f00", (0, (6, 1.5))),
    ("#56b4e9", (0, (3, 1, 1, 1, 1, 1))),
)
"""Colour and dashes of as many series as one pair of axes may have."""
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
LABEL_CHARACTERS = 34


@contextmanager
def drawing(width_inches: float, height_inches: float) -> Iterator[Figure]:
    """Yield an empty figure in hemo's style; draw and call `svg` inside the context."""
    with mpl.rc_context(STYLE):
        yield Figure(figsize=(width_inches, height_inches), layout="constrained")


def panels(figure: Figure, count: int, columns: int, *, square: bool = False) -> list[Axes]:
    """Return `count` panels with shared axes, at most `columns` in a row, and hide unused ones.

    Args:
        figure: To draw on.
        count: Of panels, at least one.
        columns: At most in a row.
        square: Whether both axes have the same scale.
    """
    columns = min(columns, count)
    grid = figure.subplots(math.ceil(count / columns), columns, sharex=True, sharey=True, squeeze=False)
    for index in range(count, grid.size):
        grid.flat[index].set_visible(False)
        grid.flat[index - columns].xaxis.set_tick_params(labelbottom=True)
    if square:
        for panel in grid.flat:
            panel.set_aspect("equal")
    return list(grid.flat[:count])


def short(text: str, characters: int = LABEL_CHARACTERS) -> str:
    """Return text, truncated if it has more than `characters`."""
    return text if len(text) <= characters else text[: characters - 3] + "..."


def label(record: TrialRecord, characters: int = LABEL_CHARACTERS) -> str:
    """Return a trial's name in a figure."""
    fitting = short(title_of(record), characters)
    return f"{fitting} (pruned)" if record.status == "pruned" else fitting


def legend_above(axes: Axes, columns: int) -> None:
    """Draw the legend above `axes`, with each series once."""
    handles, names = axes.get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    axes.legend(
        unique.values(),
        unique.keys(),
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
        frameon=False,
        borderpad=0,
        handletextpad=0.4,
    )


def svg(figure: Figure) -> str:
    """Return a figure as an SVG element without prologue, date or metadata, in the page's text colour and font."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    content = text.getvalue()
    return content[content.index("<svg") :].replace(INK, "currentColor").replace(PAPER, "var(--paper, transparent)")
