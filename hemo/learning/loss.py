"""What is minimised: a weighted log loss an image, in one formula for all tasks."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hemo.config.trial import TrialConfig

ANY_CLASS = "any"
ANY_WEIGHT = 2.0
"""The RSNA 2019 metric counts `any` twice: columns weighted [2,1,1,1,1,1]/7 (Flanders et al. 2020,
doi:10.1148/ryai.2020190211)."""


@dataclass(frozen=True)
class ImageLoss:
    """Loss of each image. Tensors have one value a class of the task and lie on the device."""

    exclusive: bool  # one class an image: cross entropy; else binary cross entropy by column
    column_weight: Tensor  # sums to 1; how much a class counts in an image's loss
    positive_weight: Tensor  # of an image that has the class
    negative_weight: Tensor  # of an image that has not

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each image.

        Args:
            logits: (images, classes), float32.
            targets: (images, classes), float32, 0 or 1.

        Returns:
            Tensor (images,), float32, natural logarithm.
        """
        if self.exclusive:
            return -(targets * self.positive_weight * functional.log_softmax(logits, dim=1)).sum(dim=1)
        positive = self.positive_weight * targets * functional.logsigmoid(logits)
        negative = self.negative_weight * (1 - targets) * functional.logsigmoid(-logits)
        return -((positive + negative) * self.column_weight).sum(dim=1)


def build_loss(config: TrialConfig, classes: tuple[str, ...], train_labels: Tensor) -> ImageLoss:
    """Make the loss a trial asks for.

    Args:
        config: Of the trial.
        classes: Of the task.
        train_labels: (images, classes) of the training split, 0 or 1; class weights come from it. Its device is used.
    """
    ones = torch.ones(len(classes), device=train_labels.device)
    exclusive = config.task == "multi_class"
    columns = ones
    if config.training.loss == "rsna":
        columns = torch.tensor([ANY_WEIGHT if name == ANY_CLASS else 1.0 for name in classes], device=ones.device)
    positive, negative = ones, ones
    if config.training.loss == "class_weighted":
        positive, negative = _inverse_frequency(train_labels, exclusive)
    return ImageLoss(exclusive, columns / columns.sum(), positive, negative)


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
