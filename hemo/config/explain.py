"""What `explain` is told."""

from typing import Literal

from pydantic import Field, PositiveInt

from hemo.config.fields import Config, Location


class ExplainConfig(Config):
    """A checkpoint and stored images to pictures of where the model sees evidence of a class."""

    checkpoint: Location = Field(description="a record, or its checkpoint folder")
    images: Location = Field(description="output folder of `curate`; or of `convert`, with `image_ids`")
    out: Location = Field(description="folder for case-*.png and cases.json")
    split: Literal["train", "val", "test"] = Field("test", description="of a training set")
    target: str = Field("", description="class whose evidence is shown; empty: the checkpoint's first")
    image_ids: tuple[str, ...] = Field((), description="cases; empty: those with the highest loss")
    highest_loss: PositiveInt = Field(8, description="how many cases, where no `image_ids` are given")
    batch_size: PositiveInt = Field(64, description="images at once")
