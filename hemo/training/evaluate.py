"""Evaluate a model on a split: its logits, and their metrics over all images and by pixel format."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.functional import classification as tm

from hemo.models.classifier import Normalisation, calibrated_logits, mixed_precision, model_input
from hemo.models.sequence import noisy_or
from hemo.stats import CALIBRATION_BINS
from hemo.stats.auroc import auroc
from hemo.stats.calibration import Calibration
from hemo.training.data.examples import Examples
from hemo.training.data.loader import device_batches
from hemo.training.data.sampling import every_block, every_row
from hemo.training.distributed import Worker, all_reduce_sum, broadcast_buffers
from hemo.training.loss import ImageLoss
from hemo.training.results import (
    BY_CLASS,
    DEFAULT_THRESHOLD,
    METRICS,
    ConfusionMatrix,
    SplitMetrics,
    StudyMetrics,
    SubgroupMetrics,
    column_weights,
)

Task = Literal["binary", "multi_label", "multi_class"]


@dataclass(frozen=True)
class Readout:
    """How the logits of a task become probabilities and predicted classes."""

    task: Task
    classes: tuple[str, ...]  # of the logits, in order
    # probability above which a class is predicted: one for all classes, or one a class; `multi_class` uses none
    thresholds: float | tuple[float, ...] = DEFAULT_THRESHOLD
    calibration: Calibration = field(default_factory=Calibration)

    @property
    def exclusive(self) -> bool:
        """Whether each image has one class only."""
        return self.task == "multi_class"

    def calibrated(self, logits: Tensor) -> Tensor:
        """Return calibrated logits, of the dtype of `logits`, shape (images, classes)."""
        return calibrated_logits(logits, self.calibration, exclusive=self.exclusive)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return calibrated probabilities, of the dtype of `logits`: softmax of exclusive classes, else sigmoid."""
        calibrated = self.calibrated(logits)
        return calibrated.softmax(dim=1) if self.exclusive else calibrated.sigmoid()

    def predicted(self, probabilities: Tensor) -> Tensor:
        """Return the predicted classes of each image, 0 or 1, shape (images, classes)."""
        if self.exclusive:
            return functional.one_hot(probabilities.argmax(dim=1), probabilities.shape[1]).int()
        return (probabilities > probabilities.new_tensor(self.thresholds)).int()


def predict_logits(
    module: nn.Module, examples: Examples, normalisation: Normalisation | None, batch_size: int, worker: Worker
) -> Tensor:
    """Return the logits of a split in evaluation mode, each computed once, the same on every worker.

    Args:
        module: Model on the worker's device; its mode is restored.
        examples: Of the split.
        normalisation: Of the model; None: of one that takes features.
        batch_size: Images in one forward pass, or whole studies; logits depend on it within rounding.
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
    if examples.source.images.is_study is None:
        batches = every_row(len(examples), rank=worker.rank, workers=worker.count, batch_size=batch_size)
    else:
        batches = every_block(examples.block_of, rank=worker.rank, workers=worker.count, batch_size=batch_size)
    with torch.no_grad():
        for rows, images in zip(batches, device_batches(examples, batches, device), strict=True):
            with mixed_precision(device):
                logits[rows[0] : rows[-1] + 1] = module(model_input(images, normalisation))
    module.train(mode)
    return all_reduce_sum(logits, worker)


def split_metrics(readout: Readout, logits: Tensor, examples: Examples, loss: ImageLoss) -> SplitMetrics:
    """Return the metrics of a split, over all its images and by pixel format.

    Args:
        readout: Of the trial.
        logits: (examples, classes), float32.
        examples: Of the split.
        loss: Of the trial, on the logits' device.
    """
    targets = torch.from_numpy(examples.labels).to(logits)
    formats = examples.source.pixel_format[examples.rows]
    groups = {}
    for pixel_format in np.unique(formats):
        rows = torch.from_numpy(np.flatnonzero(formats == pixel_format)).to(logits.device)
        metrics = compute_metrics(readout, logits[rows], targets[rows], loss)
        groups[str(pixel_format)] = SubgroupMetrics(
            images=len(rows),
            metrics={name: metrics.get(name) for name in METRICS},
            confusion=confusion(readout, logits[rows], targets[rows]),
        )
    return SplitMetrics(
        metrics=compute_metrics(readout, logits, targets, loss),
        confusion=confusion(readout, logits, targets),
        by_pixel_format=groups,
    )


def study_metrics(
    readout: Readout,
    slices: Examples,
    slice_logits: NDArray[np.float32],
    studies: Examples,
    logits: NDArray[np.float32],
) -> dict[str, StudyMetrics]:
    """Return how well studies are classified: by the sequence model, and by the slices it gave, in two ways.

    Args:
        readout: Of the slices: its calibration is applied to them, studies stay as trained.
        slices: Of a split.
        slice_logits: (slices, classes).
        studies: Of the same split.
        logits: (studies, classes).

    Returns:
        `sequence`, `max` and `noisy_or` (see `hemo.inference.studies`) -> metrics, means over the classes.
    """
    calibrated = readout.calibrated(torch.from_numpy(slice_logits).double())
    place = torch.from_numpy(np.searchsorted(studies.block_of, slices.block_of))
    known = torch.from_numpy(np.isin(slices.block_of, studies.block_of))
    calibrated, place = calibrated[known], place[known]
    shape = (len(studies), calibrated.shape[1])
    highest = calibrated.new_full(shape, -np.inf)
    highest = highest.scatter_reduce(0, place[:, None].expand_as(calibrated), calibrated, "amax")
    ways = {
        "sequence": torch.from_numpy(logits).double(),
        "max": highest,
        "noisy_or": noisy_or(calibrated, place, len(studies)),
    }
    plain = Readout(readout.task, readout.classes)
    return {name: _study_metrics(plain, values, studies) for name, values in ways.items()}


def _study_metrics(readout: Readout, logits: Tensor, studies: Examples) -> StudyMetrics:
    targets = torch.from_numpy(studies.labels).double()
    columns = [
        _class_metrics(*column)
        for column in zip(logits.sigmoid().T.contiguous(), (logits > 0).int().T, targets.int().T, strict=True)
    ]
    metrics = {"log_loss": _log_loss(readout, logits, targets)}
    for name in ("auroc", "average_precision", "calibration_error"):
        values = [column[name] for column in columns if name in column]
        if values:
            metrics[name] = sum(values) / len(values)
    patients = np.unique(studies.source.patient[studies.rows], return_inverse=True)[1]
    area = auroc(logits.numpy(), studies.labels, patients)
    interval = None if area is None else area.interval()
    return StudyMetrics(
        studies=len(studies), metrics=metrics, auroc_interval=None if interval is None else interval.ends
    )


def compute_metrics(readout: Readout, logits: Tensor, targets: Tensor, loss: ImageLoss) -> dict[str, float]:
    """Return the metrics that are defined, of those in `hemo.training.results.METRICS`.

    Of several classes the mean over the classes for which a metric is defined; accuracy of `multi_label` too. Accuracy
    of `multi_class` is the fraction of images whose most probable class is correct, its calibration error that of the
    most probable class. `loss` is the trial's own, of the logits as they were trained; all others are of calibrated
    probabilities. `log_loss` has the RSNA competition's column weights and no others.

    Args:
        readout: Of the trial.
        logits: (images, classes), float32.
        targets: (images, classes), float32, 0 or 1.
        loss: Of the trial.

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
        "log_loss": _log_loss(readout, readout.calibrated(logits.double()), targets.double()),
    }
    scores = readout.probabilities(logits.double())
    predicted = readout.predicted(scores)
    by_class = zip(scores.T.contiguous(), predicted.T, targets.int().T, strict=True)  # torch.bucketize wants whole rows
    columns = [_class_metrics(*column) for column in by_class]
    for name in BY_CLASS:
        values = [column[name] for column in columns if name in column]
        if values:
            metrics[name] = sum(values) / len(values)
    if readout.exclusive:
        metrics |= _multi_class_metrics(scores, targets)
    if bool((targets == targets[0]).all()):
        del metrics["accuracy"]
    return metrics


def confusion(readout: Readout, logits: Tensor, targets: Tensor) -> tuple[ConfusionMatrix, ...]:
    """Return confusion matrices: counts of images, rows by label and columns by prediction.

    Args:
        readout: Of the trial.
        logits: (images, classes), float32.
        targets: (images, classes), 0 or 1.

    Returns:
        `multi_class`: one matrix, classes by classes. Else one a class: ((TN, FP), (FN, TP)).
    """
    predicted = readout.predicted(readout.probabilities(logits.double()))
    if readout.exclusive:
        classes = logits.shape[1]
        counts = tm.multiclass_confusion_matrix(predicted.argmax(dim=1), targets.argmax(dim=1), num_classes=classes)
        return (_matrix(counts),)
    columns = zip(predicted.T, targets.int().T, strict=True)
    return tuple(_matrix(tm.binary_confusion_matrix(*column)) for column in columns)


def _log_loss(readout: Readout, logits: Tensor, targets: Tensor) -> float:
    """Return the mean log loss of an image; the competition counts the column `any` twice, as hemo's `rsna` loss."""
    if readout.exclusive:
        return float(functional.cross_entropy(logits, targets))
    weights = column_weights(readout.classes)
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
