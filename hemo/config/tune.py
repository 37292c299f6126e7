"""Configs of `train` and `tune`: trial, workers, grid, search; changes of a trial by dotted keys, and its name."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    field_validator,
    model_validator,
)

from hemo.config.trial import HEAD_FIELDS, TrialConfig
from hemo.config.types import ClusterConfig, Config, Gpus, Groups, Location
from hemo.config.validation import merge, validated
from hemo.errors import ConfigError, without_passwords

Feed = Literal["auto", "resident", "streaming"]
"""Where a training set's images are during training; batches, order and results do not depend on it."""

FEED_DESCRIPTION = (
    "`resident`: images are loaded once into Ray's object store, for all trials on a node; `streaming`: each trial "
    "reads them from the training set during training; `auto`: resident if they fit"
)

NAME_FORMATS = {
    "model.backbone": "{}",
    "model.weights": "weights {}",
    "model.pooling": "{}",
    "model.hidden_layers": "hidden {}",
    "model.dense_width": "dense {}",
    "model.dropout": "dropout {}",
    "training.learning_rate": "lr {:.3g}",
    "seed": "seed {}",
}
"""Dotted field -> format of its value in a trial name; other fields have `last_part value`."""


class TrackingConfig(Config):
    """Experiment tracker that gets metrics besides the record. No patient data; W&B's key is read by W&B itself."""

    backend: Literal["none", "tensorboard", "wandb"] = Field(
        "none",
        description="`wandb`: online if WANDB_API_KEY or ~/.netrc has a key, else offline; WANDB_MODE overrides both",
    )
    project: str = Field("hemo", pattern=r"^[^/\\#?%:\s]{1,128}$", description="W&B project")
    group: str = Field(
        "", max_length=128, description="W&B group of the run; empty: `tune` names it after its grid or search"
    )
    onnx: bool = Field(
        False, description="W&B: add `model.onnx` to the model artifact; takes some 10 s and 0.8 GB a trial"
    )


class WorkersConfig(Config):
    """Data-parallel workers of one trial. Their number is in the record but not in its digest.

    Steps, order and augmentation do not depend on it: a model without dropout and batch normalisation ends with the
    same weights within rounding. With them, results differ as between two seeds: each worker draws its own dropout,
    and on the CPU, or without `sync_batch_norm`, batch normalisation uses the images of one worker only.
    """

    count: PositiveInt = Field(1, description="data-parallel workers, among which a batch is divided")
    cpus: PositiveFloat = Field(1.0, description="CPUs of a worker")
    gpus: Gpus = Field("auto", description="GPUs of a worker; `auto`: one if the cluster has any")

    @model_validator(mode="after")
    def _has_whole_gpus(self) -> Self:
        if self.count > 1 and self.gpus != "auto" and not float(self.gpus).is_integer():
            raise ValueError(
                f"gpus {self.gpus:g}: {self.count} workers of one trial cannot share a GPU, NCCL refuses that; give "
                "gpus 1, or count 1"
            )
        return self


class TrainWorkersConfig(WorkersConfig):
    """Workers of `train`, fewer of which may do where nodes are missing or lost.

    A batch has as many images whatever number runs, in the same order; see `Worker` for what differs.
    """

    min_count: PositiveInt | Literal["all"] = Field(
        "all",
        description="fewest workers with which training begins, and goes on after its last whole epoch where others "
        "are lost; more join as nodes come, up to `count`; `all`: never fewer than `count`",
    )

    @model_validator(mode="after")
    def _is_not_above_count(self) -> Self:
        if self.fewest > self.count:
            raise ValueError(f"min_count {self.min_count} is above count {self.count}")
        return self

    @property
    def fewest(self) -> int:
        """Fewest workers that may run."""
        return self.count if self.min_count == "all" else self.min_count


class TrainConfig(Config):
    """Configuration of the `train` job."""

    GROUPS: ClassVar[Groups] = {
        "input": ("training_set",),
        "output": ("out",),
        "": ("trial",),
        "resources": ("feed", "workers", "cluster"),
        "tracking": ("tracking",),
    }

    training_set: Location = Field(description="output folder of `curate`")
    out: Location = Field(
        description="folder of records; the record is written to a folder in it that is named by its digest"
    )
    trial: TrialConfig = TrialConfig()
    feed: Feed = Field("auto", description=FEED_DESCRIPTION)
    workers: TrainWorkersConfig = TrainWorkersConfig()
    tracking: TrackingConfig = TrackingConfig()
    cluster: ClusterConfig = ClusterConfig()


class GridConfig(Config):
    """A grid: cells written out, or the product of axes; with both, every cell with every combination of the axes."""

    cells: tuple[dict[str, Any], ...] = Field(
        (), description="list of changes of `trial`, nested or dotted: [{name: a, model.backbone: ResNet50}]"
    )
    axes: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(
        {}, description="dotted field of `trial` and its values: {model.backbone: [ResNet50, VGG16]}; all combinations"
    )
    repeats: PositiveInt = Field(
        1, description="trials of each cell, with its own seed and those after it; tables show mean and spread"
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
    """A number between `low` and `high`, both included."""

    low: int | float
    high: int | float
    log: bool = Field(False, description="draw uniformly in the logarithm")

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"low {self.low} must be below high {self.high}, and above 0 where log is true")
        return self


def _kind(values: Any) -> str:
    """Return which of the two is meant, so that an error is about that one only."""
    listed = isinstance(values, Choices) or (isinstance(values, Mapping) and "choices" in values)
    return "Choices" if listed else "Range"


Values = Annotated[Annotated[Choices, Tag("Choices")] | Annotated[Range, Tag("Range")], Discriminator(_kind)]
"""Values that a search may draw for one field."""


Objective = Literal["val_loss", "val_accuracy", "val_auroc", "latency_ms"]

MINIMISED: tuple[Objective, ...] = ("val_loss", "latency_ms")
"""Objectives to be minimised; the others are maximised."""


class SearchConfig(Config):
    """An Optuna search. The best trial is selected on validation; only that trial is evaluated on test."""

    space: Annotated[dict[str, Values], Field(min_length=1)] = Field(
        description="dotted field of `trial` and its values: {choices: [...]} or {low, high, log}"
    )
    trials: PositiveInt = Field(24, description="number of trials")
    metric: Literal["val_loss", "val_accuracy", "val_auroc"] = Field(
        "val_loss",
        description="metric to optimise, at the epoch with the lowest validation loss; val_accuracy is that at "
        "threshold 0.5",
    )
    objectives: tuple[Objective, ...] = Field(
        (),
        description="several objectives, such as [val_accuracy, latency_ms]: the Pareto front is printed at the end, "
        "and the trial of it that is best by `metric`, one of the objectives, is selected; needs `scheduler: none`",
    )
    scheduler: Literal["none", "asha", "median"] = Field(
        "asha", description="stop poor trials early; they are recorded as pruned"
    )
    grace_epochs: PositiveInt = Field(2, description="epochs before the scheduler may stop a trial")
    seed: NonNegativeInt = Field(0, description="random seed of the sampler")
    first: tuple[dict[str, Any], ...] = Field(
        (), description="points of the space to try first, as list of {field: value}"
    )
    storage: str = Field(
        "journal",
        repr=False,  # a URL may hold a password
        description="storage of the Optuna study; `journal`: a file in `out`; or a database URL such as "
        "sqlite:////shared/study.db, one with a password as env:NAME of the variable that holds it",
    )

    @field_validator("storage")
    @classmethod
    def _holds_no_password(cls, storage: str) -> str:
        if without_passwords(storage) != storage:
            raise ValueError(
                "holds a password, which lists of processes and of Ray's jobs show; put the URL into an environment "
                "variable and give env:NAME, or leave the password to PGPASSWORD or ~/.pgpass"
            )
        return storage

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
                f"metric {self.metric}, which chooses among the Pareto front, is none of the objectives "
                f"{_listed(self.objectives)}; set it to one of them"
            )
        if self.scheduler != "none":
            raise ValueError(
                f"scheduler {self.scheduler} compares trials by one metric, and there are {len(self.objectives)} "
                "objectives; set scheduler to none, or leave out objectives"
            )
        return self

    @property
    def optimised(self) -> tuple[Objective, ...]:
        """Values of a trial that the Optuna study gets: the objectives, or the metric alone."""
        return self.objectives or (self.metric,)

    def deciding(self) -> dict[str, Any]:
        """Return the fields that define the search; more trials, other first points, seed or storage continue it."""
        others = {"trials", "first", "seed", "storage"} | ({"objectives"} if not self.objectives else set())
        return self.model_dump(mode="json", exclude=others)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)


class TuneConfig(Config):
    """Configuration of the `tune` job."""

    GROUPS: ClassVar[Groups] = {
        "input": ("training_set",),
        "output": ("out",),
        "": ("trial",),
        "grid": ("grid",),
        "search": ("search",),
        "trials": ("concurrent", "hours", "retries"),
        "resources": ("feed", "workers", "cluster"),
        "tracking": ("tracking",),
    }

    training_set: Location = Field(description="output folder of `curate`")
    out: Location = Field(description="folder of records, one for each trial")
    trial: TrialConfig = Field(TrialConfig(), description="config of every trial, changed by `grid` or `search`")
    grid: GridConfig | None = Field(None, description="trials written out")
    search: SearchConfig | None = Field(None, description="trials drawn from a space")
    concurrent: PositiveInt | Literal["auto"] = Field(
        "auto", description="trials that run at the same time; `auto`: as many as the cluster's CPUs and GPUs allow"
    )
    hours: PositiveFloat | Literal["unlimited"] = Field(
        "unlimited",
        description="time budget: no trial starts later than this after the first; running ones end, and the same "
        "command continues",
    )
    retries: NonNegativeInt = Field(
        1,
        description="how often a trial that failed is started again after its last whole epoch before it is recorded "
        "as failed; one whose process died, such as out of memory, is started again 8 times, one whose node was lost "
        "always",
    )
    feed: Feed = Field("auto", description=FEED_DESCRIPTION)
    workers: WorkersConfig = WorkersConfig()
    tracking: TrackingConfig = TrackingConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _grid_or_search(self) -> Self:
        if (self.grid is None) == (self.search is None):
            raise ValueError("give either `grid` or `search`")
        return self

    def check_flags(self, flags: Mapping[str, Any], section: str = "") -> None:
        """Refuse a value of `trial` that every trial gets from the cells or an axis of the grid, or the search's space.

        Args:
            flags: The values that came from the command line, nested.
            section: Begins the names of the flags: `tune.` in a pipeline.

        Raises:
            ConfigError: With the flag and the way out.
        """
        axes: Mapping[str, Any] = self.search.space if self.search else self.grid.axes if self.grid else {}
        part = "search.space" if self.search else "grid.axes"
        cells = [dict(flattened(nested(cell))) for cell in self.grid.cells] if self.grid else []
        for key, value in flattened(flags.get("trial", {})):
            if cells and all(_sets(cell, key) for cell in cells):
                raise ConfigError(
                    f"--{section}trial.{key}: each of grid.cells sets {key}, so that the flag changes no trial; change "
                    "the cells, or leave it out"
                )
            of_head = key.removeprefix("model.") in HEAD_FIELDS and key not in axes
            axis = "model.head" if of_head else key
            if axis not in axes:
                continue
            values = f"{{choices: [{value}]}}" if self.search else f"[{value}]"
            replaceable = axis == key and not isinstance(axes[axis], Range)
            way = f"give --{section}{part} '{{{key}: {values}}}'" if replaceable else "leave it out"
            raise ConfigError(f"--{section}trial.{key}: {part} sets {axis} in every trial, {value} is in none; {way}")


def _sets(changes: Mapping[str, Any], key: str) -> bool:
    """Return whether dotted `changes` set the field `key` of a trial, by itself or with the head that they name."""
    return key in changes or ("model.head" in changes and key.removeprefix("model.") in HEAD_FIELDS)


def nested(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `changes` with each dotted key (`model.backbone`) turned into nested dicts."""
    result: dict[str, Any] = {}
    for key, value in changes.items():
        first, _, rest = str(key).partition(".")
        inner = {rest: value} if rest else value
        result = merge(result, {first: nested(inner) if isinstance(inner, Mapping) else inner})
    return result


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of every leaf of a nested dict."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def changed(base: TrialConfig, changes: Mapping[str, Any], *, origin: str) -> TrialConfig:
    """Return `base` with `changes` made; a head by its name takes the place of the base's.

    Args:
        base: The trial to change.
        changes: Field -> value, nested or dotted.
        origin: Where the changes come from, for error messages: `grid.cells[2]`.

    Raises:
        ConfigError: One line for each fault, with `origin`, key, value and what is allowed.
    """
    below, above = base.model_dump(), nested(changes)
    model = above.get("model")
    if isinstance(model, Mapping) and model.get("head"):
        below["model"] = {name: value for name, value in below["model"].items() if name not in HEAD_FIELDS}
    return validated(TrialConfig, merge(below, above), origin=origin)


def varying(trials: Sequence[TrialConfig]) -> list[str]:
    """Return the dotted deciding fields in which `trials` differ, in the order of the config."""
    rows = [dict(flattened(trial.deciding())) for trial in trials]
    return [key for key in rows[0] if any(row[key] != rows[0][key] for row in rows)]


def title(trial: TrialConfig) -> str:
    """Return a trial's name; of one without, its settings: the backbone, and what differs from the defaults."""
    keys = dict.fromkeys(["model.backbone", *varying([TrialConfig(), trial])])
    return trial.name or settings_name(trial, list(keys))


def settings_name(trial: TrialConfig, keys: Sequence[str]) -> str:
    """Return a trial name from the values of the dotted `keys`: `ResNet50, hidden 1, dense 16, lr 1e-05`.

    Numbers that are not integers have at most six significant digits: a drawn one would have 16.
    """
    values = {key: _rounded(value) for key, value in flattened(trial.deciding())}
    return ", ".join(NAME_FORMATS.get(key, key.rsplit(".", 1)[-1] + " {}").format(values[key]) for key in keys)


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
