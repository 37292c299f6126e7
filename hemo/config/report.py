"""Configs of `report`, `status` and `backbones`, and the names of the metrics in the order in which they are shown."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from hemo.config.types import Config, Location

BY_CLASS = (
    "accuracy",
    "precision",
    "recall",
    "specificity",
    "f1",
    "false_negative_rate",
    "auroc",
    "average_precision",
    "calibration_error",
)
"""Metrics of one class; those of several classes are their means."""

METRICS = ("loss", "log_loss", *BY_CLASS)

CALIBRATION_BINS = 15
"""Bins of equal width behind the expected calibration error, as in Guo et al. 2017, arXiv:1706.04599."""

Published = Literal["chest_xray_backbones", "chest_xray_resnet50", "head_ct"]
"""Published tables; each is a file in `hemo/reporting/published`."""


class ReportConfig(Config):
    """Trial records to tables, figures and one HTML page."""

    records: Annotated[Location, Field(description="folder of records, as `train` and `tune` write it")]
    out: Location = Field(description="folder for grid.md, grid.csv, grid.tex, figures and index.html")
    title: str = Field("Comparison of trials", description="heading of table and page")
    published: tuple[Published, ...] = Field(
        (), description="published tables to set beside ours; a trial belongs to the row whose name it has"
    )
    bootstrap_samples: PositiveInt = Field(
        2000, description="resamples of patients behind each interval, and permutations behind each test"
    )
    seed: NonNegativeInt = Field(0, description="seed of the resampling")


class StatusConfig(Config):
    """A folder of records, whose trials may still run."""

    records: Location = Field(description="folder of records: the `out` of `train` or `tune`")


class BackbonesConfig(Config):
    """Which backbones to list."""

    containing: str = Field("", description="part of timm's names to list, such as `convnext`; empty: the sources' six")
    channels: PositiveInt = Field(3, description="channels of the images; parameters depend on them")
