"""Mixup: an image and a part of another, with labels mixed alike. What is mixed is drawn apart from mixing it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Mixing:
    """What each image of a batch is mixed with."""

    partner: NDArray[np.intp]  # (images,): place in the batch of the image mixed in
    share: Tensor  # (images,), float32, 0.5..1: of the image itself

    def part(self, place: slice) -> "Mixing":
        """Return what some of the images are mixed with; partners are still places in the whole batch."""
        return Mixing(self.partner[place], self.share[place])


def draw_mixing(alpha: float, images: int, seed: int) -> Mixing:
    """Draw partners and shares for a batch.

    An image has at least half of what comes of it, so that its own label is the larger part.

    Args:
        alpha: Of the Beta distribution of shares, above 0: small ones hardly mix, 1 mixes evenly.
        images: In the batch.
        seed: The same draws the same.

    Source:
        Zhang et al. 2018, arXiv:1710.09412, with a share for each image.
    """
    generator = np.random.default_rng(seed)
    partner = generator.permutation(images)
    share = generator.beta(alpha, alpha, images)
    return Mixing(partner, torch.from_numpy(np.maximum(share, 1 - share)).float())


def mixed(own: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """Return `share` of each of `own` and the rest of `others`; images or labels, (images, ...), float32."""
    weight = share.to(own.device, non_blocking=True).reshape(-1, *(1,) * (own.ndim - 1))
    return weight * own + (1 - weight) * others
