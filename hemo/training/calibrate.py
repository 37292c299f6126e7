"""Calibrate a trained model on its validation split, and choose the thresholds of its operating points there."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hemo.config.trial import TrialConfig
from hemo.stats.calibration import Calibration, LabelledLogits, SampledClass, TrainPrior, fit_calibration
from hemo.stats.choices import STANDARD_POINTS, OperatingPoint
from hemo.stats.operating_points import choose_threshold
from hemo.training.data.examples import Splits
from hemo.training.evaluate import Readout
from hemo.training.loss import ImageLoss


def calibrate(config: TrialConfig, splits: Splits, val_logits: Tensor, loss: ImageLoss) -> Calibration:
    """Return the calibration that the trial is configured for, fitted on validation.

    Args:
        config: Of the trial.
        splits: Its examples.
        val_logits: (examples of validation, classes), float32.
        loss: Of the trial: weights of classes act on odds as sampling does.
    """
    validation = LabelledLogits(
        logits=val_logits.cpu().numpy(),
        labels=splits.val.labels,
        patients=splits.val.source.patient[splits.val.rows],
        exclusive=config.task == "multi_class",
    )
    return fit_calibration(config.training.calibration, validation, train_prior(config, splits, loss), splits.classes)


def train_prior(config: TrialConfig, splits: Splits, loss: ImageLoss) -> TrainPrior:
    """Return how the prevalence that the loss met differs from that of the population.

    By the images of an epoch, as `curate` and `training.balance` sampled them, and by the class weights of the loss.
    Validation is never sampled.
    """
    learned, population = splits.epoch.labels.mean(axis=0), splits.population
    weights = torch.log(loss.positive_weight / (1 if loss.exclusive else loss.negative_weight)).cpu().double().numpy()
    sampled_by = [splits.curated_by] if splits.curated_by else []
    if config.training.balance != "none":
        sampled_by.append("all classes" if loss.exclusive else config.target)
    if loss.exclusive:
        by_sampling = _log_ratio(population, learned) if sampled_by else np.zeros(len(learned))
        return TrainPrior(shifts=tuple((by_sampling - weights).tolist()))
    shifts = tuple((0.0 - weights).tolist())
    if not sampled_by:
        return TrainPrior(shifts=shifts)
    if unknown := _why_unknown(splits, sampled_by):
        return TrainPrior(unknown=unknown, shifts=shifts)
    column = splits.classes.index(sampled_by[0])
    sampled = SampledClass(column, float(learned[column]), float(population[column]), implied=True)
    return TrainPrior(sampled, shifts=shifts)


def _log_ratio(population: NDArray[np.float64], learned: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(population / learned); 0 for a class without images."""
    known = (population > 0) & (learned > 0)
    return np.log(np.where(known, population, 1.0)) - np.log(np.where(known, learned, 1.0))


def _why_unknown(splits: Splits, sampled_by: list[str]) -> str:
    """Return why no formula takes back a sampling by these classes; empty if one does."""
    if len(set(sampled_by)) > 1:
        return f"train was sampled by {' and by '.join(sampled_by)}"
    (name,) = set(sampled_by)
    if name not in splits.classes:
        return f"train was sampled by {name}, which is no class of the task"
    labels = splits.train.labels
    without = labels[:, splits.classes.index(name)] == 0
    others = [other for other, shown in zip(splits.classes, labels[without].any(axis=0), strict=True) if shown]
    return f"train was sampled by {name}, which {others[0]} does not imply" if others else ""


def choose_operating_points(
    config: TrialConfig, readout: Readout, val_logits: Tensor, labels: NDArray[np.uint8]
) -> dict[str, tuple[float | None, ...]]:
    """Return rule -> thresholds, one a class, None where validation lacks one of its labels; none for `multi_class`.

    The trial's own rule comes first.

    Args:
        config: Of the trial.
        readout: With the trial's calibration.
        val_logits: (examples of validation, classes), float32.
        labels: (examples of validation, classes), 0 or 1.
    """
    if readout.exclusive:
        return {}
    scores = readout.probabilities(val_logits).cpu().numpy()  # float32, as `predict` has them: two near 1 may be equal
    columns = list(zip(scores.T, labels.T, strict=True))
    names = dict.fromkeys((config.training.operating_point, *STANDARD_POINTS))
    return {name: tuple(choose_threshold(*column, OperatingPoint.parse(name)) for column in columns) for name in names}
