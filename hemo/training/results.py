"""Metrics of a trial by epoch, by split and by pixel format, as its record stores them; imports no torch."""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from hemo.config.types import Config
from hemo.stats.calibration import Calibration, LabelledLogits, calibrated_logits, to_probabilities
from hemo.stats.reliability import ProbabilityMetrics, ReliabilityBin, probability_metrics, reliability_bins

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


class BeforeAfter(Config):
    """Metrics of the probabilities of one class against all others, and their bins of equal count."""

    before: ProbabilityMetrics = Field(description="of the logits as they were trained")
    after: ProbabilityMetrics = Field(description="of the calibrated ones; the same where nothing was calibrated")
    bins_before: tuple[ReliabilityBin, ...] = Field(description="with the 95 % interval of the observed frequency")
    bins_after: tuple[ReliabilityBin, ...] = Field((), description="empty where nothing was calibrated")


def before_and_after(split: LabelledLogits, classes: Sequence[str], calibration: Calibration) -> dict[str, BeforeAfter]:
    """Return class -> metrics of its probabilities before and after calibration.

    Args:
        split: Logits as trained, labels and patients.
        classes: Name of each column.
        calibration: Of the logits.
    """
    before, after = (
        to_probabilities(calibrated_logits(split.logits, each, exclusive=split.exclusive), exclusive=split.exclusive)
        for each in (Calibration(), calibration)
    )
    patients = np.unique(split.patients, return_inverse=True)[1]
    found = {}
    for column, name in enumerate(classes):
        labels = split.labels[:, column]
        bins = [reliability_bins(each[:, column], labels, patients) for each in (before, after)]
        found[name] = BeforeAfter(
            before=probability_metrics(before[:, column], labels),
            after=probability_metrics(after[:, column], labels),
            bins_before=tuple(bins[0]),
            bins_after=() if calibration.method == "none" else tuple(bins[1]),
        )
    return found


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
