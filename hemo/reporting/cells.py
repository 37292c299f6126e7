"""Cells of a grid: complete trials that differ by nothing but their seed, taken together."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from hemo.digest import digest_of
from hemo.reporting.trial_row import Row, figures_of
from hemo.sweeps.trial_changes import in_words, varying
from hemo.trials.record import title_of


@dataclass(frozen=True, eq=False)
class Cell:
    """Trials with the same settings but for the seed; at least one."""

    name: str
    rows: tuple[Row, ...]

    def values(self, split: str, metric: str) -> list[float]:
        """Return a figure of each trial that has it."""
        found = [figures_of(row.record, split) for row in self.rows]
        return [figures[metric] for figures in found if metric in figures]


def cells_of(rows: Sequence[Row]) -> list[Cell]:
    """Return the cells of all complete trials, that with the lowest mean validation loss first."""
    complete = [row for row in rows if row.record.status == "complete"]
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in complete:
        groups[digest_of({**row.record.config.deciding(), "seed": 0})].append(row)
    settings = [key for key in varying([row.record.config for row in complete]) if key != "seed"] if complete else []
    found = [Cell(_name(group, settings), tuple(group)) for group in groups.values()]
    return sorted(found, key=_mean_loss)


def _name(rows: Sequence[Row], settings: Sequence[str]) -> str:
    """Return what the trials' names have in common without the seed, else their settings in words."""
    if len(rows) == 1:
        return title_of(rows[0].record)
    names = {title_of(row.record).removesuffix(f", seed {row.record.config.seed}") for row in rows}
    if len(names) == 1:
        return names.pop()
    keys = ["model.backbone", *(key for key in settings if key != "model.backbone")]
    return in_words(rows[0].record.config, keys)


def _mean_loss(cell: Cell) -> float:
    return fmean(cell.values("val", "loss") or [float("inf")])
