"""Configs of the jobs that only look: `report`, `watch`, `status`, `backbones`, `doctor`."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from hemo.config.trial import OperatingPointName
from hemo.config.types import ClusterConfig, Config, Groups, Location
from hemo.stats.choices import BALANCED_ACCURACY


def _prevalence(value: Any) -> Any:
    values = list(value.values()) if isinstance(value, dict) else [value]
    numbers = [each for each in values if isinstance(each, int | float) and 0 < each < 1]
    if value != "observed" and (not values or len(numbers) < len(values)):
        raise ValueError("must be `observed`, a number above 0 and below 1, or such a number by class as {any: 0.14}")
    return value


Prevalence = Annotated[Literal["observed"] | float | dict[str, float], BeforeValidator(_prevalence)]
"""Prevalence of the test split, one for the target of binary tasks, or by class."""

Published = Literal["chest_xray_backbones", "chest_xray_resnet50", "head_ct"]
"""Names of the published tables, each a file in `hemo/reporting/published`."""


class StudyConfig(Config):
    """What `report` and `watch` show of a folder of records, and by which statistics."""

    records: Literal[""] | Location = Field("", description="folder of records: the `out` of `train` or `tune`")
    data: Literal[""] | Location = Field(
        "",
        description="training set or shards, the output folder of `curate` or `convert`; of a training set the page "
        "shows the images of mistakes of its trials, where ids are public",
    )
    heat_maps: Literal[""] | Location = Field(
        "", description="output folder of `explain` for the best trial: its pictures stand with the mistakes"
    )
    title: str = Field("Comparison of trials", description="title of table and page")
    published: tuple[Published, ...] = Field(
        (), description="published tables to show beside these trials; a trial is compared with the row of its name"
    )
    operating_points: tuple[OperatingPointName, ...] = Field(
        (BALANCED_ACCURACY, "sensitivity=0.95", "specificity=0.95"),
        description="rules whose thresholds, chosen on validation, are evaluated on test beside each trial's own",
    )
    prevalence: Prevalence = Field(
        "observed",
        description="prevalence at which predictive values and net benefit are: that of test, a number for the target "
        "of binary tasks, or numbers by class such as `{any: 0.14}`",
    )
    bootstrap_samples: int = Field(
        1000,
        ge=10,
        description="bootstrap samples of patients: for differences in average precision and log loss, for the check "
        "of those in AUROC, and for the correction of a choice",
    )
    seed: NonNegativeInt = Field(0, description="random seed of the bootstrap")

    @model_validator(mode="after")
    def _has_something_to_show(self) -> Self:
        if not self.records and not self.data:
            raise ValueError("records: give records of trials, data for a page of a training set or of shards, or both")
        if self.heat_maps and not (self.records and self.data):
            raise ValueError("heat_maps stand with the images of mistakes: give records and data as well")
        return self


class ReportConfig(StudyConfig):
    """Configuration of the `report` job."""

    GROUPS: ClassVar[Groups] = {
        "input": ("records", "data", "heat_maps", "leaks", "published"),
        "output": ("out", "title"),
        "probabilities": ("operating_points", "prevalence"),
        "statistics": ("bootstrap_samples", "seed"),
    }

    leaks: Literal[""] | Location = Field(
        "", description="output folder of `leaks` for the training set `data`: what they are worth stands in data.html"
    )
    out: Location = Field(
        description="folder to write grid.md, grid.csv, pairs.csv, grid.tex, index.html, and data.html of `data` to"
    )

    @model_validator(mode="after")
    def _has_a_data_page(self) -> Self:
        if self.leaks and not self.data:
            raise ValueError("leaks stand in the page of a training set: give data as well")
        return self


class WatchConfig(StudyConfig):
    """Configuration of the `watch` job."""

    GROUPS: ClassVar[Groups] = {
        "input": ("records", "data", "heat_maps", "published"),
        "page": ("host", "port", "refresh_s", "title"),
        "probabilities": ("operating_points", "prevalence"),
        "statistics": ("bootstrap_samples", "seed"),
    }

    records: Location = Field(description="folder of records: the `out` of `train` or `tune`, while it runs or after")
    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="address to serve the page at; any other than a loopback address lets all who reach this machine "
        "read the page, without a password",
    )
    port: int = Field(8410, ge=0, le=65535, description="port to serve the page at; 0: any free one")
    refresh_s: PositiveFloat = Field(5.0, description="seconds between two looks at the records")


class StatusConfig(Config):
    """Configuration of the `status` job."""

    GROUPS: ClassVar[Groups] = {"input": ("records",), "output": ("log_lines",)}

    records: Location = Field(description="folder of records: the `out` of `train` or `tune`")
    log_lines: NonNegativeInt = Field(3, description="lines to show of the log of the last job that ran there")


class DoctorConfig(Config):
    """Configuration of the `doctor` job."""

    GROUPS: ClassVar[Groups] = {"checks": ("storage", "cpus", "gpus", "wait_s"), "resources": ("cluster",)}

    storage: tuple[Location, ...] = Field(
        (), description="folders that jobs will read and write, such as `[s3://bucket/corpus, s3://bucket/out]`"
    )
    cpus: NonNegativeInt = Field(
        1, description="CPUs that one node must offer; where nodes start on demand, this starts one"
    )
    gpus: NonNegativeInt = Field(0, description="GPUs that one node must offer, likewise")
    wait_s: PositiveFloat = Field(600.0, description="how long to wait for such nodes, in seconds")
    cluster: ClusterConfig = ClusterConfig()


class BackbonesConfig(Config):
    """Configuration of the `backbones` job."""

    GROUPS: ClassVar[Groups] = {"selection": ("containing", "channels")}

    containing: str = Field(
        "",
        description="list timm's backbones whose name contains this, such as `convnext`; empty: the six of the "
        "published tables",
    )
    channels: PositiveInt = Field(3, description="channels of the images, on which the number of parameters depends")
