"""What a split's logits are worth: figures of all its images, and of each pixel format alone."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hemo.config.report import METRICS
from hemo.learning.examples import Examples
from hemo.learning.loss import ImageLoss
from hemo.learning.metrics import Matrix, Task, Thresholds, confusion, measure


@dataclass(frozen=True)
class GroupFigures:
    """How the images of one pixel format did: where the format goes with the label, a model may learn the format."""

    images: int
    metrics: dict[str, float | None]  # all of `METRICS`; None where a figure is not defined
    confusion: tuple[Matrix, ...]  # see `hemo.learning.metrics.confusion`


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
