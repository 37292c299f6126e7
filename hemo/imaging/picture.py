"""Decode a JPEG or PNG picture, such as a chest X-ray, to a square image."""

import io

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray

from hemo.errors import SliceError
from hemo.imaging.image import Image, Reject, pixel_digest
from hemo.imaging.resize import to_square
from hemo.imaging.settings import ImageSettings
from hemo.imaging.slice_image import is_blank

LARGEST_SIDE_PX = 8192
"""Of a picture, by its header: it is padded to a square of its longer side."""

MODES = {"rgb": "RGB", "grey": "L"}


def images_of_picture(data: bytes, settings: ImageSettings) -> list[Image | Reject]:
    """Decode one JPEG or PNG.

    Args:
        data: The whole file.
        settings: Colour and side.

    Returns:
        One image, or one reject, `not_image` or `too_large`.
    """
    try:
        decoded = _decode(data, MODES[settings.colour])
    except SliceError as error:
        return [Reject.of(error)]
    channels = len(settings.channels)
    pixels = _with_channels(decoded, channels)
    planes = np.empty((channels, settings.side_px, settings.side_px), np.uint8)
    cv2.split(_with_channels(to_square(decoded, settings.side_px), channels), list(planes))
    return [
        Image(
            pixels=planes,
            source_rows=pixels.shape[0],
            source_cols=pixels.shape[1],
            pixel_format="rgb8" if settings.colour == "rgb" else "grey8",
            pixel_digest=pixel_digest(pixels),
            flags=("blank",) if is_blank(pixels.reshape(len(pixels), -1)) else (),
        )
    ]


def _decode(data: bytes, mode: str) -> NDArray[np.uint8]:
    """Return pixels of shape (rows, cols, channels), uint8, upright; a grey picture has one channel in any mode.

    Raises:
        SliceError: `not_image` if the file is no JPEG or PNG, is cut short or is damaged; `too_large`.
    """
    try:
        with PIL.Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as photo:
            if max(photo.size) > LARGEST_SIDE_PX:
                raise SliceError("too_large", f"{photo.height} x {photo.width} pixels")
            PIL.ImageOps.exif_transpose(photo, in_place=True)  # else it copies a picture that is upright already
            upright = _eight_bits(photo)
            if upright.mode not in (mode, "L"):
                upright = upright.convert(mode)
            return np.asarray(upright).reshape(upright.height, upright.width, -1)
    except (SliceError, MemoryError):
        raise
    except PIL.Image.DecompressionBombError as error:
        raise SliceError("too_large", f"a side of more than {LARGEST_SIDE_PX} pixels") from error
    except Exception as error:  # the decoders raise OSError, SyntaxError, struct.error, ... on damaged files
        raise SliceError("not_image", f"{type(error).__name__} while decoding") from error


def _with_channels(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Return pixels, shape (rows, cols, 1 or `channels`), with all `channels`: grey becomes red, green and blue."""
    if pixels.shape[2] == channels:
        return pixels
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)


def _eight_bits(photo: PIL.Image.Image) -> PIL.Image.Image:
    """Return a 16-bit grey picture scaled to 8 bits, 65,535 to 255: Pillow's conversion would clip it."""
    if not photo.mode.startswith("I"):
        return photo
    return PIL.Image.fromarray(np.rint(np.asarray(photo, np.float32) / 257).clip(0, 255).astype(np.uint8))
