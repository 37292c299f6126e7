"""Configs of the jobs that use a checkpoint: `predict`, `explain` and `export`."""

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from hemo.config.convert import require_names_settled
from hemo.config.types import ClusterConfig, Config, Location, SecretLocation


class PredictConfig(Config):
    """Shards or a raw corpus and a checkpoint to probabilities."""

    source: Location = Field(description="output folder of `convert`, or a raw corpus")
    corpus: Literal["shards", "rsna", "dicom", "image_folder", "manifest"] = Field(
        "shards", description="what the source holds"
    )
    checkpoint: Location = Field(description="a record, or its checkpoint folder")
    out: Location = Field(description="folder for predictions.parquet, studies.parquet and submission.csv")
    batch_size: PositiveInt = Field(64, description="images at once")
    test_time_augmentation: Literal["none", "flip"] = Field(
        "none", description="`flip`: the mean over each image and its mirror image, left to right; twice the cost"
    )
    public_ids: bool | Literal["by_corpus"] = Field("by_corpus", description="raw corpora: as in `convert`")
    pseudonym_key: Literal[""] | SecretLocation = Field("", description="raw corpora: as in `convert`")
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _names_are_settled(self) -> Self:
        if self.corpus != "shards":
            require_names_settled(self.corpus, self.public_ids, self.pseudonym_key)
        elif self.pseudonym_key or self.public_ids != "by_corpus":
            raise ValueError("shards hold their ids as `convert` stored them: leave out public_ids and pseudonym_key")
        return self


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


class ExportConfig(Config):
    """A checkpoint to ONNX, checked against torch and timed on the CPU."""

    checkpoint: Location = Field(description="a record, or its checkpoint folder")
    out: Location = Field(description="folder for model.onnx and export.json")
    images: Literal["noise"] | Location = Field(
        "noise", description="output folder of `convert` or `curate`, whose first images the check uses; or `noise`"
    )
    batch_size: PositiveInt = Field(32, description="images of the check, and at once when throughput is measured")
    threads: PositiveInt = Field(1, description="CPU threads when speed is measured")
