"""Decode IDX files, such as MNIST: tens of thousands of small grey pictures in one file.

The format: two zero bytes, the type of a value (0x08: unsigned byte), the number of dimensions, each dimension as four
bytes, high byte first, then the values in C order. Source: LeCun, Cortes and Burges, "The MNIST database of handwritten
digits", section on file formats.
"""

import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hemo.errors import SliceError
from hemo.imaging.image import Image, Reject, pixel_digest
from hemo.imaging.picture import LARGEST_SIDE_PX
from hemo.imaging.resize import to_square
from hemo.imaging.settings import ImageSettings
from hemo.imaging.slice_image import is_blank

UNSIGNED_BYTE = 0x08

MOST_IMAGES = 1 << 20
"""In a file; the largest that is published, EMNIST's by class, holds 697,932 in training."""

MOST_BYTES = 1 << 30
"""Of values in a file, unpacked."""

GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS  # zlib: expect a gzip header and checksum


def images_of_idx(data: bytes, labels: bytes | None, settings: ImageSettings) -> Iterator[Image | Reject]:
    """Decode the images of one file, one at a time.

    Args:
        data: The whole file, gzip or not.
        labels: The file with one label an image, gzip or not; None: there is none, and the images have no class.
        settings: Side of the stored images.

    Yields:
        An image for each in the file, its class the label's number; or one reject for the whole file, `not_idx`,
        `too_large`, `truncated` or `labels_mismatch`.
    """
    try:
        greys = read_idx(data, dimensions=3)
        classes = None if labels is None else _classes(labels, len(greys))
    except SliceError as error:
        yield Reject.of(error)
        return
    for frame, grey in enumerate(greys):
        yield _image(grey, frame, len(greys), None if classes is None else str(classes[frame]), settings)


def read_idx(data: bytes, *, dimensions: int) -> NDArray[np.uint8]:
    """Return the values of an IDX file of unsigned bytes. No more is inflated than its header declares.

    Args:
        data: The whole file, gzip or not.
        dimensions: How many the values must have; the first counts images.

    Raises:
        SliceError: `not_idx`, `too_large` or `truncated`.
    """
    stream = _Stream(data)
    head = stream.read(4 + 4 * dimensions)
    if len(head) < 4 + 4 * dimensions or head[:4] != bytes((0, 0, UNSIGNED_BYTE, dimensions)):
        raise SliceError("not_idx", f"it begins with {head[:4].hex()}, not with 000008{dimensions:02x} and a size")
    shape = struct.unpack(f">{dimensions}I", head[4:])
    size, sizes = math.prod(shape), " x ".join(map(str, shape))
    if not size:
        raise SliceError("not_idx", f"its header declares {sizes} values")
    if size > MOST_BYTES or shape[0] > MOST_IMAGES or max(shape[1:], default=0) > LARGEST_SIDE_PX:
        raise SliceError("too_large", f"its header declares {sizes} values")
    values = stream.read(size + 1)
    if len(values) > size:
        raise SliceError("not_idx", f"more than the {sizes} values that its header declares")
    if len(values) < size or not stream.ended:
        raise SliceError("truncated", f"its header declares {sizes} values, it ends after {len(values)}")
    return np.frombuffer(values, np.uint8).reshape(shape)


class _Stream:
    """The bytes of a file in order, inflated piece by piece if it is a gzip file."""

    def __init__(self, data: bytes) -> None:
        self._rest = memoryview(data)
        self._inflater = zlib.decompressobj(_GZIP_WINDOW) if data.startswith(GZIP) else None

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer where the file ends.

        Raises:
            SliceError: `not_idx` if it is a damaged gzip file.
        """
        if self._inflater is None:
            taken, self._rest = self._rest[:size], self._rest[size:]
            return bytes(taken)
        try:
            inflated = self._inflater.decompress(self._rest, size)
        except zlib.error as error:
            raise SliceError("not_idx", "its compressed bytes are damaged") from error
        self._rest = memoryview(self._inflater.unconsumed_tail)
        return inflated

    @property
    def ended(self) -> bool:
        """Whether the end of a gzip file was reached and its checksum is right; always true for other files."""
        return self._inflater is None or self._inflater.eof


def _classes(labels: bytes, images: int) -> NDArray[np.uint8]:
    """Return the label of each image, shape (images,).

    Raises:
        SliceError: `labels_mismatch`.
    """
    try:
        values = read_idx(labels, dimensions=1)
    except SliceError as error:
        raise SliceError("labels_mismatch", f"the labels file beside it: {error.args[1]}") from error
    if len(values) != images:
        raise SliceError("labels_mismatch", f"{len(values)} labels beside {images} images")
    return values


def _image(grey: NDArray[np.uint8], frame: int, frames: int, label: str | None, settings: ImageSettings) -> Image:
    """Return the stored image of one grey picture, shape (rows, cols)."""
    square = to_square(grey[:, :, None], settings.side_px)
    return Image(
        pixels=np.ascontiguousarray(square.transpose(2, 0, 1)),
        source_rows=grey.shape[0],
        source_cols=grey.shape[1],
        pixel_format="grey8",
        pixel_digest=pixel_digest(grey),
        flags=("blank",) if is_blank(grey.astype(np.int16)) else (),
        frame=frame,
        frames=frames,
        source_class=label,
    )
