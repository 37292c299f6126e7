"""One trial: what is trained, how, from which seed. All of it is in the record's digest, but for the name."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from hemo.config.types import Config, Location

HEADS: dict[str, dict[str, Any]] = {
    "F-D(8)": {"pooling": "flatten", "hidden_layers": 1, "dense_width": 8},
    "F-D(16)-D": {"pooling": "flatten", "hidden_layers": 1, "dense_width": 16},
    "GAP-dropout-sigmoid": {"pooling": "gap", "hidden_layers": 0},
}
"""The sources' names of heads and what they stand for; F is flatten, D(n) a dense layer, the last D the logits."""


class ModelConfig(Config):
    """Shrinking -> backbone -> pooling -> hidden_layers x Dense(dense_width, ReLU) -> dropout -> logits."""

    backbone: str = Field(
        "resnet18",
        description="a source's name (MobileNet, InceptionV3, Xception, ResNet50, ResNet50V2, VGG16), any timm name, "
        "`CNN(32,64,128)` for a plain stack with these filters a layer, or `none`: the head on the pixels themselves",
    )
    weights: Literal["none", "imagenet"] | Location = Field(
        "none",
        description="`none`, `imagenet`, or a path or URI: of safetensors, a state dict, a record or its checkpoint; a "
        "file of timm's own scales the pixels of three channels as `imagenet` does",
    )
    head: Literal["", "F-D(8)", "F-D(16)-D", "GAP-dropout-sigmoid"] = Field(
        "", description="a head by its source's name, which sets pooling, hidden_layers and dense_width"
    )
    side_px: NonNegativeInt = Field(
        0,
        description="height and width of the images that the network sees, at most those of the training set's, which "
        "it shrinks on the device, after augmentation; 0: as they are stored",
    )
    pooling: Literal["gap", "flatten"] = Field("gap", description="global average pooling, or all positions flattened")
    hidden_layers: int = Field(0, ge=0, le=3, description="dense layers between pooling and logits")
    dense_width: PositiveInt = Field(16, description="units in each hidden layer")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout before the logits")

    @model_validator(mode="before")
    @classmethod
    def _spells_the_head_out(cls, data: Any) -> Any:
        """Replace a head's name by what it stands for, so that a model has one digest however it was asked for."""
        preset = HEADS.get(str(data.get("head"))) if isinstance(data, Mapping) else None
        if preset is None:
            return data
        for name, value in preset.items():
            given = data.get(name, value)
            if given not in (value, cls.model_fields[name].default):
                raise ValueError(f"head {data['head']} has {name} {value}, not {given}; leave out one of the two")
        return {**data, **preset, "head": ""}


class TrainingConfig(Config):
    """Optimiser, schedule, loss and when to stop."""

    epochs: PositiveInt = Field(30, description="epochs at most")
    batch_size: PositiveInt = Field(
        32, description="images an optimiser step, over all workers together; at most all there are to train on"
    )
    learning_rate: PositiveFloat = Field(1e-4, description="peak learning rate")
    optimizer: Literal["adam", "adamw", "sgd", "sgd_nesterov"] = Field(
        "adam", description="Adam as in the sources; sgd: with momentum 0.9, plain or Nesterov's"
    )
    weight_decay: NonNegativeFloat = Field(0.0, description="weight decay; biases and normalisation are left alone")
    schedule: Literal["constant", "cosine", "one_cycle", "plateau"] = Field(
        "constant",
        description="learning rate over the epochs; `one_cycle`: up for three tenths of them, then down; `plateau`: a "
        "tenth after every 2 epochs without a better validation loss",
    )
    warmup_epochs: NonNegativeFloat = Field(0.0, description="linear warm-up before the schedule; less than `epochs`")
    loss: Literal["default", "class_weighted", "rsna", "focal", "dice"] = Field(
        "default",
        description="`default`: BCE, or cross entropy for multi_class; `class_weighted`: the same weighted by inverse "
        "frequency; `rsna`: columns weighted [2,1,1,1,1,1]/7; `focal`: well-classified images count less; `dice`: soft "
        "Dice of each image",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of a label given to all classes alike, while learning only"
    )
    clip_norm: NonNegativeFloat = Field(
        0.0, description="longest gradient of all weights together, longer ones are scaled down; 0: as it is"
    )
    accumulation: PositiveInt = Field(
        1,
        description="parts of a batch that go through the model one by one, to save memory; a step sees all of them, "
        "batch normalisation one",
    )
    freeze_epochs: NonNegativeInt = Field(
        0,
        description="first epochs in which only the head learns; the backbone stays as it started; as many as "
        "`epochs` or more: it never learns (a linear probe)",
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="learning rate of a stage of the backbone, as a share of that of the next one"
    )
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="share of a running average of the weights kept at each step; 0: no average"
    )
    patience: PositiveInt = Field(5, description="epochs without a better validation loss before stopping")
    compile: bool = Field(False, description="torch.compile the model")
    sync_batch_norm: bool = Field(
        True,
        description="on GPUs batch normalisation sees the images of all workers; off, and always on CPUs, where torch "
        "cannot, it sees those of its own worker",
    )

    @model_validator(mode="after")
    def _warms_up_once(self) -> Self:
        if self.schedule == "one_cycle" and self.warmup_epochs:
            raise ValueError("schedule one_cycle warms up by itself: leave out warmup_epochs")
        return self


RANGES = ("rotate_degrees", "shift_fraction", "scale_fraction", "aspect_fraction", "window_level", "window_width")
"""Fields of `AugmentConfig` that say how far an image is changed."""


class AugmentConfig(Config):
    """Random changes of the training images, drawn on the device. All off by default, as in the sources."""

    horizontal_flip: float = Field(0.0, ge=0, le=1, description="probability")
    vertical_flip: float = Field(0.0, ge=0, le=1, description="probability")
    rotate_degrees: NonNegativeFloat = Field(0.0, description="uniform in +- this")
    shift_fraction: float = Field(0.0, ge=0, lt=1, description="uniform in +- this share of the side")
    scale_fraction: float = Field(0.0, ge=0, lt=1, description="uniform in 1 +- this")
    erase: float = Field(
        0.0, ge=0, le=1, description="probability of a rectangle of 2 to 40 % of the image being made black"
    )
    window_level: float = Field(
        0.0, ge=0, lt=1, description="window level moved, uniform in +- this share of the width"
    )
    window_width: float = Field(0.0, ge=0, lt=1, description="window width uniform in 1 +- this")
    aspect_fraction: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="width over height uniform in 1 +- this, for images resized to a square; the area stays",
    )
    mixup_alpha: NonNegativeFloat = Field(
        0.0, description="images and labels mixed by shares of Beta(alpha, alpha); 0: off"
    )
    strength: NonNegativeFloat = Field(
        1.0,
        description="one factor for all ranges: rotation, shift, scale, aspect, window level and width; probabilities "
        "stay. 0: none of these changes",
    )

    @model_validator(mode="after")
    def _scaled_shares_stay_below_one(self) -> Self:
        for name in RANGES:
            share = getattr(self, name)
            if name != "rotate_degrees" and self.strength * share >= 1:
                raise ValueError(
                    f"strength {self.strength:g} x {name} {share:g} must be less than 1; lower one of them"
                )
        return self


class TrialConfig(Config):
    """Everything that decides a trial's result, apart from the training set."""

    name: str = Field("", description="row name in tables; not in the digest")
    task: Literal["binary", "multi_label", "multi_class"] = Field(
        "binary", description="binary: one `target` class; the others use all classes of the set"
    )
    target: str = Field("any", description="binary: the positive class")
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    augment: AugmentConfig = AugmentConfig()
    seed: NonNegativeInt = Field(0, description="initial weights, order and augmentation")

    def deciding(self) -> dict[str, Any]:
        """Return all that decides the result, which a digest covers: all but the name."""
        return self.model_dump(mode="json", exclude={"name"})
