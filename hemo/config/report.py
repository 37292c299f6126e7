"""Configs of the jobs that read records or list backbones: `report`, `status`, `backbones`."""

from typing import ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from hemo.config.types import Config, Groups, Location

Published = Literal["chest_xray_backbones", "chest_xray_resnet50", "head_ct"]
"""Names of the published tables, each a file in `hemo/reporting/published`."""


class ReportConfig(Config):
    """Configuration of the `report` job."""

    GROUPS: ClassVar[Groups] = {
        "input": ("records", "published"),
        "output": ("out", "title"),
        "statistics": ("bootstrap_samples", "seed"),
    }

    records: Location = Field(description="folder of records: the `out` of `train` or `tune`")
    out: Location = Field(description="folder to write grid.md, grid.csv, grid.tex, figures and index.html to")
    title: str = Field("Comparison of trials", description="title of table and page")
    published: tuple[Published, ...] = Field(
        (), description="published tables to show beside these trials; a trial is compared with the row of its name"
    )
    bootstrap_samples: int = Field(
        1000,
        ge=10,
        description="bootstrap samples of patients: for differences in average precision, log loss and the AUROC of "
        "several classes, and for the correction of a choice",
    )
    seed: NonNegativeInt = Field(0, description="random seed of the bootstrap")


class StatusConfig(Config):
    """Configuration of the `status` job."""

    GROUPS: ClassVar[Groups] = {"input": ("records",)}

    records: Location = Field(description="folder of records: the `out` of `train` or `tune`")


class BackbonesConfig(Config):
    """Configuration of the `backbones` job."""

    GROUPS: ClassVar[Groups] = {"selection": ("containing", "channels")}

    containing: str = Field(
        "",
        description="list timm's backbones whose name contains this, such as `convnext`; empty: the six of the "
        "published tables",
    )
    channels: PositiveInt = Field(3, description="channels of the images, on which the number of parameters depends")
