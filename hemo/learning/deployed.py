"""A model with what stands before and behind it: stored pixels in, probabilities out."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hemo.learning.batch import normalise, to_unit_range
from hemo.learning.checkpoint import CheckpointCard
from hemo.learning.evaluate import mixed_precision
from hemo.learning.model import ImageClassifier
from hemo.learning.predict import to_probabilities

Session = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""From images (images, channels, height_px, width_px) to logits and probabilities, each (images, classes)."""


class Deployed(nn.Module):
    """A model with what stands before and behind it."""

    def __init__(self, model: ImageClassifier, card: CheckpointCard) -> None:
        """Join the model and its card."""
        super().__init__()
        self._model, self._card = model, card

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities, float32, (images, classes), of images (images, channels, rows, cols)."""
        logits = self._model(normalise(to_unit_range(images), self._card.normalisation))
        return logits, to_probabilities(logits, self._card)


def torch_session(model: ImageClassifier, card: CheckpointCard, device: str = "cpu") -> Session:
    """Return a torch model on a device ready to be asked; it is put into evaluation mode."""
    deployed, place = Deployed(model, card).eval(), torch.device(device)

    def ask(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with torch.inference_mode(), mixed_precision(place):
            logits, probabilities = deployed(torch.from_numpy(images).to(place))
        return logits.cpu().numpy(), probabilities.cpu().numpy()

    return ask
