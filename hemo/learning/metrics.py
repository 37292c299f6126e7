"""Figures of a split from all its logits at once: no mean of batch means, and nothing that is not defined."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional import classification as tm

from hemo.learning.loss import ImageLoss

Task = Literal["binary", "multi_label", "multi_class"]

DEFAULT_THRESHOLD = 0.5


def measure(task: Task, logits: Tensor, targets: Tensor, loss: ImageLoss, threshold: float) -> dict[str, float]:
    """Return loss, accuracy, AUROC, sensitivity and specificity of a split.

    Several classes: means over the classes for which a figure is defined. `multi_label` accuracy is the mean over
    classes too; `multi_class` accuracy is the share of images whose most probable class is right.

    Args:
        task: Of the trial.
        logits: (images, classes), float32.
        targets: (images, classes), float32, 0 or 1.
        loss: Of the trial.
        threshold: Probability above which an image has a class; not used by `multi_class`.

    Returns:
        Metric -> value. What is not defined is left out: AUROC of a split with one class only, sensitivity without
        positives, specificity without negatives.
    """
    figures = {"loss": float(loss(logits, targets).double().mean())}
    exclusive = task == "multi_class"
    scores = logits.double().softmax(dim=1) if exclusive else logits.double().sigmoid()
    called = functional.one_hot(scores.argmax(dim=1), scores.shape[1]) if exclusive else scores > threshold
    columns = [_one_class(scores[:, c], called[:, c].int(), targets[:, c].int()) for c in range(scores.shape[1])]
    for name in ("accuracy", "auroc", "sensitivity", "specificity"):
        values = [column[name] for column in columns if name in column]
        if values:
            figures[name] = sum(values) / len(values)
    if exclusive:
        figures["accuracy"] = float((scores.argmax(dim=1) == targets.argmax(dim=1)).double().mean())
    return figures


def _one_class(scores: Tensor, called: Tensor, target: Tensor) -> dict[str, float]:
    """Return one class's figures; scores are probabilities, `called` and `target` 0 or 1, each of shape (images,)."""
    figures = {"accuracy": float(tm.binary_accuracy(called, target))}
    positives = int(target.sum())
    if positives:
        figures["sensitivity"] = float(tm.binary_recall(called, target))
    if positives < len(target):
        figures["specificity"] = float(tm.binary_specificity(called, target))
    if 0 < positives < len(target):
        figures["auroc"] = float(tm.binary_auroc(scores, target))
    return figures


def choose_threshold(probabilities: NDArray[np.floating], labels: NDArray[np.uint8]) -> float:
    """Return the threshold with the highest balanced accuracy, (sensitivity + specificity) / 2.

    It lies half way between two neighbouring probabilities; of equally good ones the nearest to 0.5 is taken. With one
    class only nothing can be chosen, and it is 0.5.

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
    best = cuts[balanced == balanced.max()]
    return float(best[np.argmin(np.round(np.abs(best - DEFAULT_THRESHOLD), 12))])
