"""One DICOM file to windowed images."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.uid import MediaStorageDirectoryStorage

from hemo.config.convert import WindowConfig
from hemo.errors import SliceError
from hemo.imaging import elements as tags
from hemo.imaging.ct_header import CtHeader, read_header, rescale_of_frame
from hemo.imaging.elements import text
from hemo.imaging.hounsfield import Rescale, hounsfield_table, repaired, to_hounsfield
from hemo.imaging.image import Image, Reject, pixel_digest
from hemo.imaging.pseudonym import Pseudonymiser
from hemo.imaging.quality import FLAGS, brain_fraction, hounsfield_flags
from hemo.imaging.resize import to_square
from hemo.imaging.settings import ImageSettings
from hemo.imaging.windows import WINDOWS_A_TABLE, packed_lookup

DATA_SET_GROUPS = {b"\x02\x00", b"\x08\x00", b"\x00\x08"}
"""First tag's group, in either byte order, of a data set without preamble."""

UNCOMPRESSED_LITTLE_ENDIAN = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"}
"""Implicit, explicit and deflated (which pydicom inflates on reading) little endian, PS3.5 A.1, A.2, A.5."""


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
        settings: Windows, side and corpus. The 12-bit repair is done for `rsna` only.
        pseudonyms: Replaces patient, study and series; where it does so, secondary captures are rejects.

    Returns:
        One entry a frame; a file that is no CT gives one reject. Details never contain text from the file.
    """
    try:
        dataset = _parse(data)
        header = read_header(dataset)
        if header.is_capture and not pseudonyms.keeps_ids:
            raise SliceError("secondary_capture", "screen capture or colour image")
        frames = _stored_frames(dataset, header)
    except SliceError as error:
        return [Reject.of(error)]
    patient, study, series = (
        pseudonyms(kind, identifier) if identifier else None
        for kind, identifier in (("patient", header.patient), ("study", header.study), ("series", header.series))
    )
    images: list[Image | Reject] = []
    for number, stored in enumerate(frames):
        try:
            rendered = _render(stored, dataset, header, number, settings)
        except SliceError as error:
            images.append(Reject.of(error, number))
            continue
        image = Image(
            pixels=rendered.pixels,
            source_rows=header.rows,
            source_cols=header.cols,
            pixel_format=header.pixel_format,
            pixel_digest=rendered.digest,
            flags=tuple(flag for flag in FLAGS if flag in {*header.flags, *rendered.flags}),
            frame=number,
            frames=len(frames),
            patient=patient,
            study=study,
            series=series,
            position_mm=header.position_mm,
            spacing_mm=header.spacing_mm,
            brain_fraction=rendered.brain_fraction,
        )
        images.append(image)
    return images


def _parse(data: bytes) -> FileDataset:
    """Read the data set, pixel data included.

    Raises:
        SliceError: `not_dicom`, `dicomdir` or `bad_header`.
    """
    preamble = data[128:132] == b"DICM"
    if not preamble and data[:2] not in DATA_SET_GROUPS:
        raise SliceError("not_dicom", f"{len(data)} bytes without DICM prefix or data set")
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=not preamble)
        is_directory = text(dataset.file_meta, tags.STORAGE_CLASS) == MediaStorageDirectoryStorage
        empty = len(dataset) == 0
    except Exception as error:  # pydicom raises over a dozen kinds on damaged headers
        raise SliceError("bad_header", f"{type(error).__name__} while reading the header") from error
    if is_directory:
        raise SliceError("dicomdir", "directory of other files")
    if empty:
        raise SliceError("bad_header" if preamble else "not_dicom", "no data elements")
    return dataset


def _stored_frames(dataset: FileDataset, header: CtHeader) -> NDArray[Any]:
    """Return the stored values, shape (frames, rows, cols) for grey and (frames, rows, cols, 3) for colour.

    Raises:
        SliceError: `no_pixels`, `truncated`, `codec_missing` or `decode_failed`.
    """
    element = dataset.get_item(tags.PIXEL_DATA)
    raw = element.value if element is not None else None
    if not raw:
        raise SliceError("no_pixels", "no pixel data (7FE0,0010)")
    shape = (header.frames, header.rows, header.cols) + ((3,) if header.samples == 3 else ())
    if header.transfer_syntax in UNCOMPRESSED_LITTLE_ENDIAN and header.samples == 1:
        kind = np.dtype("<u2" if header.bits_allocated == 16 else "u1")
        wanted = int(np.prod(shape)) * kind.itemsize
        if len(raw) < wanted:
            raise SliceError("truncated", f"{len(raw)} of {wanted} pixel bytes")
        return np.frombuffer(raw, kind, count=wanted // kind.itemsize).reshape(shape)
    return _decoded_by_pydicom(dataset, shape)


def _decoded_by_pydicom(dataset: FileDataset, shape: tuple[int, ...]) -> NDArray[Any]:
    """Decode compressed, big endian or colour pixel data."""
    try:
        return np.asarray(dataset.pixel_array).reshape(shape)
    except (RuntimeError, NotImplementedError) as error:  # pydicom: no decoder could be used, or all failed
        unknown = isinstance(error, NotImplementedError) or "not supported" in str(error)
        code = "codec_missing" if unknown or "missing dependencies" in str(error) else "decode_failed"
        raise SliceError(code, f"transfer syntax {_syntax_name(dataset)}") from error
    except Exception as error:  # decoders raise what they like on damaged data
        code = "truncated" if isinstance(error, ValueError) and "expected" in str(error) else "decode_failed"
        raise SliceError(code, f"{type(error).__name__} while decoding {_syntax_name(dataset)}") from error


def _syntax_name(dataset: FileDataset) -> str:
    uid = dataset.file_meta.get("TransferSyntaxUID")
    return str(uid.name) if uid is not None and uid.type else "unknown"


class _Rendered(NamedTuple):
    """A stored image, and what was found out about it on the way."""

    pixels: NDArray[np.uint8]  # (channels, side_px, side_px)
    digest: bytes
    flags: list[str]
    brain_fraction: float | None


def _render(
    stored: NDArray[Any], dataset: FileDataset, header: CtHeader, frame: int, settings: ImageSettings
) -> _Rendered:
    """Make the image of one frame: a picture as it is, measured values by way of HU."""
    if header.is_picture:
        return _render_picture(stored, header, settings)
    return _render_slice(stored, rescale_of_frame(dataset, header, frame), settings)


def _render_slice(stored: NDArray[Any], rescale: Rescale, settings: ImageSettings) -> _Rendered:
    """Make the image of measured values, shape (rows, cols), any integer dtype of 8 or 16 bits."""
    patterns = stored.astype(np.int16 if stored.dtype.kind == "i" else np.uint16, copy=False).view(np.uint16)
    truth = repaired(rescale) if settings.corpus == "rsna" else None
    hu = to_hounsfield(patterns, truth or rescale)
    brain = brain_fraction(hu)
    flags = hounsfield_flags(hu, brain=brain) + (["intercept_repaired"] if truth else [])
    return _Rendered(_windowed(patterns, truth or rescale, settings), pixel_digest(hu), flags, brain)


def _windowed(patterns: NDArray[np.uint16], rescale: Rescale, settings: ImageSettings) -> NDArray[np.uint8]:
    """Window at full resolution by table, then resize: resizing HU first would mix skull into brain."""
    planes = np.empty((len(settings.windows), settings.side_px, settings.side_px), np.uint8)
    for first, table in zip(range(0, len(planes), WINDOWS_A_TABLE), _tables(rescale, settings.windows), strict=True):
        packed = np.asarray(cv2.LUT(patterns, table)).view(np.uint8).reshape(*patterns.shape, WINDOWS_A_TABLE)
        square = to_square(packed, settings.side_px)
        for channel, plane in enumerate(planes[first : first + WINDOWS_A_TABLE]):
            cv2.extractChannel(square, channel, dst=plane)
    return planes


@lru_cache(maxsize=32)
def _tables(rescale: Rescale, windows: tuple[WindowConfig, ...]) -> list[NDArray[np.int32]]:
    return packed_lookup(hounsfield_table(rescale), windows)


def _render_picture(stored: NDArray[Any], header: CtHeader, settings: ImageSettings) -> _Rendered:
    """Make the image of a colour capture: its luminance in every channel, since it has no HU.

    Source:
        ITU-R BT.601 (luminance).
    """
    grey = np.rint(stored @ np.array([0.299, 0.587, 0.114])) if stored.ndim == 3 else stored
    levels = 2.0 ** (header.bits_stored - 8)
    square = to_square(np.clip(grey / levels, 0, 255).astype(np.uint8)[..., np.newaxis], settings.side_px)
    pixels = np.repeat(square.transpose(2, 0, 1), len(settings.channels), axis=0)
    return _Rendered(pixels, pixel_digest(stored), [], None)
