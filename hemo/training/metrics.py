"""Metrics of a split's logits, of all its images and of each pixel format; thresholds, chosen on validation."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional import classification as tm

from hemo.config.report import BY_CLASS, METRICS
from hemo.training.data.task_rows import Examples
from hemo.training.loss import ANY_CLASS, ANY_WEIGHT, ImageLoss

Task = Literal["binary", "multi_label", "multi_class"]
Matrix = tuple[tuple[int, ...], ...]
Thresholds = float | tuple[float, ...]
"""Probability above which an image has a class: one for all classes, or one a class; not used by `multi_class`."""

DEFAULT_THRESHOLD = 0.5

CALIBRATION_BINS = 15
"""Of equal width, as in Guo et al. 2017, arXiv:1706.04599."""


@dataclass(frozen=True)
class GroupFigures:
    """How the images of one pixel format did: where the format goes with the label, a model may learn the format."""

    images: int
    metrics: dict[str, float | None]  # all of `METRICS`; None where a figure is not defined
    confusion: tuple[Matrix, ...]  # see `hemo.training.metrics.confusion`


@dataclass(frozen=True)
class SplitFigures:
    """How a split did."""

    metrics: dict[str, float]  # those that are defined
    confusion: tuple[Matrix, ...]
    by_pixel_format: dict[str, GroupFigures]


def judge(
    task: Task, classes: tuple[str, ...], logits: Tensor, examples: Examples, loss: ImageLoss, thresholds: Thresholds
) -> SplitFigures:
    """Return the figures of a split.

    Args:
        task: Of the trial.
        classes: Of the logits, in order.
        logits: (examples, classes), float32.
        examples: Of the split.
        loss: Of the trial, on the logits' device.
        thresholds: For a class to be called.
    """
    targets = torch.from_numpy(examples.labels).to(logits)
    formats = examples.source.pixel_format[examples.rows]
    groups = {}
    for pixel_format in np.unique(formats):
        rows = torch.from_numpy(np.flatnonzero(formats == pixel_format)).to(logits.device)
        mine, truth = logits[rows], targets[rows]
        found = measure(task, classes, mine, truth, loss, thresholds)
        groups[str(pixel_format)] = GroupFigures(
            images=len(rows),
            metrics={name: found.get(name) for name in METRICS},
            confusion=confusion(task, mine, truth, thresholds),
        )
    return SplitFigures(
        metrics=measure(task, classes, logits, targets, loss, thresholds),
        confusion=confusion(task, logits, targets, thresholds),
        by_pixel_format=groups,
    )


def measure(
    task: Task, classes: tuple[str, ...], logits: Tensor, targets: Tensor, loss: ImageLoss, thresholds: Thresholds
) -> dict[str, float]:
    """Return the figures of a split that are defined, of those in `hemo.config.report.METRICS`.

    Several classes: means over the classes for which a figure is defined. `multi_label` accuracy is the mean over
    classes too; `multi_class` accuracy is the share of images whose most probable class is right, its calibration error
    that of the most probable class. `loss` is what the trial minimises, `log_loss` is weighted by nothing but the
    columns of RSNA's competition.

    Args:
        task: Of the trial.
        classes: Of the logits, in order.
        logits: (images, classes), float32.
        targets: (images, classes), float32, 0 or 1.
        loss: Of the trial.
        thresholds: For a class to be called.

    Returns:
        Metric -> value. What is not defined is left out: AUROC and average precision of one class only, recall and
        false negative rate without positives, specificity without negatives, precision where nothing is called
        positive, F1 where there are no positives and none are called. Of no images nothing is defined.
    """
    if not len(logits):
        return {}
    figures = {
        "loss": float(loss(logits, targets).double().mean()),
        "log_loss": _log_loss(task, classes, logits.double(), targets.double()),
    }
    scores = probabilities(task, logits)
    called = _called(task, scores, thresholds)
    by_class = zip(scores.T.contiguous(), called.T, targets.int().T, strict=True)  # torch.bucketize wants whole rows
    columns = [_one_class(*column) for column in by_class]
    for name in BY_CLASS:
        values = [column[name] for column in columns if name in column]
        if values:
            figures[name] = sum(values) / len(values)
    return {**figures, **_of_exclusive(scores, targets)} if task == "multi_class" else figures


def confusion(task: Task, logits: Tensor, targets: Tensor, thresholds: Thresholds) -> tuple[Matrix, ...]:
    """Return counts of images, rows by truth and columns by what was called.

    Args:
        task: Of the trial.
        logits: (images, classes), float32.
        targets: (images, classes), 0 or 1.
        thresholds: For a class to be called.

    Returns:
        `multi_class`: one matrix, classes by classes. Else one a class: ((true negatives, false positives), (false
        negatives, true positives)).
    """
    if task == "multi_class":
        classes = logits.shape[1]
        counts = tm.multiclass_confusion_matrix(logits.argmax(dim=1), targets.argmax(dim=1), num_classes=classes)
        return (_matrix(counts),)
    called = _called(task, probabilities(task, logits), thresholds)
    columns = zip(called.T, targets.int().T, strict=True)
    return tuple(_matrix(tm.binary_confusion_matrix(mine, target)) for mine, target in columns)


def probabilities(task: Task, logits: Tensor) -> Tensor:
    """Return softmax over exclusive classes, sigmoid of each class otherwise; float64."""
    return logits.double().softmax(dim=1) if task == "multi_class" else logits.double().sigmoid()


def _called(task: Task, scores: Tensor, thresholds: Thresholds) -> Tensor:
    """Return which classes each image is said to have, 0 or 1, shape (images, classes)."""
    if task == "multi_class":
        return functional.one_hot(scores.argmax(dim=1), scores.shape[1]).int()
    return (scores > scores.new_tensor(thresholds)).int()


def _log_loss(task: Task, classes: tuple[str, ...], logits: Tensor, targets: Tensor) -> float:
    """Return the mean log loss of an image; the competition counts the column `any` twice, as hemo's `rsna` loss."""
    if task == "multi_class":
        return float(functional.cross_entropy(logits, targets))
    weights = [ANY_WEIGHT if name == ANY_CLASS else 1.0 for name in classes]
    columns = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=0)
    return float((columns * torch.tensor(weights, device=columns.device)).sum() / sum(weights))


def _one_class(scores: Tensor, called: Tensor, target: Tensor) -> dict[str, float]:
    """Return one class's figures; scores are probabilities, `called` and `target` 0 or 1, each of shape (images,)."""
    figures = {
        "accuracy": float(tm.binary_accuracy(called, target)),
        "calibration_error": float(tm.binary_calibration_error(scores, target, n_bins=CALIBRATION_BINS)),
    }
    positives, said = int(target.sum()), int(called.sum())
    if said:
        figures["precision"] = float(tm.binary_precision(called, target))
    if positives:
        figures["recall"] = float(tm.binary_recall(called, target))
        figures["false_negative_rate"] = 1 - figures["recall"]
    if positives or said:
        figures["f1"] = float(tm.binary_f1_score(called, target))
    if positives < len(target):
        figures["specificity"] = float(tm.binary_specificity(called, target))
    if 0 < positives < len(target):
        figures["auroc"] = float(tm.binary_auroc(scores, target))
        figures["average_precision"] = float(tm.binary_average_precision(scores, target))
    return figures


def _of_exclusive(scores: Tensor, targets: Tensor) -> dict[str, float]:
    """Return the figures in which exclusive classes are judged together."""
    truth, classes = targets.argmax(dim=1), scores.shape[1]
    error = tm.multiclass_calibration_error(scores, truth, num_classes=classes, n_bins=CALIBRATION_BINS)
    right = (scores.argmax(dim=1) == truth).double().mean()
    return {"accuracy": float(right), "calibration_error": float(error)}


def _matrix(counts: Tensor) -> Matrix:
    return tuple(tuple(int(count) for count in row) for row in counts)


def choose_thresholds(task: Task, logits: Tensor, labels: NDArray[np.uint8]) -> tuple[float, ...]:
    """Return a threshold a class, each by `choose_threshold`; none for `multi_class`, which takes the most probable.

    Args:
        task: Of the trial.
        logits: (images, classes), float32, of the validation split.
        labels: (images, classes), 0 or 1.
    """
    if task == "multi_class":
        return ()
    scores = logits.sigmoid().cpu().numpy()  # in float32, as `predict` has them: two near 1 may be equal there
    return tuple(choose_threshold(*column) for column in zip(scores.T, labels.T, strict=True))


def choose_threshold(probabilities: NDArray[np.floating], labels: NDArray[np.uint8]) -> float:
    """Return the threshold with the highest balanced accuracy, (sensitivity + specificity) / 2.

    It lies half way between two neighbouring probabilities; of equally good ones the nearest to 0.5 is taken. An image
    is called above the threshold, so that none of probability 0 ever is. With one class only nothing can be chosen, and
    it is 0.5.

    Args:
        probabilities: (images,), 0..1, of the validation split.
        labels: (images,), 0 or 1.

    Source:
        Youden 1950, doi:10.1002/1097-0142(1950)3:1<32::AID-CNCR2820030106>3.0.CO;2-3: the same maximum as his J.
    """
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return DEFAULT_THRESHOLD
    values, place = np.unique(probabilities.astype(np.float64), return_inverse=True)
    positives_at = np.bincount(place, weights=labels, minlength=len(values))
    negatives_at = np.bincount(place, weights=1 - labels, minlength=len(values))
    cuts = np.concatenate([[values[0] / 2], (values[:-1] + values[1:]) / 2, [(values[-1] + 1) / 2]])
    missed = np.concatenate([[0], np.cumsum(positives_at)]) / positives  # positives at or below the cut
    spared = np.concatenate([[0], np.cumsum(negatives_at)]) / negatives
    balanced = np.round((1 - missed + spared) / 2, 12)  # so that equal ones tie whatever the rounding
    if values[0] == 0:  # no threshold within 0..1 calls all images
        cuts, balanced = cuts[1:], balanced[1:]
    best = cuts[balanced == balanced.max()]
    return float(best[np.argmin(np.round(np.abs(best - DEFAULT_THRESHOLD), 12))])
