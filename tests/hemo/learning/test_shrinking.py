"""Images shrunk on the device, by hand and against what `convert` stores."""

import numpy as np
import pytest
import torch
from torch import nn

from hemo.config.trial import ModelConfig
from hemo.errors import ConfigError
from hemo.imaging.resize import to_square
from hemo.learning.shrinking import Shrink, area_shares, build_shrink, seen_sides


def _model(side_px: int, backbone: str = "test_resnet") -> ModelConfig:
    return ModelConfig(backbone=backbone, side_px=side_px)


def test_shares_of_three_pixels_in_four() -> None:
    """A pixel of the result is 4/3 of the source's wide: one whole and a third of the next, or two halves."""
    torch.testing.assert_close(
        area_shares(4, 3), torch.tensor([[0.75, 0.25, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0.25, 0.75]])
    )


def test_each_pixel_is_the_mean_of_its_area() -> None:
    """Along a row 0, 12, 24, 36 become 3, 18, 33; rows rise by ten times that."""
    ramp = torch.tensor([0.0, 12, 24, 36])
    images = torch.stack([ramp + 10 * ramp[:, None], ramp.expand(4, 4)])[None]
    found = Shrink(4, 3)(images)
    wanted = torch.tensor([3.0, 18, 33])
    torch.testing.assert_close(found[0, 0], wanted + 10 * wanted[:, None])
    torch.testing.assert_close(found[0, 1], wanted.expand(3, 3))


@pytest.mark.parametrize(("source_px", "side_px"), [(64, 48), (64, 32), (50, 33)])
def test_it_is_what_convert_makes_of_the_same_image_before_rounding(source_px: int, side_px: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (source_px, source_px, 3), np.uint8)
    found = Shrink(source_px, side_px)(torch.from_numpy(pixels).permute(2, 0, 1)[None].float())
    stored = to_square(pixels, side_px).astype(np.float32)
    assert np.abs(found[0].permute(1, 2, 0).numpy() - stored).max() <= 0.51


def test_the_finest_pattern_becomes_grey() -> None:
    """Stripes of one pixel, thinned out, would be all black."""
    stripes = torch.tensor([0.0, 1.0]).repeat(4).expand(1, 1, 8, 8)
    torch.testing.assert_close(Shrink(8, 4)(stripes), torch.full((1, 1, 4, 4), 0.5))


def test_mixed_precision_leaves_greys_as_they_are() -> None:
    images = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    shrink = Shrink(8, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = shrink(images)
    assert torch.equal(found, shrink(images))


def test_what_it_holds_is_no_weight() -> None:
    assert not Shrink(8, 4).state_dict()
    assert not list(Shrink(8, 4).parameters())


@pytest.mark.parametrize(("side_px", "seen_px"), [(0, (24, 24)), (24, (24, 24)), (16, (16, 16))])
def test_the_backbone_sees_the_side_asked_for(side_px: int, seen_px: tuple[int, int]) -> None:
    assert seen_sides(_model(side_px), (24, 24)) == seen_px
    kind = Shrink if side_px == 16 else nn.Identity
    assert isinstance(build_shrink((24, 24), seen_px), kind)


def test_images_as_they_are_need_not_be_square() -> None:
    assert seen_sides(_model(0), (16, 24)) == (16, 24)
    assert seen_sides(_model(0, "none"), (1, 10_000)) == (1, 10_000)


@pytest.mark.parametrize(
    ("backbone", "sides_px", "message"),
    [
        ("test_resnet", (24, 24), r"^model.side_px: images of 24 x 24 px .* to 32 px, it wants at most 24; leave it"),
        ("test_resnet", (48, 64), r"^model.side_px: images of 48 x 64 px .* to 32 px, it wants square images;"),
        ("none", (48, 48), r"^model.side_px: backbone none takes the values as they are, .*; leave it at 0"),
    ],
)
def test_what_cannot_be_shrunk_is_refused(backbone: str, sides_px: tuple[int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        seen_sides(_model(32, backbone), sides_px)
