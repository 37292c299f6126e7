"""What `export` is told."""

from typing import Literal

from pydantic import Field, PositiveInt

from hemo.config.fields import Config, Location


class ExportConfig(Config):
    """A checkpoint to ONNX, checked against torch and timed on the CPU."""

    checkpoint: Location = Field(description="a record, or its checkpoint folder")
    out: Location = Field(description="folder for model.onnx and export.json")
    images: Literal["noise"] | Location = Field(
        "noise", description="output folder of `convert` or `curate`, whose first images the check uses; or `noise`"
    )
    batch_size: PositiveInt = Field(32, description="images of the check, and at once when throughput is measured")
    threads: PositiveInt = Field(1, description="CPU threads when speed is measured")
