"""What `report` is told."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from hemo.config.fields import Config, Location

Published = Literal["chest_xray_backbones", "chest_xray_resnet50", "head_ct"]
"""Published tables; each is a file in `hemo/study/published`."""


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
