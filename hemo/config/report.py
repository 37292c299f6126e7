"""What `report` is told."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from hemo.config.fields import Config, Location


class ReportConfig(Config):
    """Trial records to tables, figures and one HTML page."""

    records: Annotated[Location, Field(description="folder of records, as `train` and `tune` write it")]
    out: Location = Field(description="folder for grid.md, grid.csv, figures and index.html")
    title: str = Field("Comparison of trials", description="heading of table and page")
    bootstrap_samples: PositiveInt = Field(2000, description="resamples of patients behind each interval")
    seed: NonNegativeInt = Field(0, description="seed of the resampling")
