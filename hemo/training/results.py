"""Metrics of a trial by epoch, by split and by pixel format, as its record stores them; imports no torch."""

from collections.abc import Sequence

from pydantic import Field

from hemo.config.types import Config

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
"""Metrics of one class; of several classes, their means."""

METRICS = ("loss", "log_loss", *BY_CLASS)

ANY_CLASS = "any"
ANY_WEIGHT = 2.0
"""The RSNA 2019 metric counts `any` twice: columns weighted [2,1,1,1,1,1]/7 (Flanders et al. 2020,
doi:10.1148/ryai.2020190211)."""

DEFAULT_THRESHOLD = 0.5
"""Probability above which a class is predicted where validation could not choose a threshold, and in each epoch."""

ConfusionMatrix = tuple[tuple[int, ...], ...]
"""Counts of images, rows by label and columns by prediction."""


def column_weights(classes: Sequence[str]) -> list[float]:
    """Return how often each class counts in the log loss, as in the RSNA competition."""
    return [ANY_WEIGHT if name == ANY_CLASS else 1.0 for name in classes]


def applied_thresholds(chosen: Sequence[float | None]) -> tuple[float, ...]:
    """Return the thresholds that are applied: those that validation chose, `DEFAULT_THRESHOLD` where it could not."""
    return tuple(DEFAULT_THRESHOLD if threshold is None else threshold for threshold in chosen)


class EpochMetrics(Config):
    """One epoch.

    Losses are means over images; `train` is measured during training, with dropout and augmentation.
    """

    epoch: int = Field(description="1-based")
    train: dict[str, float]
    val: dict[str, float]
    learning_rate: float = Field(description="of the last step")
    seconds: float
    images_per_second: float = Field(description="training images over the time spent training")
    first_batch_seconds: float = Field(0.0, description="from the beginning of the epoch until its first batch")
    data_wait_seconds: float = Field(0.0, description="of the time spent training, without images")
    timestamp: float = Field(0.0, description="when it ended, seconds since 1970 (UTC)")
    workers: int = Field(0, description="data-parallel workers that ran; 0: not recorded, by an earlier hemo")
    runtime_seconds: float = Field(0.0, description="of this epoch and those before, whatever interrupted them")

    def flat(self) -> dict[str, float]:
        """Return all numbers by name, those of a split with its name before theirs: `seconds`, `val_auroc`, ..."""
        flat: dict[str, float] = self.model_dump(exclude={"train", "val"})
        for split, metrics in (("train", self.train), ("val", self.val)):
            flat |= {f"{split}_{name}": value for name, value in metrics.items()}
        return flat


class SubgroupMetrics(Config):
    """Metrics of the images of one pixel format: where format and label correlate, a model may use the format."""

    images: int
    metrics: dict[str, float | None] = Field(description="all metrics; null where one is not defined: one class only")
    confusion: tuple[ConfusionMatrix, ...]


class StudyMetrics(Config):
    """Metrics of the studies of one split by one way to a study's probability."""

    studies: int
    metrics: dict[str, float] = Field(description="log_loss, auroc, average_precision, calibration_error if defined")
    auroc_interval: tuple[float, float] | None = Field(
        description="95 %, patients as units; null where there are too few patients"
    )


class SplitMetrics(Config):
    """Metrics of one split at the applied thresholds."""

    metrics: dict[str, float] = Field(description="those that are defined")
    confusion: tuple[ConfusionMatrix, ...] = Field(
        description="counts at the thresholds: a matrix a class, [[TN, FP], [FN, TP]]; multi_class: one, by class"
    )
    by_pixel_format: dict[str, SubgroupMetrics]
