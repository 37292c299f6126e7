"""Images made smaller on the device: what a network does first if it is to see fewer pixels than its images have."""

import torch
from torch import Tensor, nn

from hemo.config.trial import ModelConfig
from hemo.errors import ConfigError
from hemo.learning.convnet import NONE


class Shrink(nn.Module):
    """Square images to a smaller side, by area: each pixel is the mean over the square that it covers.

    No pixel is skipped, and each counts once in all, also where the sides do not divide: as `convert` makes the stored
    images, which antialiased bilinear interpolation would blur more, and `adaptive_avg_pool2d` not weigh by area. Two
    products with one matrix are the same in ONNX, of any opset, and sum in the same order each time. They are kept out
    of autocast, whose bfloat16 would move a grey by up to 1.3 of 255 (measured on noise).
    """

    shares: Tensor

    def __init__(self, source_px: int, side_px: int) -> None:
        """Prepare for images of one side; what it holds is no weight, and in no checkpoint."""
        super().__init__()
        self.register_buffer("shares", area_shares(source_px, side_px), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Turn (images, channels, source_px, source_px) into (images, channels, side_px, side_px), float32."""
        with torch.autocast(images.device.type, enabled=False):
            return self.shares @ images @ self.shares.T


def area_shares(source_px: int, side_px: int) -> Tensor:
    """Return what share of each pixel of the result lies in each of the source, along one side.

    Returns:
        Shape (side_px, source_px), float32; each row sums to 1.
    """
    span = source_px / side_px
    ends = span * torch.arange(side_px + 1, dtype=torch.float64)
    pixels = torch.arange(source_px, dtype=torch.float64)
    shared = torch.minimum(ends[1:, None], pixels + 1) - torch.maximum(ends[:-1, None], pixels)
    return (shared.clamp(min=0) / span).to(torch.float32)


def build_shrink(sides_px: tuple[int, int], seen_px: tuple[int, int]) -> nn.Module:
    """Make what brings images of some height and width to those of `seen_sides`: nothing where they are the same."""
    return nn.Identity() if seen_px == sides_px else Shrink(sides_px[0], seen_px[0])


def seen_sides(config: ModelConfig, sides_px: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the images that the backbone sees.

    Args:
        config: Of the model.
        sides_px: Height and width of the training set's images.

    Raises:
        ConfigError: If they cannot be shrunk to `side_px`: they are smaller or not square, or there is no backbone.
    """
    if not config.side_px:
        return sides_px
    if config.backbone == NONE:
        raise ConfigError(
            f"model.side_px: backbone {NONE} takes the values as they are, its columns may be words; leave it at 0"
        )
    height_px, width_px = sides_px
    if height_px != width_px or config.side_px > height_px:
        wanted = f"at most {height_px}" if height_px == width_px else "square images"
        raise ConfigError(
            f"model.side_px: images of {height_px} x {width_px} px cannot be shrunk to {config.side_px} px, it wants "
            f"{wanted}; leave it at 0, or convert with another --side_px"
        )
    return config.side_px, config.side_px
