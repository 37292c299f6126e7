"""What objects show of themselves in a notebook: a card as a table, a contact sheet of images, both as HTML."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

TILE_PX, CAPTION_PX, GAP_PX = 128, 14, 4
MOST_COLUMNS = 8

HU_LOW, HU_HIGH = 0, 80
"""Hounsfield units are drawn through the brain window."""


def card_html(title: str, facts: Mapping[str, str]) -> str:
    """Return names and values as an HTML table below a title. Both may come from a corpus, and are escaped."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(value)}</td></tr>"
        for name, value in facts.items()
    )
    return f"<div><strong>{escape(title)}</strong><table>{rows}</table></div>"


def picture_html(picture: "Picture") -> str:
    """Return a picture as an HTML image that holds its own bytes."""
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return png_html(content.getvalue())


def png_html(content: bytes) -> str:
    """Return the bytes of a PNG as an HTML image that holds them."""
    return f"<img alt='' src='data:image/png;base64,{base64.b64encode(content).decode()}'>"


def contact_sheet(images: Sequence[NDArray[Any]], captions: Sequence[str]) -> "Picture":
    """Draw images side by side, in rows of up to `MOST_COLUMNS`, each with a caption below.

    Args:
        images: Arrays (channels, height_px, width_px), uint8, or int16 HU.
        captions: One an image; cut where it is wider than the image.

    Returns:
        An RGB picture; of no images a single white tile.
    """
    from PIL import Image, ImageDraw

    columns = max(1, min(MOST_COLUMNS, len(images)))
    rows = max(1, -(-len(images) // columns))
    width, height = TILE_PX + GAP_PX, TILE_PX + CAPTION_PX + GAP_PX
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = number % columns * width, number // columns * height
        tile = Image.fromarray(_rgb(image))
        tile.thumbnail((TILE_PX, TILE_PX))
        sheet.paste(tile, (left, top))
        while caption and draw.textlength(caption) > TILE_PX:
            caption = caption[:-1]
        draw.text((left, top + TILE_PX), caption, fill="black")
    return sheet


def _rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an image as (height_px, width_px, 3), uint8: three channels as RGB, else the first as grey."""
    shown = image if len(image) == 3 else np.repeat(image[:1], 3, axis=0)
    if shown.dtype != np.uint8:
        scaled = (shown.astype(np.float32) - HU_LOW) / (HU_HIGH - HU_LOW) * 255
        shown = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(shown.transpose(1, 2, 0))
