"""Images to probabilities, by a checkpoint."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hemo.digest import digest_of
from hemo.errors import ConfigError
from hemo.learning.batch import normalise, to_unit_range
from hemo.learning.checkpoint import CheckpointCard, load_checkpoint
from hemo.learning.evaluate import mixed_precision
from hemo.learning.memory import memory_told
from hemo.storage import join, read_bytes


class Predictor:
    """A checkpoint's model on a device, ready to be asked."""

    def __init__(self, checkpoint: str, *, device: str, batch_size: int, flip: bool = False) -> None:
        """Load the checkpoint at a path or URI.

        Args:
            checkpoint: Its folder.
            device: Of torch.
            batch_size: Images it is asked for at once.
            flip: Whether a probability is the mean over an image and its mirror image, left to right.

        Raises:
            SourceError: If it is no checkpoint.
        """
        model, self.card = load_checkpoint(checkpoint)
        self._device = torch.device(device)
        self._model = model.to(self._device)
        self._batch_size = batch_size
        self._flip = flip

    def probabilities(self, images: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the probability of every class for every image.

        Args:
            images: Each of shape (channels, height_px, width_px), uint8, made as the checkpoint's card says.

        Returns:
            Array (images, classes) in 0..1, classes as in the card.

        Raises:
            ConfigError: If the memory does not hold a batch.
        """
        answers = [self._ask(batch) for batch in _batches(images, self._batch_size)]
        return np.concatenate(answers) if answers else np.empty((0, len(self.card.classes)), np.float32)

    def _ask(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        with memory_told(self._batch_size, ConfigError), torch.inference_mode(), mixed_precision(self._device):
            pixels = torch.from_numpy(batch).to(self._device)
            found = self._of(pixels)
            if self._flip:
                found = (found + self._of(pixels.flip(dims=(3,)))) / 2
            answer: NDArray[np.float32] = found.cpu().numpy()
        return answer

    def _of(self, pixels: Tensor) -> Tensor:
        logits = self._model(normalise(to_unit_range(pixels), self.card.normalisation)).float()
        return to_probabilities(logits, self.card)


def to_probabilities(logits: Tensor, card: CheckpointCard) -> Tensor:
    """Return softmax over exclusive classes, sigmoid of each class otherwise."""
    return logits.softmax(dim=1) if card.task == "multi_class" else logits.sigmoid()


def called_classes(probabilities: NDArray[np.float32], card: CheckpointCard) -> NDArray[np.bool_]:
    """Return which classes each image is said to have, shape (images, classes), at the checkpoint's thresholds."""
    called: NDArray[np.bool_]
    if card.task == "multi_class":
        called = np.arange(len(card.classes)) == probabilities.argmax(axis=1)[:, None]
    else:
        called = probabilities > np.asarray(card.thresholds)
    return called


def checkpoint_digest(checkpoint: str) -> str:
    """Return 16 hexadecimal digits that cover all that a checkpoint says: card and weights."""
    return digest_of([read_bytes(join(checkpoint, name)).hex() for name in ("checkpoint.json", "weights.safetensors")])


def _batches(images: Iterable[NDArray[np.uint8]], size: int) -> Iterator[NDArray[np.uint8]]:
    batch: list[NDArray[np.uint8]] = []
    for image in images:
        batch.append(image)
        if len(batch) == size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)
