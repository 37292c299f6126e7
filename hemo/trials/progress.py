"""Progress files of running trials and plans of sweeps, in the folder of records; `hemo status` reads them."""

import math
from collections.abc import Sequence
from typing import Literal, TypeVar

from pydantic import Field, ValidationError

from hemo.config.tune import Values
from hemo.config.types import Config
from hemo.errors import SourceError
from hemo.storage import exists, join, list_files, read_json, remove, write_json
from hemo.training.results import EpochMetrics

PROGRESS = "progress.json"
"""Beside a trial's checkpoint while it runs; removed when its record is written."""

PLANS = "sweeps"
"""Folder below `out`, with a file for each grid or search that ran there."""

CURVES = tuple((split, name) for name in ("loss", "accuracy") for split in ("train", "val"))
"""Split and metric of the learning curves that are shown."""

C = TypeVar("C", bound=Config)


class TrialProgress(Config):
    """`OUT/DIGEST/progress.json`: a running trial after its last whole epoch."""

    name: str
    epochs: int = Field(description="at most")
    epoch: int = Field(0, description="whole epochs done")
    val: dict[str, float] = Field({}, description="metric -> value, of the last epoch")
    best_val_loss: float | None = None
    curves: dict[str, tuple[float, ...]] = Field(
        {}, description="`train loss`, `val loss`, `train accuracy`, `val accuracy` -> value of each epoch done"
    )
    seconds: float = Field(0.0, description="training time so far")
    updated: str = Field(description="UTC, ISO 8601")


class PlannedTrial(Config):
    """A trial of a grid, or one that a search has started."""

    digest: str
    name: str
    epochs: int = Field(description="at most")


class SweepPlan(Config):
    """`OUT/sweeps/NAME.json`: the trials of a grid or a search."""

    name: str = Field(description="the same for the same grid or search, whatever its number of trials")
    kind: Literal["grid", "search"]
    trials: tuple[PlannedTrial, ...] = Field(description="of a grid all; of a search those started so far")
    count: int = Field(
        description="number of trials in the end; a point that a search draws again is not counted twice"
    )
    concurrent: int
    began: str = Field(description="UTC, ISO 8601, of the last run")
    space: dict[str, Values] = Field({}, description="of a search: dotted setting -> what it is drawn from")
    metric: str = Field("", description="of a search: the metric it selects by")
    selected: str = Field("", description="of a search: digest of the trial it selected last")


def learning_curves(epochs: Sequence[EpochMetrics]) -> dict[str, tuple[float, ...]]:
    """Return `train loss`, `val loss`, `train accuracy`, `val accuracy` by epoch, those that all epochs have."""
    curves = {
        f"{split} {name}": tuple(getattr(epoch, split).get(name, math.nan) for epoch in epochs)
        for split, name in CURVES
    }
    return {name: values for name, values in curves.items() if values and all(map(math.isfinite, values))}


def write_progress(folder: str, digest: str, progress: TrialProgress) -> None:
    """Write how far a trial below `folder`, the folder of records, is."""
    write_json(join(folder, digest, PROGRESS), progress.model_dump(mode="json"))


def read_progress(folder: str, digest: str) -> TrialProgress | None:
    """Return the progress of a trial; None where none runs or ended without a record."""
    path = join(folder, digest, PROGRESS)
    return _read(path, TrialProgress) if exists(path) else None


def clear_progress(folder: str, digest: str) -> None:
    """Remove the progress of a trial that ended."""
    remove(join(folder, digest, PROGRESS))


def write_plan(folder: str, plan: SweepPlan) -> None:
    """Write the plan of a sweep, in a file of its own: several sweeps may share a folder of records."""
    write_json(join(folder, PLANS, f"{plan.name}.json"), plan.model_dump(mode="json"))


def write_selection(folder: str, name: str, digest: str) -> None:
    """Write the selected trial into a search's plan; where the plan was removed, the record alone has it."""
    path = join(folder, PLANS, f"{name}.json")
    if exists(path):
        write_plan(folder, _read(path, SweepPlan).model_copy(update={"name": name, "selected": digest}))


def read_plans(folder: str) -> list[SweepPlan]:
    """Return the plan of each sweep of a folder of records, by the time it began."""
    paths = [join(folder, PLANS, name) for name in list_files(join(folder, PLANS)) if name.endswith(".json")]
    return sorted((_read(path, SweepPlan) for path in paths), key=lambda plan: plan.began)


def _read(path: str, kind: type[C]) -> C:
    """Read one file.

    Raises:
        SourceError: If it is damaged.
    """
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        raise SourceError(f"{path} is damaged; remove it: the next run writes it again") from error
