"""Config of one trial: model, training, augmentation, seed. All but the name is in the record's digest."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from hemo.config.types import Config, Groups, Location
from hemo.stats.choices import BALANCED_ACCURACY, CalibrationChoice, OperatingPoint

HEADS: dict[str, dict[str, Any]] = {
    "F-D(8)": {"pooling": "flatten", "hidden_layers": 1, "dense_width": 8},
    "F-D(16)-D": {"pooling": "flatten", "hidden_layers": 1, "dense_width": 16},
    "GAP-dropout-sigmoid": {"pooling": "gap", "hidden_layers": 0},
}
"""Names of heads in the published tables -> their fields. F is flatten, D(n) a dense layer, the last D the logits."""

HEAD_FIELDS = ("pooling", "hidden_layers", "dense_width")
"""Fields of `ModelConfig` that are the head."""

SEQUENCE_NETWORK = re.compile(r"(BiGRU|Transformer)\((\d{1,4}(?:,\d{1,4}){0,7})\)")
"""Backbones over the slices of a series, with the units of each layer."""


class Noun(NamedTuple):
    """What a row of predictions is, in the words of texts."""

    one: str
    many: str
    a: str  # with its article


IMAGES, STUDIES = Noun("image", "images", "an image"), Noun("study", "studies", "a study")


class SeriesConfig(Config):
    """What a sequence model, `BiGRU(...)` or `Transformer(...)`, reads and learns."""

    embeddings: Literal[""] | Location = Field(
        "", description="output folder of `embed`, of the training set or of the shards it was curated from"
    )
    labels: Literal["slice", "study"] = Field(
        "slice",
        description="`slice`: slices and studies are learned, a study has a class if one of its slices has; "
        "`study`: studies alone, where the label of every image is that of its study",
    )
    study: Literal["attention", "noisy_or"] = Field(
        "attention",
        description="logit of a study: `attention`: learned weighted mean of its slices' logits, scaled and shifted; "
        "`noisy_or`: of 1 - product of (1 - p)",
    )
    study_weight: PositiveFloat = Field(
        1.0, description="`labels: slice`: loss of all studies over that of all slices of an epoch"
    )


class ModelConfig(Config):
    """Resize to side_px -> backbone -> pooling -> hidden_layers x Dense(dense_width, ReLU) -> dropout -> logits.

    A sequence model takes embeddings of the slices of a series, in order of position, in the place of images.
    """

    backbone: str = Field(
        "resnet18",
        description="MobileNet, InceptionV3, Xception, ResNet50, ResNet50V2 or VGG16, as in the published tables; any "
        "name of timm; `CNN(32,64,128)`: plain convolutions with these filters; `none`: the head on the pixels "
        "themselves; `BiGRU(128,128)` or `Transformer(128,128)`: a sequence model over the slices of a series, with "
        "the units of each layer (a direction), see `series`",
    )
    weights: Literal["none", "imagenet"] | Location = Field(
        "none",
        description="initial weights: `none` (random), `imagenet`, or a path or URI of safetensors, a state dict, a "
        "record or its checkpoint; with a file of timm's, pixels of three channels are scaled as with `imagenet`",
    )
    head: Literal["", "F-D(8)", "F-D(16)-D", "GAP-dropout-sigmoid"] = Field(
        "", description="head by its name in the published tables; sets pooling, hidden_layers and dense_width"
    )
    side_px: NonNegativeInt = Field(
        0,
        description="height and width of the network's input in pixels: images are reduced to it on the device, after "
        "augmentation; 0: as stored in the training set",
    )
    pooling: Literal["gap", "flatten"] = Field(
        "gap", description="`gap`: global average pooling; `flatten`: all positions"
    )
    hidden_layers: int = Field(0, ge=0, le=3, description="dense layers between pooling and logits")
    dense_width: PositiveInt = Field(16, description="units in each hidden layer")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout before the logits")
    series: SeriesConfig = SeriesConfig()

    @property
    def is_sequence(self) -> bool:
        """Whether this is a sequence model over embeddings of slices."""
        return SEQUENCE_NETWORK.fullmatch(self.backbone) is not None

    @model_validator(mode="after")
    def _has_embeddings_if_it_is_a_sequence_model(self) -> Self:
        if not self.is_sequence:
            if self.series != SeriesConfig():
                raise ValueError(f"series is for BiGRU(128,128) and Transformer(128,128), not {self.backbone}")
            return self
        if not self.series.embeddings:
            raise ValueError(f"{self.backbone} reads embeddings of slices: give series.embeddings, a folder of `embed`")
        of_images = ("weights", "side_px", "pooling", "hidden_layers", "dense_width")
        for name in of_images:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is for models of images, not {self.backbone}; leave it out")
        return self

    @model_validator(mode="before")
    @classmethod
    def _spells_the_head_out(cls, data: Any) -> Any:
        """Replace a head's name by its fields, so that equal models have equal digests."""
        preset = HEADS.get(str(data.get("head"))) if isinstance(data, Mapping) else None
        if preset is None:
            return data
        for name, value in preset.items():
            given = data.get(name, value)
            if given not in (value, cls.model_fields[name].default):
                raise ValueError(f"head {data['head']} has {name} {value}, not {given}; leave out one of the two")
        return {**data, **preset, "head": ""}


def _operating_point(text: str) -> str:
    return OperatingPoint.parse(text).name


OperatingPointName = Annotated[str, AfterValidator(_operating_point)]
"""Rule by which validation chooses thresholds, as `OperatingPoint.parse` takes it."""


class TrainingConfig(Config):
    """Optimiser, schedule, loss, when to stop, calibration and operating point."""

    epochs: PositiveInt = Field(30, description="maximum number of epochs")
    batch_size: PositiveInt = Field(
        32,
        description="images of an optimiser step, all workers together; at most the images of train; of a sequence "
        "model studies",
    )
    learning_rate: PositiveFloat = Field(1e-4, description="peak learning rate")
    optimizer: Literal["adam", "adamw", "sgd", "sgd_nesterov"] = Field(
        "adam", description="optimiser; `sgd` and `sgd_nesterov` have momentum 0.9"
    )
    weight_decay: NonNegativeFloat = Field(
        0.0, description="weight decay, not applied to biases and normalisation layers"
    )
    schedule: Literal["constant", "cosine", "one_cycle", "plateau"] = Field(
        "constant",
        description="learning rate over the epochs; `one_cycle`: up for 3/10 of them, then down; `plateau`: divided "
        "by 10 after 2 epochs without a lower validation loss",
    )
    warmup_epochs: NonNegativeFloat = Field(
        0.0, description="epochs of linear warm-up before the schedule; less than `epochs`"
    )
    loss: Literal["default", "class_weighted", "rsna", "focal", "dice"] = Field(
        "default",
        description="`default`: binary cross entropy, or cross entropy for multi_class; `class_weighted`: the same, "
        "weighted by inverse class frequency; `rsna`: binary cross entropy with columns weighted [2,1,1,1,1,1]/7; "
        "`focal`: focal loss; `dice`: soft Dice loss of each image",
    )
    balance: Literal["none", "undersample", "oversample"] = Field(
        "none",
        description="labels of train in an epoch (binary and multi_label: with and without `target`; multi_class: all "
        "classes); `none`: each image once; `undersample`: images of common labels are left out, the same in each "
        "epoch; `oversample`: all images of a rare label are repeated equally often, and what is lacking once more by "
        "whole patients; validation and test stay as they are",
    )
    balance_ratio: float = Field(
        1.0, ge=1, description="images of the commonest label that `balance` aims at for each image of a rare one"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="label smoothing in training: fraction of a label spread evenly over all classes"
    )
    clip_norm: NonNegativeFloat = Field(
        0.0, description="clip the norm of the gradient of all weights to this; 0: no clipping"
    )
    accumulation: PositiveInt = Field(
        1,
        description="gradient accumulation: number of parts of a batch that pass the model one by one, to save memory; "
        "batch normalisation uses one part, the optimiser step all",
    )
    freeze_epochs: NonNegativeInt = Field(
        0,
        description="first epochs in which only the head is trained; `epochs` or more: the backbone is never trained "
        "(a linear probe), and without augmentation its features are computed once and kept beside the records",
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="layer-wise decay: learning rate of a stage of the backbone as a fraction of that of the next "
        "stage",
    )
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of the exponential moving average of the weights at each step; 0: no average",
    )
    calibration: CalibrationChoice = Field(
        "where_prior_shifted",
        description="probabilities are calibrated on validation: `temperature`: temperature scaling, after a prior "
        "correction where train was sampled or weighted by its labels; `platt`: Platt scaling, not of multi_class; "
        "`where_prior_shifted`: only where train was sampled or weighted, by temperature, or by Platt where no formula "
        "takes the sampling back; `none`",
    )
    operating_point: OperatingPointName = Field(
        BALANCED_ACCURACY,
        description="how validation chooses the threshold of a class: `balanced_accuracy` (the highest), "
        "`sensitivity=0.95` or `specificity=0.95` (at least), `cost_ratio=10` (a false negative costs ten false "
        "positives)",
    )
    patience: PositiveInt = Field(
        5,
        description="early stopping: epochs without a lower validation loss; those in which the backbone is still "
        "frozen (`freeze_epochs`) are not counted",
    )
    compile: bool = Field(False, description="torch.compile the model")
    sync_batch_norm: bool = Field(
        True,
        description="GPUs: batch normalisation uses the images of all workers; false, and always on CPUs: those of one "
        "worker",
    )

    def images_at_once(self, workers: int) -> int:
        """Return how many images pass the model at once on one worker, in training and in evaluation."""
        return -(-self.batch_size // (workers * self.accumulation))

    @model_validator(mode="after")
    def _warms_up_once(self) -> Self:
        if self.schedule == "one_cycle" and self.warmup_epochs:
            raise ValueError("schedule one_cycle includes a warm-up: leave out warmup_epochs")
        return self


RANGES = ("rotate_degrees", "shift_fraction", "scale_fraction", "aspect_fraction", "window_level", "window_width")
"""Fields of `AugmentConfig` that are ranges of change, all multiplied by `strength`."""


class AugmentConfig(Config):
    """Random augmentation of training images, on the device. All off by default, as in the published recipes."""

    horizontal_flip: float = Field(0.0, ge=0, le=1, description="probability of a left-right flip")
    vertical_flip: float = Field(0.0, ge=0, le=1, description="probability of an up-down flip")
    rotate_degrees: NonNegativeFloat = Field(0.0, description="rotation in degrees, uniform in +- this")
    shift_fraction: float = Field(
        0.0, ge=0, lt=1, description="shift in both directions, uniform in +- this fraction of the side"
    )
    scale_fraction: float = Field(0.0, ge=0, lt=1, description="zoom factor, uniform in 1 +- this")
    erase: float = Field(
        0.0,
        ge=0,
        le=1,
        description="random erasing: probability that a rectangle of 2 to 40 % of the image is made black",
    )
    window_level: float = Field(
        0.0, ge=0, lt=1, description="shift of the window level, uniform in +- this fraction of the width"
    )
    window_width: float = Field(0.0, ge=0, lt=1, description="factor of the window width, uniform in 1 +- this")
    aspect_fraction: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="aspect ratio (width to height), uniform in 1 +- this at constant area, for images resized to a "
        "square",
    )
    mixup_alpha: NonNegativeFloat = Field(
        0.0, description="mixup: images and labels mixed by weights from Beta(alpha, alpha); 0: off"
    )
    strength: NonNegativeFloat = Field(
        1.0,
        description="factor of all ranges (rotation, shift, scale, aspect, window level and width), not of "
        "probabilities; 0: none of these changes",
    )

    @model_validator(mode="after")
    def _scaled_ranges_stay_below_one(self) -> Self:
        for name in RANGES:
            value = getattr(self, name)
            if name != "rotate_degrees" and self.strength * value >= 1:
                raise ValueError(
                    f"strength {self.strength:g} x {name} {value:g} must be less than 1; lower one of them"
                )
        return self


class TrialConfig(Config):
    """Everything that a trial's result depends on, apart from the training set."""

    GROUPS: ClassVar[Groups] = {
        "trial": ("name", "task", "target", "seed"),
        "model": ("model",),
        "training": ("training",),
        "augmentation": ("augment",),
    }

    name: str = Field("", description="name of the row in tables; not in the digest")
    task: Literal["binary", "multi_label", "multi_class"] = Field(
        "binary", description="`binary`: one class, `target`; the others: all classes of the training set"
    )
    target: str = Field(
        "any", description="`task: binary`: the positive class; `any`: that class, or the only one of the set"
    )
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    augment: AugmentConfig = AugmentConfig()
    seed: NonNegativeInt = Field(0, description="random seed of initial weights, order and augmentation")

    @model_validator(mode="after")
    def _suits_exclusive_classes(self) -> Self:
        if self.task != "multi_class":
            return self
        if self.training.calibration == "platt":
            raise ValueError("training.calibration platt is for binary and multi_label; give temperature")
        if self.training.operating_point != BALANCED_ACCURACY:
            raise ValueError(
                f"training.operating_point {self.training.operating_point}: multi_class has no thresholds, the most "
                "probable class is predicted; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _suits_a_sequence_model(self) -> Self:
        if not self.model.is_sequence:
            return self
        if self.task == "multi_class":
            raise ValueError(
                f"task multi_class: a study may have several classes, {self.model.backbone} needs multi_label"
            )
        if self.augment != AugmentConfig():
            raise ValueError(f"augment is for images, {self.model.backbone} reads embeddings; leave it out")
        of_images = ("balance", "accumulation", "freeze_epochs", "layer_decay", "compile")
        for name in of_images:
            if getattr(self.training, name) != TrainingConfig.model_fields[name].default:
                raise ValueError(f"training.{name} is for models of images, not {self.model.backbone}; leave it out")
        return self

    @property
    def row_noun(self) -> Noun:
        """What is predicted, counted and ranked: images, or studies where a model learns from their labels alone."""
        return STUDIES if self.model.series.labels == "study" else IMAGES

    def deciding(self) -> dict[str, Any]:
        """Return all that decides the result, which a digest covers: all but the name."""
        return self.model_dump(mode="json", exclude={"name"})
