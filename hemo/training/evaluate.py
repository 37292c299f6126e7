"""Evaluate a model on a split: its logits, their metrics over all images and by pixel format, and thresholds."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.functional import classification as tm

from hemo.models.classifier import Normalisation, mixed_precision, normalise, to_unit_range
from hemo.stats import CALIBRATION_BINS
from hemo.training.data.dataset import Examples
from hemo.training.data.loader import device_batches
from hemo.training.data.sampling import every_row
from hemo.training.distributed import Worker, all_reduce_sum, broadcast_buffers
from hemo.training.loss import ImageLoss
from hemo.training.results import (
    BY_CLASS,
    DEFAULT_THRESHOLD,
    METRICS,
    ConfusionMatrix,
    SplitMetrics,
    SubgroupMetrics,
    column_weights,
)

Task = Literal["binary", "multi_label", "multi_class"]
Thresholds = float | tuple[float, ...]
"""Probability above which a class is predicted: one for all classes, or one a class; `multi_class` uses none."""


def predict_logits(
    module: nn.Module, examples: Examples, normalisation: Normalisation, batch_size: int, worker: Worker
) -> Tensor:
    """Return the logits of a split in evaluation mode, each computed once, the same on every worker.

    Args:
        module: Model on the worker's device; its mode is restored.
        examples: Of the split.
        normalisation: Of the model.
        batch_size: Images in one forward pass; logits depend on it within rounding.
        worker: This process.

    Returns:
        Tensor (examples, classes), float32, on the device.

    Raises:
        SourceError: If streamed images are missing or damaged.
    """
    device = torch.device(worker.device)
    logits = torch.zeros(examples.labels.shape, device=device)
    broadcast_buffers(module, worker)
    mode = module.training
    module.eval()
    batches = every_row(len(examples), rank=worker.rank, workers=worker.count, batch_size=batch_size)
    with torch.no_grad():
        for rows, images in zip(batches, device_batches(examples, batches, device), strict=True):
            with mixed_precision(device):
                logits[rows[0] : rows[-1] + 1] = module(normalise(to_unit_range(images), normalisation))
    module.train(mode)
    return all_reduce_sum(logits, worker)


def split_metrics(
    task: Task, classes: tuple[str, ...], logits: Tensor, examples: Examples, loss: ImageLoss, thresholds: Thresholds
) -> SplitMetrics:
    """Return the metrics of a split, over all its images and by pixel format.

    Args:
        task: Of the trial.
        classes: Of the logits, in order.
        logits: (examples, classes), float32.
        examples: Of the split.
        loss: Of the trial, on the logits' device.
        thresholds: See `Thresholds`.
    """
    targets = torch.from_numpy(examples.labels).to(logits)
    formats = examples.source.pixel_format[examples.rows]
    groups = {}
    for pixel_format in np.unique(formats):
        rows = torch.from_numpy(np.flatnonzero(formats == pixel_format)).to(logits.device)
        metrics = compute_metrics(task, classes, logits[rows], targets[rows], loss, thresholds)
        groups[str(pixel_format)] = SubgroupMetrics(
            images=len(rows),
            metrics={name: metrics.get(name) for name in METRICS},
            confusion=confusion(task, logits[rows], targets[rows], thresholds),
        )
    return SplitMetrics(
        metrics=compute_metrics(task, classes, logits, targets, loss, thresholds),
        confusion=confusion(task, logits, targets, thresholds),
        by_pixel_format=groups,
    )


def compute_metrics(
    task: Task, classes: tuple[str, ...], logits: Tensor, targets: Tensor, loss: ImageLoss, thresholds: Thresholds
) -> dict[str, float]:
    """Return the metrics that are defined, of those in `hemo.training.results.METRICS`.

    Of several classes the mean over the classes for which a metric is defined; accuracy of `multi_label` too. Accuracy
    of `multi_class` is the fraction of images whose most probable class is correct, its calibration error that of the
    most probable class. `loss` is the trial's own; `log_loss` has the RSNA competition's column weights and no others.

    Args:
        task: Of the trial.
        classes: Of the logits, in order.
        logits: (images, classes), float32.
        targets: (images, classes), float32, 0 or 1.
        loss: Of the trial.
        thresholds: See `Thresholds`.

    Returns:
        Metric -> value, without those that are not defined: AUROC and average precision of one class only, and accuracy
        if no class has both labels (recall or specificity is the same number), recall and false negative rate without
        positives, specificity without negatives, precision without predicted positives, F1
        without positives and predicted positives. Of no images none is defined.
    """
    if not len(logits):
        return {}
    metrics = {
        "loss": float(loss(logits, targets).double().mean()),
        "log_loss": _log_loss(task, classes, logits.double(), targets.double()),
    }
    scores = probabilities(task, logits)
    predicted = _predicted(task, scores, thresholds)
    by_class = zip(scores.T.contiguous(), predicted.T, targets.int().T, strict=True)  # torch.bucketize wants whole rows
    columns = [_class_metrics(*column) for column in by_class]
    for name in BY_CLASS:
        values = [column[name] for column in columns if name in column]
        if values:
            metrics[name] = sum(values) / len(values)
    if task == "multi_class":
        metrics |= _multi_class_metrics(scores, targets)
    if bool((targets == targets[0]).all()):
        del metrics["accuracy"]
    return metrics


def confusion(task: Task, logits: Tensor, targets: Tensor, thresholds: Thresholds) -> tuple[ConfusionMatrix, ...]:
    """Return confusion matrices: counts of images, rows by label and columns by prediction.

    Args:
        task: Of the trial.
        logits: (images, classes), float32.
        targets: (images, classes), 0 or 1.
        thresholds: See `Thresholds`.

    Returns:
        `multi_class`: one matrix, classes by classes. Else one a class: ((TN, FP), (FN, TP)).
    """
    if task == "multi_class":
        classes = logits.shape[1]
        counts = tm.multiclass_confusion_matrix(logits.argmax(dim=1), targets.argmax(dim=1), num_classes=classes)
        return (_matrix(counts),)
    predicted = _predicted(task, probabilities(task, logits), thresholds)
    columns = zip(predicted.T, targets.int().T, strict=True)
    return tuple(_matrix(tm.binary_confusion_matrix(*column)) for column in columns)


def probabilities(task: Task, logits: Tensor) -> Tensor:
    """Return softmax for `multi_class`, else the sigmoid of each class; float64."""
    return logits.double().softmax(dim=1) if task == "multi_class" else logits.double().sigmoid()


def _predicted(task: Task, scores: Tensor, thresholds: Thresholds) -> Tensor:
    """Return the predicted classes of each image, 0 or 1, shape (images, classes)."""
    if task == "multi_class":
        return functional.one_hot(scores.argmax(dim=1), scores.shape[1]).int()
    return (scores > scores.new_tensor(thresholds)).int()


def _log_loss(task: Task, classes: tuple[str, ...], logits: Tensor, targets: Tensor) -> float:
    """Return the mean log loss of an image; the competition counts the column `any` twice, as hemo's `rsna` loss."""
    if task == "multi_class":
        return float(functional.cross_entropy(logits, targets))
    weights = column_weights(classes)
    columns = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=0)
    return float((columns * torch.tensor(weights, device=columns.device)).sum() / sum(weights))


def _class_metrics(scores: Tensor, predicted: Tensor, target: Tensor) -> dict[str, float]:
    """Return the metrics of one class; scores are probabilities, the others 0 or 1, each of shape (images,)."""
    metrics = {
        "accuracy": float(tm.binary_accuracy(predicted, target)),
        "calibration_error": float(tm.binary_calibration_error(scores, target, n_bins=CALIBRATION_BINS)),
    }
    positives, predicted_positives = int(target.sum()), int(predicted.sum())
    if predicted_positives:
        metrics["precision"] = float(tm.binary_precision(predicted, target))
    if positives:
        metrics["recall"] = float(tm.binary_recall(predicted, target))
        metrics["false_negative_rate"] = 1 - metrics["recall"]
    if positives or predicted_positives:
        metrics["f1"] = float(tm.binary_f1_score(predicted, target))
    if positives < len(target):
        metrics["specificity"] = float(tm.binary_specificity(predicted, target))
    if 0 < positives < len(target):
        metrics["auroc"] = float(tm.binary_auroc(scores, target))
        metrics["average_precision"] = float(tm.binary_average_precision(scores, target))
    return metrics


def _multi_class_metrics(scores: Tensor, targets: Tensor) -> dict[str, float]:
    """Return the metrics of the most probable class."""
    target, classes = targets.argmax(dim=1), scores.shape[1]
    error = tm.multiclass_calibration_error(scores, target, num_classes=classes, n_bins=CALIBRATION_BINS)
    correct = (scores.argmax(dim=1) == target).double().mean()
    return {"accuracy": float(correct), "calibration_error": float(error)}


def _matrix(counts: Tensor) -> ConfusionMatrix:
    return tuple(tuple(int(count) for count in row) for row in counts)


def choose_thresholds(task: Task, logits: Tensor, labels: NDArray[np.uint8]) -> tuple[float | None, ...]:
    """Return a threshold a class, each by `choose_threshold`; none for `multi_class`, which takes the most probable.

    Args:
        task: Of the trial.
        logits: (images, classes), float32, of the validation split.
        labels: (images, classes), 0 or 1.
    """
    if task == "multi_class":
        return ()
    scores = logits.sigmoid().cpu().numpy()  # in float32, as `predict` stores them: two near 1 may be equal
    return tuple(choose_threshold(*column) for column in zip(scores.T, labels.T, strict=True))


def choose_threshold(probabilities: NDArray[np.floating], labels: NDArray[np.uint8]) -> float | None:
    """Return the threshold with the highest balanced accuracy, (sensitivity + specificity) / 2.

    It lies half way between two neighbouring probabilities; of equally good ones the nearest to 0.5 is taken. A class
    is predicted above the threshold, so never at probability 0. Without both labels all are equal: None.

    Args:
        probabilities: (images,), 0..1, of the validation split.
        labels: (images,), 0 or 1.

    Source:
        Youden 1950, doi:10.1002/1097-0142(1950)3:1<32::AID-CNCR2820030106>3.0.CO;2-3: the same maximum as his J.
    """
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return None
    values, index = np.unique(probabilities.astype(np.float64), return_inverse=True)
    positives_at = np.bincount(index, weights=labels, minlength=len(values))
    negatives_at = np.bincount(index, weights=1 - labels, minlength=len(values))
    cuts = np.concatenate([[values[0] / 2], (values[:-1] + values[1:]) / 2, [(values[-1] + 1) / 2]])
    false_negative_rate = np.concatenate([[0], np.cumsum(positives_at)]) / positives  # positives at or below the cut
    specificity = np.concatenate([[0], np.cumsum(negatives_at)]) / negatives
    balanced = np.round((1 - false_negative_rate + specificity) / 2, 12)  # equal ones tie whatever the rounding
    if values[0] == 0:  # no threshold within 0..1 predicts the class for all images
        cuts, balanced = cuts[1:], balanced[1:]
    best = cuts[balanced == balanced.max()]
    return float(best[np.argmin(np.round(np.abs(best - DEFAULT_THRESHOLD), 12))])
