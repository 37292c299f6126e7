"""Grad-CAM: where in an image a model sees evidence of a class."""

import numpy as np
import torch
from captum.attr import LayerGradCam
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hemo.errors import ConfigError
from hemo.learning.backbones import positions
from hemo.learning.batch import normalise, to_unit_range
from hemo.learning.checkpoint import CheckpointCard
from hemo.learning.model import ImageClassifier


def heat_maps(
    model: ImageClassifier, card: CheckpointCard, images: NDArray[np.uint8], class_index: int
) -> NDArray[np.float32]:
    """Return how much each place speaks for a class.

    The backbone's last features, each weighted by the mean gradient of the class's logit, summed where the sum is
    positive, and enlarged to the image; the smaller the backbone's last grid, the blurrier.

    Args:
        model: In evaluation mode, on any device.
        card: Of its checkpoint.
        images: (images, channels, height_px, width_px), uint8, as stored.
        class_index: Place of the class in the card.

    Returns:
        Array (images, height_px, width_px), 0 or more, in no unit; all 0 where nothing speaks for the class.

    Raises:
        ConfigError: If the backbone's features have no place in the image.

    Source:
        Selvaraju et al. 2017, arXiv:1610.02391.
    """
    device = next(model.parameters()).device
    pixels = normalise(to_unit_range(torch.from_numpy(images).to(device)), card.normalisation)
    with torch.no_grad():
        rows, cols = _grid(model.backbone, model.features(pixels[:1]), card.model.backbone)
    opened = _Opened(model)
    found = LayerGradCam(opened, opened.features).attribute(pixels, target=class_index, relu_attributions=True)
    coarse = found.detach().reshape(len(images), 1, rows, cols)
    sides_px = (card.height_px, card.width_px)
    fine = functional.interpolate(coarse, size=sides_px, mode="bilinear", align_corners=False)
    return fine[:, 0].cpu().numpy()


class _Opened(nn.Module):
    """A model whose features can be watched: (images, features, positions)."""

    def __init__(self, model: ImageClassifier) -> None:
        super().__init__()
        self._model = model
        self.features = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        found = positions(self._model.backbone, self._model.features(images))
        logits: Tensor = self._model.head(self.features(found.transpose(1, 2)).transpose(1, 2))
        return logits.float()


def _grid(backbone: nn.Module, features: Tensor, name: str) -> tuple[int, int]:
    """Return rows and columns of a backbone's features, in the order of `positions`."""
    if features.ndim == 4:
        channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
        rows, cols = features.shape[1:3] if channels_last else features.shape[2:]
        return rows, cols
    size = getattr(getattr(backbone, "patch_embed", None), "grid_size", None)
    if size is None or size[0] * size[1] != positions(backbone, features).shape[1]:
        raise ConfigError(f"checkpoint: the features of {name} have no place in the image: it cannot be explained")
    return size[0], size[1]
