"""Configs of the jobs that use a checkpoint: `predict`, `explain` and `export`."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from hemo.config.convert import require_names_settled
from hemo.config.types import ClusterConfig, Config, Gpus, Groups, Location, SecretLocation
from hemo.stats.choices import OperatingPoint


def _operating_point(text: str) -> str:
    try:
        return text if text == "checkpoint" else OperatingPoint.parse(text).name
    except ValueError as error:
        raise ValueError(str(error).replace("must be ", "must be checkpoint, ")) from None


class DeploymentConfig(Config):
    """A checkpoint and what runs it: part of the configs of `predict` and `evaluate`."""

    checkpoint: Location = Field(description="folder of a record, or of its checkpoint")
    batch_size: PositiveInt = Field(64, description="images in a batch")
    gpus: Gpus = Field("auto", description="GPUs of a model; `auto`: one if the cluster has any")
    operating_point: Annotated[str, AfterValidator(_operating_point)] = Field(
        "checkpoint",
        description="thresholds above which a class is predicted: those the trial was configured for, or others that "
        "validation chose as well, such as `sensitivity=0.95` or `specificity=0.99`",
    )
    test_time_augmentation: Literal["none", "flip"] = Field(
        "none", description="`flip`: mean over each image and its left-right mirror image, at twice the cost"
    )
    public_ids: bool | Literal["by_corpus"] = Field(
        "by_corpus", description="raw corpora: whether ids and paths are stored as they are, as in `convert`"
    )
    pseudonym_key: Literal[""] | SecretLocation = Field(
        "", description="raw corpora: file with the pseudonym key, or env:NAME, as in `convert`"
    )
    cluster: ClusterConfig = ClusterConfig()


class PredictConfig(DeploymentConfig):
    """Configuration of the `predict` job."""

    GROUPS: ClassVar[Groups] = {
        "input": ("source", "corpus", "checkpoint"),
        "output": ("out",),
        "prediction": ("operating_point", "test_time_augmentation"),
        "patients": ("public_ids", "pseudonym_key"),
        "resources": ("batch_size", "gpus", "cluster"),
    }

    source: Location = Field(description="output folder of `convert`, or a raw corpus")
    corpus: Literal["shards", "rsna", "dicom", "image_folder", "manifest"] = Field(
        "shards", description="`shards`: output of `convert`; else the kind of raw corpus"
    )
    out: Location = Field(description="folder to write predictions.parquet, studies.parquet and submission.csv to")

    @model_validator(mode="after")
    def _names_are_settled(self) -> Self:
        if self.corpus != "shards":
            require_names_settled(self.corpus, self.public_ids, self.pseudonym_key)
        elif self.pseudonym_key or self.public_ids != "by_corpus":
            raise ValueError("shards hold their ids as `convert` stored them: leave out public_ids and pseudonym_key")
        return self


class ExplainConfig(Config):
    """Configuration of the `explain` job."""

    GROUPS: ClassVar[Groups] = {
        "input": ("checkpoint", "images", "from_split"),
        "output": ("out",),
        "cases": ("target", "image_ids", "highest_loss"),
        "resources": ("batch_size",),
    }

    checkpoint: Location = Field(description="folder of a record, or of its checkpoint")
    images: Location = Field(description="output folder of `curate`; or of `convert`, then `image_ids` must be given")
    out: Location = Field(description="folder to write case-*.png and cases.json to")
    from_split: Literal["train", "val", "test"] = Field(
        "test", description="split of the training set to take images from"
    )
    target: str = Field("", description="class to explain; empty: the first class of the checkpoint")
    image_ids: tuple[str, ...] = Field((), description="images to explain; empty: those with the highest loss")
    highest_loss: PositiveInt = Field(
        8, description="number of images with the highest loss to explain, if `image_ids` is empty"
    )
    batch_size: PositiveInt = Field(64, description="images in a batch")


class ExportConfig(Config):
    """Configuration of the `export` job."""

    GROUPS: ClassVar[Groups] = {
        "input": ("checkpoint", "images"),
        "output": ("out",),
        "comparison and speed": ("batch_size", "threads"),
    }

    checkpoint: Location = Field(description="folder of a record, or of its checkpoint")
    out: Location = Field(description="folder to write model.onnx and export.json to")
    images: Literal["noise"] | Location = Field(
        "noise", description="output folder of `convert` or `curate`, whose first images are compared; or `noise`"
    )
    batch_size: PositiveInt = Field(
        32, description="number of images compared, and batch size when images/s are measured"
    )
    threads: PositiveInt = Field(1, description="CPU threads for the measurement of speed")
