"""Thumbnails for the page: images in one sprite, the most confident mistakes of trials, and pictures of `explain`."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hemo.imaging.image import displayed

TILE_PX = 64
"""Side of a thumbnail."""
COLUMNS = 40
"""Thumbnails in a row of the sprite."""
QUALITY = 72
"""Of the sprite's JPEG: a thumbnail takes some 1.5 kB."""


@dataclass(frozen=True)
class Gallery:
    """Thumbnails by image, and pictures by trial and image."""

    sprite: str = ""  # data URI
    tiles: Mapping[str, int] = field(default_factory=dict)  # image_id -> number in the sprite
    pictures: Mapping[str, str] = field(default_factory=dict)  # `DIGEST IMAGE_ID` -> data URI
    note: str = ""  # what is shown, or why nothing is; empty: no gallery was asked for

    def data(self) -> dict[str, Any]:
        """Return what the page's script needs."""
        return {"columns": COLUMNS, "sprite": self.sprite, "pictures": dict(self.pictures), "note": self.note}


def make_sprite(images: Sequence[NDArray[np.uint8]]) -> str:
    """Return images as one JPEG, `TILE_PX` each, `COLUMNS` in a row, as a data URI.

    Args:
        images: Each of shape (channels, height_px, width_px).
    """
    if not images:
        return ""
    rows = -(-len(images) // COLUMNS)
    sheet = Image.new("RGB", (TILE_PX * min(COLUMNS, len(images)), TILE_PX * rows))
    for number, image in enumerate(images):
        sheet.paste(_tile(image), (TILE_PX * (number % COLUMNS), TILE_PX * (number // COLUMNS)))
    return data_uri(sheet)


def _tile(image: NDArray[np.uint8]) -> Image.Image:
    """Return an image in a black square of `TILE_PX`, its sides in proportion."""
    picture = Image.fromarray(np.ascontiguousarray(displayed(image))).convert("RGB")
    picture.thumbnail((TILE_PX, TILE_PX), Image.Resampling.BOX)
    if max(picture.size) < TILE_PX:
        scale = TILE_PX / max(picture.size)
        picture = picture.resize(
            (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.NEAREST
        )
    square = Image.new("RGB", (TILE_PX, TILE_PX))
    square.paste(picture, ((TILE_PX - picture.width) // 2, (TILE_PX - picture.height) // 2))
    return square


def data_uri(picture: Image.Image) -> str:
    """Return a picture as the data URI of a JPEG."""
    content = io.BytesIO()
    picture.convert("RGB").save(content, format="JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
