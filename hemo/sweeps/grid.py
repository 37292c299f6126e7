"""A grid of cells and axes to the list of its trials."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from hemo.config.trial import TrialConfig
from hemo.config.tune import GridConfig, changed, flattened, nested, settings_name, varying
from hemo.digest import digest_of
from hemo.errors import ConfigError


def grid_trials(base: TrialConfig, grid: GridConfig) -> list[TrialConfig]:
    """Return one trial for every cell with every combination of the axes and every repeat, each with its own name.

    They are in the order of the config; repeats follow each other. A cell keeps its own name. Cells without a name, or
    with the same name, are named by the fields in which they differ.

    Args:
        base: Settings shared by all trials.
        grid: Cells, axes or both, and how often each is repeated.

    Raises:
        ConfigError: If a cell is not a valid trial, sets a field that is also an axis, or is the same trial as another.
    """
    trials, origins = [], []
    for origin, changes in _combinations(grid):
        trial = changed(base, changes, origin=origin)
        for repeat in range(grid.repeats):
            trials.append(trial.model_copy(update={"seed": trial.seed + repeat}))
            origins.append(origin + (f", repeat {repeat + 1}" if repeat else ""))
    _refuse_duplicates(trials, origins)
    return _named(trials)


def _combinations(grid: GridConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the origin of each combination, for error messages, and its changes."""
    for number, cell in enumerate(grid.cells or ({},)):
        origin = f"grid.cells[{number}]" if grid.cells else "grid.axes"
        for key, _ in flattened(nested(cell)):
            if key in grid.axes:
                raise ConfigError(f"{origin}: {key} is set here and is an axis as well; set it in one of the two")
        for values in itertools.product(*grid.axes.values()):
            point = dict(zip(grid.axes, values, strict=True))
            at = " with " + ", ".join(f"{key} {value}" for key, value in point.items()) if point else ""
            yield origin + at, {**cell, **point}


def _refuse_duplicates(trials: Sequence[TrialConfig], origins: Sequence[str]) -> None:
    """Refuse two cells that are the same trial and would share one record."""
    first: dict[str, str] = {}
    for trial, origin in zip(trials, origins, strict=True):
        digest = digest_of(trial.deciding())
        if digest in first:
            raise ConfigError(
                f"{origin} is the same trial as {first[digest]}; change a field (such as seed) or leave one out"
            )
        first[digest] = origin


def _named(trials: Sequence[TrialConfig]) -> list[TrialConfig]:
    """Return the trials with unique names."""
    sharing: dict[str, list[TrialConfig]] = defaultdict(list)
    for trial in trials:
        sharing[trial.name].append(trial)
    names = [_name(trial, sharing[trial.name]) for trial in trials]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"grid: two cells would be named {name!r}; give each cell its own name")
    return [trial.model_copy(update={"name": name}) for trial, name in zip(trials, names, strict=True)]


def _name(trial: TrialConfig, sharing: Sequence[TrialConfig]) -> str:
    """Return the configured name, followed by the settings in which `trial` differs from others of that name."""
    if not trial.name:
        return settings_name(trial, ["model.backbone", *(key for key in varying(sharing) if key != "model.backbone")])
    return trial.name if len(sharing) == 1 else f"{trial.name}, {settings_name(trial, varying(sharing))}"
