"""What a sweep leaves while it runs: which trials it wants, and how far each running one is; `hemo status` reads it."""

from typing import Literal, TypeVar

from pydantic import Field, ValidationError

from hemo.config.tune import Values
from hemo.config.types import Config
from hemo.errors import SourceError
from hemo.storage import exists, join, list_files, read_json, remove, write_json

PROGRESS = "progress.json"
"""Beside a trial's checkpoint while it runs; removed when its record is written."""

PLANS = "sweeps"
"""Folder below `out`, with a file for each grid or search that ran there."""

C = TypeVar("C", bound=Config)


class TrialProgress(Config):
    """`OUT/DIGEST/progress.json`: a running trial after its last whole epoch."""

    name: str
    epochs: int = Field(description="at most")
    epoch: int = Field(0, description="whole epochs done")
    val: dict[str, float] = Field({}, description="metric -> value, of the last epoch")
    best_val_loss: float | None = None
    seconds: float = Field(0.0, description="learning time so far")
    updated: str = Field(description="UTC, ISO 8601")


class PlannedTrial(Config):
    """A trial that a grid wants."""

    digest: str
    name: str
    epochs: int = Field(description="at most")


class SweepPlan(Config):
    """`OUT/sweeps/NAME.json`: what a grid or a search wants of its folder."""

    name: str = Field(description="the same for the same grid or search, however many trials it wants")
    kind: Literal["grid", "search"]
    trials: tuple[PlannedTrial, ...] = Field(description="of a grid all; of a search those it asked for so far")
    count: int = Field(description="trials wanted; a point that a search draws again is none")
    at_once: int
    began: str = Field(description="UTC, ISO 8601, of the last run")
    space: dict[str, Values] = Field({}, description="of a search: dotted setting -> what it is drawn from")
    metric: str = Field("", description="of a search: what it chooses by")
    chosen: str = Field("", description="of a search: digest of the trial it chose last")


def write_progress(folder: str, digest: str, progress: TrialProgress) -> None:
    """Say how far a trial below `folder`, the folder of records, is."""
    write_json(join(folder, digest, PROGRESS), progress.model_dump(mode="json"))


def read_progress(folder: str, digest: str) -> TrialProgress | None:
    """Return how far a trial is; None where none runs or ran unfinished."""
    place = join(folder, digest, PROGRESS)
    return _read(place, TrialProgress) if exists(place) else None


def clear_progress(folder: str, digest: str) -> None:
    """Say that a trial runs no more."""
    remove(join(folder, digest, PROGRESS))


def write_plan(folder: str, plan: SweepPlan) -> None:
    """Say what a sweep wants, in a file of its own: several sweeps may share a folder of records."""
    write_json(join(folder, PLANS, f"{plan.name}.json"), plan.model_dump(mode="json"))


def write_choice(folder: str, name: str, digest: str) -> None:
    """Say in a search's plan which trial it chose; where the plan was removed, the record alone says it."""
    place = join(folder, PLANS, f"{name}.json")
    if exists(place):
        write_plan(folder, _read(place, SweepPlan).model_copy(update={"chosen": digest}))


def read_plans(folder: str) -> list[SweepPlan]:
    """Return what each sweep of a folder of records wanted, the one that began last at the end."""
    places = [join(folder, PLANS, name) for name in list_files(join(folder, PLANS)) if name.endswith(".json")]
    return sorted((_read(place, SweepPlan) for place in places), key=lambda plan: plan.began)


def _read(place: str, kind: type[C]) -> C:
    """Read a file back.

    Raises:
        SourceError: If it is damaged.
    """
    try:
        return kind.model_validate(read_json(place))
    except ValidationError as error:
        raise SourceError(f"{place} is damaged; remove it: the next run writes it again") from error
