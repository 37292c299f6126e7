"""Images to probabilities, by a checkpoint."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from hemo.learning.batch import normalise, to_unit_range
from hemo.learning.checkpoint import CheckpointCard, load_checkpoint
from hemo.learning.evaluate import mixed_precision


class Predictor:
    """A checkpoint's model on a device, ready to be asked."""

    def __init__(self, checkpoint: str, *, device: str, batch_size: int) -> None:
        """Load the checkpoint at a path or URI; it is asked for `batch_size` images at once.

        Raises:
            SourceError: If it is no checkpoint.
        """
        model, self.card = load_checkpoint(checkpoint)
        self._device = torch.device(device)
        self._model = model.to(self._device)
        self._batch_size = batch_size

    def probabilities(self, images: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the probability of every class for every image.

        Args:
            images: Each of shape (channels, height_px, width_px), uint8, made as the checkpoint's card says.

        Returns:
            Array (images, classes) in 0..1, classes as in the card.
        """
        answers = [self._ask(batch) for batch in _batches(images, self._batch_size)]
        return np.concatenate(answers) if answers else np.empty((0, len(self.card.classes)), np.float32)

    def _ask(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(batch).to(self._device)
        with torch.inference_mode(), mixed_precision(self._device):
            logits = self._model(normalise(to_unit_range(pixels), self.card.normalisation)).float()
        return to_probabilities(logits, self.card).cpu().numpy()


def to_probabilities(logits: torch.Tensor, card: CheckpointCard) -> torch.Tensor:
    """Return softmax over exclusive classes, sigmoid of each class otherwise."""
    return logits.softmax(dim=1) if card.task == "multi_class" else logits.sigmoid()


def _batches(images: Iterable[NDArray[np.uint8]], size: int) -> Iterator[NDArray[np.uint8]]:
    batch: list[NDArray[np.uint8]] = []
    for image in images:
        batch.append(image)
        if len(batch) == size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)
