"""One DICOM file to images, one a frame."""

import io
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pydicom
from numpy.typing import NDArray
from pydicom.uid import MediaStorageDirectoryStorage

from hemo.errors import SliceError
from hemo.imaging.dicom import tags
from hemo.imaging.dicom.enhanced import place_of_frame, rescale_of_frame
from hemo.imaging.dicom.fast_header import scan
from hemo.imaging.dicom.header import CtHeader, read_header
from hemo.imaging.dicom.pixel_data import stored_frames
from hemo.imaging.dicom.tags import Elements, text
from hemo.imaging.flags import FLAGS
from hemo.imaging.image import Image, Reject
from hemo.imaging.settings import ImageSettings
from hemo.imaging.slice_image import render_picture, render_slice
from hemo.pseudonym import Pseudonymiser

DATA_SET_GROUPS = {b"\x02\x00", b"\x08\x00", b"\x00\x08"}
"""First tag's group, in either byte order, of a data set without preamble."""

EXPLICIT_FILE_START = bytes(128) + b"DICM" + b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0"
"""Preamble and transfer syntax of an uncompressed file (PS3.10 7.1)."""

LARGEST_INFLATED_BYTES = 1 << 28
FEWEST_READS = 1 << 17  # two or three a data element
BYTES_A_READ = 1 << 11


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence pydicom's warnings and checks of values: the RSNA corpus has an invalid UID in every file.

    Not thread-safe: wrap a whole unit, on one thread.
    """
    mode = pydicom.config.settings.reading_validation_mode
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        pydicom.config.settings.reading_validation_mode = mode


def images_of_dicom(data: bytes, settings: ImageSettings, pseudonyms: Pseudonymiser) -> list[Image | Reject]:
    """Turn every frame of a DICOM file into an image or a reject.

    Args:
        data: The whole file.
        settings: What is stored of a slice.
        pseudonyms: Replaces patient, study and series; where it does so, secondary captures are rejects.

    Returns:
        One entry a frame; a file that is no CT gives one reject. Details never contain text from the file.
    """
    try:
        dataset = _parse(data)
        header = read_header(dataset)
        if header.is_capture and not pseudonyms.keeps_ids:
            raise SliceError("secondary_capture", "screen capture or colour image")
        frames = stored_frames(dataset, header)
    except SliceError as error:
        return [Reject.of(error)]
    names = {
        kind: pseudonyms(kind, identifier) if identifier else None
        for kind, identifier in (("patient", header.patient), ("study", header.study), ("series", header.series))
    }
    images: list[Image | Reject] = []
    for number, stored in enumerate(frames):
        try:
            if isinstance(stored, SliceError):
                raise stored
            images.append(_image_of_frame(stored, dataset, header, number, settings, names))
        except SliceError as error:
            images.append(Reject.of(error, number))
    return images


def _image_of_frame(
    stored: NDArray[Any],
    dataset: Elements,
    header: CtHeader,
    frame: int,
    settings: ImageSettings,
    names: dict[str, str | None],
) -> Image:
    """Make the image of one frame: a picture as it is, measured values by way of HU.

    Raises:
        SliceError: If the frame's values cannot be turned into HU.
    """
    if header.is_picture:
        rendered = render_picture(stored, bits_stored=header.bits_stored, settings=settings)
    else:
        rendered = render_slice(stored, rescale_of_frame(dataset, header, frame), settings)
    position_mm, spacing_mm = place_of_frame(dataset, header, frame)
    found = {*header.flags, *rendered.flags}
    return Image(
        pixels=rendered.pixels,
        source_rows=header.rows,
        source_cols=header.cols,
        pixel_format=header.pixel_format,
        pixel_digest=rendered.digest,
        flags=tuple(flag for flag in FLAGS if flag in found),
        frame=frame,
        frames=header.frames,
        position_mm=position_mm,
        spacing_mm=spacing_mm,
        brain_fraction=rendered.brain_fraction,
        **names,
    )


def _parse(data: bytes) -> Elements:
    """Read the data set, pixel data included: at once where the file is plain, else by pydicom.

    Raises:
        SliceError: `not_dicom`, `dicomdir`, `bad_header` or `too_large`.
    """
    plain = scan(data)
    if plain is not None:
        _require_no_directory(text(plain, tags.STORAGE_CLASS))
        return plain
    preamble = data[128:132] == b"DICM"
    if not preamble and data[:2] not in DATA_SET_GROUPS:
        raise SliceError("not_dicom", f"{len(data)} bytes without DICM prefix or data set")
    try:
        dataset = pydicom.dcmread(_BoundedFile(data), force=not preamble)
        _require_no_directory(text(dataset.file_meta, tags.STORAGE_CLASS))
        empty = len(dataset) == 0
    except _Deflated as deflated:
        if data.startswith(EXPLICIT_FILE_START):
            raise SliceError("bad_header", "deflated within deflated") from None
        return _parse(_inflated(*deflated.args))
    except (SliceError, MemoryError):
        raise
    except Exception as error:  # pydicom raises over a dozen kinds on damaged headers
        raise SliceError("bad_header", f"{type(error).__name__} while reading the header") from error
    if empty:
        raise SliceError("bad_header" if preamble else "not_dicom", "no data elements")
    return dataset


def _require_no_directory(storage_class: str) -> None:
    if storage_class == MediaStorageDirectoryStorage:
        raise SliceError("dicomdir", "directory of other files")


class _Deflated(Exception):  # noqa: N818 (no error: what comes after the file meta elements)
    """The deflated rest of a file."""


class _BoundedFile(io.BytesIO):
    """A file that pydicom may read so often and no more: a million empty elements would keep it busy for minutes."""

    def __init__(self, data: bytes) -> None:
        """Open the whole file."""
        super().__init__(data)
        self._left = FEWEST_READS + len(data) // BYTES_A_READ

    def read(self, size: int | None = -1, /) -> bytes:
        """Read like any file.

        Raises:
            SliceError: `bad_header` after too many reads.
            _Deflated: On reading all at once: pydicom does so in order to inflate it, without bounds.
        """
        if size is None or size < 0:
            raise _Deflated(super().read())
        self._left -= 1
        if self._left < 0:
            raise SliceError("bad_header", "more data elements than an image can have")
        return super().read(size)


def _inflated(rest: bytes) -> bytes:
    """Return a deflated file, given without its file meta elements, as an uncompressed one.

    Raises:
        SliceError: `bad_header` if it is no deflate stream, `truncated` if it has no end, `too_large`.

    Source:
        DICOM PS3.5 A.5.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(rest, LARGEST_INFLATED_BYTES)
    except zlib.error as error:
        raise SliceError("bad_header", "damaged deflate stream") from error
    if inflater.unconsumed_tail:
        raise SliceError("too_large", f"more than {LARGEST_INFLATED_BYTES} bytes when inflated")
    if not inflater.eof:
        raise SliceError("truncated", f"deflate stream without an end after {len(rest)} bytes")
    return EXPLICIT_FILE_START + data
