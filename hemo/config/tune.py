"""What `tune` is told."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, NonNegativeInt, PositiveFloat, PositiveInt, Tag, model_validator

from hemo.config.train import FEED_IN_WORDS, Feed, TrackingConfig, WorkersConfig
from hemo.config.trial import TrialConfig
from hemo.config.types import ClusterConfig, Config, Location


class GridConfig(Config):
    """Cells written out, or the product of axes; both: every cell with every combination."""

    cells: tuple[dict[str, Any], ...] = Field(
        (), description="changes of `trial`, nested or dotted: {name: a, model.backbone: ResNet50}"
    )
    axes: dict[str, tuple[Any, ...]] = Field({}, description="dotted field of `trial` -> values; the product is taken")
    repeats: PositiveInt = Field(
        1, description="trials of each cell: with its own seed and those after it; tables tell mean and spread"
    )

    @model_validator(mode="after")
    def _has_cells(self) -> Self:
        if not self.cells and not self.axes:
            raise ValueError("grid needs `cells` or `axes`")
        return self


class Choices(Config):
    """One of several values."""

    choices: Annotated[tuple[str | int | float | bool, ...], Field(min_length=1)]


class Range(Config):
    """A number between two ends, both included."""

    low: int | float
    high: int | float
    log: bool = Field(False, description="draw evenly in the logarithm")

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"low {self.low} must be below high {self.high}, and above 0 where log is true")
        return self


def _kind(values: Any) -> str:
    """Tell which of the two is meant, so that an error speaks of that one only."""
    listed = isinstance(values, Choices) or (isinstance(values, Mapping) and "choices" in values)
    return "Choices" if listed else "Range"


Values = Annotated[Annotated[Choices, Tag("Choices")] | Annotated[Range, Tag("Range")], Discriminator(_kind)]
"""What a search may draw one field from."""


Objective = Literal["val_loss", "val_accuracy", "val_auroc", "latency_ms"]

MINIMISED: tuple[Objective, ...] = ("val_loss", "latency_ms")
"""Objectives of which less is better; of the others more is."""


class SearchConfig(Config):
    """An Optuna search: chosen on validation; test is read once, for the chosen."""

    space: Annotated[dict[str, Values], Field(min_length=1)] = Field(
        description="dotted field of `trial` -> {choices: [...]} or {low, high, log}"
    )
    trials: PositiveInt = Field(24, description="trials to run")
    metric: Literal["val_loss", "val_accuracy", "val_auroc"] = Field(
        "val_loss",
        description="what is optimised: of the epoch with the lowest validation loss; val_accuracy at threshold 0.5, "
        "not at the one chosen in the end",
    )
    objectives: tuple[Objective, ...] = Field(
        (),
        description="several at once, such as [val_accuracy, latency_ms]: the trials no other beats in all of them "
        "are told in the end, and of these `metric`, one of them, chooses; needs `scheduler: none`",
    )
    scheduler: Literal["none", "asha", "median"] = Field(
        "asha", description="stops poor trials early; they are recorded as pruned"
    )
    grace_epochs: PositiveInt = Field(2, description="epochs before a trial may be stopped by the scheduler")
    seed: NonNegativeInt = Field(0, description="seed of the sampler")
    first: tuple[dict[str, Any], ...] = Field((), description="points of the space to try first")
    storage: str = Field(
        "journal", description="`journal`: a file under `out`; or an RDB URL such as sqlite:////shared/study.db"
    )

    @model_validator(mode="after")
    def _objectives_fit(self) -> Self:
        if not self.objectives:
            return self
        if len(set(self.objectives)) < max(2, len(self.objectives)):
            raise ValueError(
                f"objectives {_listed(self.objectives)} must be two or more different ones; for one, metric"
            )
        if self.metric not in self.objectives:
            raise ValueError(
                f"metric {self.metric}, which chooses in the end, is none of the objectives "
                f"{_listed(self.objectives)}; set it to one of them"
            )
        if self.scheduler != "none":
            raise ValueError(
                f"scheduler {self.scheduler} stops trials by one figure, and there are {len(self.objectives)} "
                "objectives; set scheduler to none, or leave out objectives"
            )
        return self

    @property
    def optimised(self) -> tuple[Objective, ...]:
        """What the study is told of a trial: the objectives, or the metric alone."""
        return self.objectives or (self.metric,)

    def deciding(self) -> dict[str, Any]:
        """Return what makes it this search and no other: it may grow, and begin or lie elsewhere."""
        beside = {"trials", "first", "seed", "storage"} | ({"objectives"} if not self.objectives else set())
        return self.model_dump(mode="json", exclude=beside)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)


class TuneConfig(Config):
    """A training set and a grid or a search to one record a trial."""

    training_set: Location = Field(description="output folder of `curate`")
    out: Location = Field(description="folder of records, one a trial")
    trial: TrialConfig = Field(TrialConfig(), description="what every trial starts from")
    grid: GridConfig | None = Field(None, description="a list of cells")
    search: SearchConfig | None = Field(None, description="or a search space")
    concurrent: PositiveInt | Literal["auto"] = Field(
        "auto", description="trials at once; `auto`: as many as the cluster's CPUs and GPUs hold"
    )
    hours: PositiveFloat | Literal["unlimited"] = Field(
        "unlimited",
        description="no trial begins this long after the first; running ones end, and the same command goes on later",
    )
    retries: NonNegativeInt = Field(
        1,
        description="how often a trial that failed, or whose process was lost, is begun again before it is recorded as "
        "failed; it goes on after its last whole epoch",
    )
    feed: Feed = Field("auto", description=FEED_IN_WORDS)
    workers: WorkersConfig = WorkersConfig()
    tracking: TrackingConfig = TrackingConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _grid_or_search(self) -> Self:
        if (self.grid is None) == (self.search is None):
            raise ValueError("give either `grid` or `search`")
        return self
