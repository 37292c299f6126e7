"""What the model sees at a step of training: images as drawn for this epoch and step, and what is said of them."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hemo.config.trial import AugmentConfig
from hemo.learning.augment import AugmentParameters, augment, draw_parameters
from hemo.learning.batch import Normalisation, normalise, to_device, to_unit_range
from hemo.learning.examples import Examples
from hemo.learning.mixup import draw_mixing, mixed
from hemo.learning.order import Step, mixed_seed


@dataclass(frozen=True)
class TrainingBatches:
    """Batches of one split, replayed by seed, epoch and step.

    All is drawn for the images of all workers, so that what happens to an image does not depend on how many there are.
    """

    examples: Examples
    targets: Tensor  # (examples, classes), float32; its device is that of the batches
    config: AugmentConfig
    seed: int  # of the trial
    normalisation: Normalisation

    def batch(self, step: Step, epoch: int, number: int) -> tuple[Tensor, Tensor]:
        """Return the worker's images of a step, augmented, normalised and mixed, and their labels.

        Args:
            step: Which images.
            epoch: 1-based.
            number: Of the step in the epoch, 0-based.

        Returns:
            Tensors (images, channels, height_px, width_px) and (images, classes), float32, on the device.
        """
        parameters_seed, mixing_seed = (mixed_seed(self.seed, epoch, number, use) for use in (0, 1))
        drawn = draw_parameters(self.config, step.images, torch.Generator().manual_seed(parameters_seed))
        images, labels = self._changed(step.rows, drawn.part(step.place))
        if not self.config.mixup_alpha:
            return images, labels
        mixing = draw_mixing(self.config.mixup_alpha, step.images, mixing_seed).part(step.place)
        partners = drawn.part(torch.from_numpy(mixing.partner))
        others, other_labels = self._changed(step.batch[mixing.partner], partners)
        return mixed(images, others, mixing.share), mixed(labels, other_labels, mixing.share)

    def _changed(self, rows: NDArray[np.intp], parameters: AugmentParameters) -> tuple[Tensor, Tensor]:
        """Return images changed by their parameters and normalised, and their labels."""
        device = self.targets.device
        images = to_unit_range(to_device(self.examples.source, self.examples.rows[rows], device))
        labels = self.targets[torch.from_numpy(rows).to(device)]
        return normalise(augment(images, parameters), self.normalisation), labels
