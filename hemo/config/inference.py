"""Configs of the jobs that use a trained network: `predict`, `evaluate`, `embed`, `explain` and `export`."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator

from hemo.config.convert import require_names_settled
from hemo.config.types import ClusterConfig, Config, Gpus, Groups, Location, SecretLocation
from hemo.stats.choices import OperatingPoint


def _operating_point(text: str) -> str:
    try:
        return text if text == "checkpoint" else OperatingPoint.parse(text).name
    except ValueError as error:
        raise ValueError(str(error).replace("must be ", "must be checkpoint, ")) from None


class ModelRunConfig(Config):
    """What runs a network over many images: part of the configs of `predict`, `evaluate` and `embed`."""

    batch_size: PositiveInt = Field(64, description="images in a batch")
    gpus: Gpus = Field("auto", description="GPUs of a model; `auto`: one if the cluster has any")
    cluster: ClusterConfig = ClusterConfig()


class DeploymentConfig(ModelRunConfig):
    """A checkpoint and what runs it: part of the configs of `predict` and `evaluate`."""

    checkpoint: Location = Field(description="folder of a record, or of its checkpoint")
    operating_point: Annotated[str, AfterValidator(_operating_point)] = Field(
        "checkpoint",
        description="thresholds above which a class is predicted: those the trial was configured for, or others that "
        "validation chose as well, such as `sensitivity=0.95` or `specificity=0.99`",
    )
    public_ids: bool | Literal["by_corpus"] = Field(
        "by_corpus", description="raw corpora: whether ids and paths are stored as they are, as in `convert`"
    )
    pseudonym_key: Literal[""] | SecretLocation = Field(
        "", description="raw corpora: file with the pseudonym key, or env:NAME, as in `convert`"
    )


class PredictConfig(DeploymentConfig):
    """Configuration of the `predict` job."""

    GROUPS: ClassVar[Groups] = {
        "input": ("source", "corpus", "checkpoint"),
        "output": ("out",),
        "prediction": ("operating_point", "test_time_augmentation"),
        "patients": ("public_ids", "pseudonym_key"),
        "resources": ("batch_size", "gpus", "cluster"),
    }

    source: Location = Field(
        description="output folder of `convert`, or a raw corpus; for a sequence model an output folder of `embed`"
    )
    corpus: Literal["shards", "rsna", "dicom", "image_folder", "manifest"] = Field(
        "shards", description="`shards`: output of `convert`; else the kind of raw corpus"
    )
    out: Location = Field(description="folder to write predictions.parquet, studies.parquet and submission.csv to")
    test_time_augmentation: Literal["none", "flip"] = Field(
        "none", description="`flip`: mean over each image and its left-right mirror image, at twice the cost"
    )

    @model_validator(mode="after")
    def _names_are_settled(self) -> Self:
        if self.corpus != "shards":
            require_names_settled(self.corpus, self.public_ids, self.pseudonym_key)
        elif self.pseudonym_key or self.public_ids != "by_corpus":
            raise ValueError("shards hold their ids as `convert` stored them: leave out public_ids and pseudonym_key")
        return self


class EvaluateConfig(DeploymentConfig):
    """Configuration of the `evaluate` job."""

    GROUPS: ClassVar[Groups] = {
        "input": ("checkpoint", "training_set", "from_split", "source", "corpus", "labels", "label_key"),
        "labels": ("label_columns", "class_names", "drop_flags"),
        "output": ("out", "name"),
        "prediction": ("operating_point",),
        "recalibration": ("recalibration_fraction", "recalibration", "seed"),
        "subgroups": ("subgroups", "subgroup_table", "subgroup_key"),
        "statistics": ("bootstrap_samples", "prevalence"),
        "patients": ("public_ids", "pseudonym_key"),
        "resources": ("batch_size", "gpus", "cluster"),
    }

    training_set: Literal[""] | Location = Field(
        "", description="labelled images: output folder of `curate`; or give `source` and `labels`"
    )
    from_split: Literal["train", "val", "test", "all"] = Field(
        "test", description="split of the training set to evaluate on; `all`: every image"
    )
    source: Literal[""] | Location = Field(
        "", description="images instead of a training set: output folder of `convert`, or a raw corpus"
    )
    corpus: Literal["shards", "rsna", "dicom", "image_folder", "manifest"] = Field(
        "shards", description="`shards`: output of `convert`; else the kind of raw corpus"
    )
    labels: Literal["", "source_class"] | Location = Field(
        "", description="with `source`: table of labels, or `source_class`, as in `curate`"
    )
    label_key: str = Field(
        "", description="column of `labels` with image ids or paths, or ids of studies, as in `curate`"
    )
    label_columns: tuple[str, ...] = Field((), description="columns of `labels` that are classes, as in `curate`")
    class_names: dict[str, str] = Field(
        {},
        description="class of the checkpoint -> its name in the labels, where that differs: '{any: hemorrhage}'",
    )
    drop_flags: tuple[str, ...] = Field((), description="leave out images with any of these flags, as in `curate`")
    out: Location = Field(
        description="folder of records; the evaluation is written to evaluations/DIGEST in it, where `report` finds it"
    )
    name: str = Field("", description="name of these data in tables; empty: that of the training set, or its digest")
    recalibration_fraction: float = Field(
        0.0,
        ge=0,
        le=0.9,
        description="fraction of patients on which probabilities are calibrated anew and thresholds chosen anew; the "
        "others are evaluated as is and recalibrated; 0: as is only",
    )
    recalibration: Literal["platt", "temperature"] = Field(
        "platt",
        description="`platt`: a slope and an intercept for each class, which takes another prevalence into account; "
        "`temperature`: a slope only, and the only one of exclusive classes",
    )
    seed: NonNegativeInt = Field(0, description="random seed of the choice of patients, and of the bootstrap")
    subgroups: tuple[str, ...] = Field(
        ("pixel_format", "scanner", "spacing_mm", "slice_thickness_mm"),
        description="what to evaluate by: columns of the images, or of `subgroup_table`; numbers with many values are "
        "cut at their quartiles",
    )
    subgroup_table: Literal[""] | Location = Field(
        "", description="CSV or Parquet with more columns of images or patients, such as age and sex"
    )
    subgroup_key: str = Field(
        "",
        description="column of `subgroup_table` that names its rows: `patient`, `study` or `series` holds those ids, "
        "any other one image ids or paths; by default as `label_key`",
    )
    bootstrap_samples: int = Field(1000, ge=10, description="bootstrap samples of patients, for the AUROC of classes")
    prevalence: Literal["observed"] | Annotated[float, Field(gt=0, lt=1)] = Field(
        "observed",
        description="prevalence of the class where the model is to be used, for predictive values; `observed`: that of "
        "these data",
    )

    @model_validator(mode="after")
    def _takes_labelled_images(self) -> Self:
        if bool(self.training_set) == bool(self.source):
            raise ValueError("give either training_set, or source with labels")
        if bool(self.source) != bool(self.labels):
            raise ValueError("source needs labels, and a training set has its own: give labels with source only")
        if self.labels == "source_class" and (self.label_key or self.label_columns):
            raise ValueError("label_key and label_columns name columns of a table; labels is source_class")
        return self

    @model_validator(mode="after")
    def _names_are_settled(self) -> Self:
        if self.source and self.corpus != "shards":
            require_names_settled(self.corpus, self.public_ids, self.pseudonym_key)
        elif self.public_ids != "by_corpus":
            raise ValueError("public_ids is of raw corpora: training sets and shards hold ids as `convert` stored them")
        return self


class EmbedConfig(ModelRunConfig):
    """Configuration of the `embed` job."""

    GROUPS: ClassVar[Groups] = {
        "input": ("source",),
        "output": ("out", "dtype"),
        "encoder": ("checkpoint", "backbone", "weights", "side_px", "pooling"),
        "resources": ("batch_size", "gpus", "cluster"),
    }

    source: Location = Field(description="output folder of `convert`, or of `curate`")
    out: Location = Field(description="folder to write embeddings/part-*.parquet and card.json to")
    dtype: Literal["float32", "float16"] = Field("float32", description="of the stored vectors")
    checkpoint: Literal[""] | Location = Field(
        "", description="folder of a record, or of its checkpoint: its backbone is the encoder"
    )
    backbone: str = Field("", description="without `checkpoint`: the encoder, a name as in `trial.model.backbone`")
    weights: Literal["", "imagenet"] | Location = Field(
        "",
        description="of `backbone`: `imagenet`, or a path or URI of safetensors, a state dict, a record or its "
        "checkpoint, as in `trial.model.weights`",
    )
    side_px: NonNegativeInt = Field(
        0, description="of `backbone`: height and width in pixels to which images are reduced first; 0: as stored"
    )

    pooling: Literal["gap", "flatten"] = Field(
        "gap", description="`gap`: mean of the features over all positions; `flatten`: the features of each position"
    )

    @model_validator(mode="after")
    def _has_one_encoder(self) -> Self:
        if bool(self.checkpoint) == bool(self.backbone):
            raise ValueError("give either checkpoint, or backbone with weights")
        if self.checkpoint and (self.weights or self.side_px):
            raise ValueError("weights and side_px are of a backbone: a checkpoint has its own")
        if self.backbone and self.weights in ("", "none"):
            raise ValueError("backbone needs weights, a file or `imagenet`: vectors of random weights mean nothing")
        return self


class ExplainConfig(Config):
    """Configuration of the `explain` job."""

    GROUPS: ClassVar[Groups] = {
        "input": ("checkpoint", "images", "from_split", "embeddings"),
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
    embeddings: Literal[""] | Location = Field(
        "", description="of a sequence model: output folder of `embed`; empty: those it was trained on"
    )
    target: str = Field("", description="class to explain; empty: the first class of the checkpoint")
    image_ids: tuple[str, ...] = Field(
        (), description="images to explain, of a sequence model studies; empty: those with the highest loss"
    )
    highest_loss: PositiveInt = Field(
        8, description="number of images or studies with the highest loss to explain, if `image_ids` is empty"
    )
    batch_size: PositiveInt = Field(64, description="images or studies in a batch")


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
