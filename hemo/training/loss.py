"""Losses of each image: weighted log loss, focal or Dice, for multi-label and multi-class tasks."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from hemo.config.trial import TrialConfig
from hemo.training.data.examples import Examples
from hemo.training.results import column_weights

FOCAL_GAMMA = 2.0
"""Focusing exponent; the best of those tried by Lin et al. 2017 (arXiv:1708.02002)."""

DICE_SMOOTHING = 1.0
"""Added above and below the fraction, so that an image without the class counts too (Li et al. 2020,
doi:10.18653/v1/2020.acl-main.45, section 3.2)."""

Formula = Literal["log", "focal", "dice"]


@dataclass(frozen=True)
class ImageLoss:
    """Loss of each image. Tensors have one value a class of the task and lie on the device."""

    formula: Formula
    exclusive: bool  # one class an image: cross entropy; else binary cross entropy by column
    column_weight: Tensor  # sums to 1; how much a class counts in an image's loss
    positive_weight: Tensor  # of an image that has the class
    negative_weight: Tensor  # of an image that has not

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each image.

        Args:
            logits: (images, classes), float32.
            targets: (images, classes), float32, in 0..1; hard labels are 0 or 1.

        Returns:
            Tensor (images,), float32; log and focal losses in natural logarithms.
        """
        if self.formula == "dice":
            return (self._dice(logits, targets) * self.column_weight).sum(dim=1)
        if self.exclusive:
            logs = functional.log_softmax(logits, dim=1)
            return -(targets * self.positive_weight * self._focus(logs) * logs).sum(dim=1)
        present, absent = functional.logsigmoid(logits), functional.logsigmoid(-logits)
        positive = self.positive_weight * targets * self._focus(present) * present
        negative = self.negative_weight * (1 - targets) * self._focus(absent) * absent
        return -((positive + negative) * self.column_weight).sum(dim=1)

    def _focus(self, logs: Tensor) -> Tensor | float:
        """Return how much a logarithm of the right answer's probability counts: (1 - p) ** gamma, or 1."""
        return (1 - logs.exp()) ** FOCAL_GAMMA if self.formula == "focal" else 1.0

    def _dice(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return 1 - soft Dice coefficient of each image and class, shape (images, classes)."""
        probabilities = logits.softmax(dim=1) if self.exclusive else logits.sigmoid()
        return 1 - (2 * probabilities * targets + DICE_SMOOTHING) / (probabilities + targets + DICE_SMOOTHING)


def targets_of(examples: Examples, device: torch.device) -> Tensor:
    """Return the labels of examples as a loss takes them: (examples, classes), float32, on the device."""
    return torch.from_numpy(examples.labels).to(device, torch.float32)


def build_loss(config: TrialConfig, classes: tuple[str, ...], train_labels: Tensor) -> ImageLoss:
    """Make the loss a trial asks for.

    Args:
        config: Of the trial.
        classes: Of the task.
        train_labels: (images, classes) of the training split, 0 or 1; class weights come from it. Its device is used.
    """
    ones = torch.ones(len(classes), device=train_labels.device)
    exclusive = config.task == "multi_class"
    columns = torch.tensor(column_weights(classes), device=ones.device) if config.training.loss == "rsna" else ones
    positive, negative = ones, ones
    if config.training.loss == "class_weighted":
        positive, negative = _inverse_frequency(train_labels, exclusive)
    formulas: dict[str, Formula] = {"focal": "focal", "dice": "dice"}
    formula = formulas.get(config.training.loss, "log")
    return ImageLoss(formula, exclusive, columns / columns.sum(), positive, negative)


def smoothed(targets: Tensor, smoothing: float, *, exclusive: bool) -> Tensor:
    """Return smoothed labels: a fraction `smoothing` is spread evenly over both values of a class, or over all classes.

    Args:
        targets: (images, classes), float32, in 0..1.
        smoothing: 0..1; with 0 the labels stay as they are.
        exclusive: Whether an image has one class only.

    Source:
        Szegedy et al. 2016, arXiv:1512.00567, section 7.
    """
    values = targets.shape[1] if exclusive else 2
    return targets * (1 - smoothing) + smoothing / values


def _inverse_frequency(labels: Tensor, exclusive: bool) -> tuple[Tensor, Tensor]:
    """Return weights of positives and negatives, shape (classes,): images / (groups x images in the group).

    Over the training split they average to 1, so that losses stay comparable. The groups are the classes where one
    excludes the others, else the two sides of each class; a side without images has weight 1, which nothing meets.
    """
    images, classes = labels.shape
    positives = labels.sum(dim=0, dtype=torch.float32)
    groups = classes if exclusive else 2
    sides = [images / (groups * count) for count in (positives, images - positives)]
    positive, negative = (torch.where(torch.isfinite(side), side, torch.ones_like(side)) for side in sides)
    return positive, negative
