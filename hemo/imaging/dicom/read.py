"""Decode a DICOM file: one image or reject for each frame."""

import warnings
from contextlib import AbstractContextManager, ExitStack
from threading import RLock
from typing import Any

import pydicom
from numpy.typing import NDArray

from hemo.errors import SliceError
from hemo.imaging.dicom.elements import Elements, read_elements
from hemo.imaging.dicom.header import CtHeader, geometry_of_frame, read_header, rescale_of_frame, scanner_of
from hemo.imaging.dicom.pixel_data import stored_frames
from hemo.imaging.image import FLAGS, Image, Reject
from hemo.imaging.settings import ImageSettings
from hemo.imaging.slice_image import render_picture, render_slice
from hemo.pseudonym import Pseudonymiser


class _Silence:
    """Warnings and pydicom's checks, off in the whole process from the first that enters to the last that leaves."""

    def __init__(self) -> None:
        self._lock = RLock()  # of one thread again: a generator that is within may be collected while another enters
        self._within, self._restore = 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                settings = pydicom.config.settings
                self._restore.callback(setattr, settings, "reading_validation_mode", settings.reading_validation_mode)
                settings.reading_validation_mode = pydicom.config.IGNORE
                self._restore.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            self._within += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                self._restore.close()


_SILENCE = _Silence()


def quiet_pydicom() -> AbstractContextManager[None]:
    """Silence pydicom's warnings and checks of values: the RSNA corpus has an invalid UID in every file.

    Threads may overlap: what was set before the first of them is set again after the last.
    """
    return _SILENCE


def images_of_dicom(data: bytes, settings: ImageSettings, pseudonyms: Pseudonymiser) -> list[Image | Reject]:
    """Turn every frame of a DICOM file into an image or a reject.

    Args:
        data: The whole file.
        settings: Windows, crop and side of the stored images.
        pseudonyms: Replaces patient, study and series ids, and the scanner; unless these are public, secondary captures
            are rejects.

    Returns:
        One entry a frame; a file that is no CT gives one reject. Details never contain text from the file.
    """
    scanner = None
    try:
        elements = read_elements(data)
        if name := scanner_of(elements):
            scanner = pseudonyms("scanner", name)  # a tag may hold anything
        header = read_header(elements)
        if header.is_capture and not pseudonyms.keeps_ids:
            raise SliceError("secondary_capture", "screen capture or colour image")
        frames = stored_frames(elements, header)
    except SliceError as error:
        return [Reject.of(error, scanner=scanner)]
    ids = {"patient": header.patient, "study": header.study, "series": header.series}
    names = {kind: pseudonyms(kind, name) if name else None for kind, name in ids.items()} | {"scanner": scanner}
    images: list[Image | Reject] = []
    for number, stored in enumerate(frames):
        try:
            if isinstance(stored, SliceError):
                raise stored
            images.append(_image_of_frame(stored, elements, header, number, settings, names))
        except SliceError as error:
            images.append(Reject.of(error, number, scanner))
    return images


def _image_of_frame(
    stored: NDArray[Any],
    elements: Elements,
    header: CtHeader,
    frame: int,
    settings: ImageSettings,
    names: dict[str, str | None],
) -> Image:
    """Return the image of one frame: of a capture its luminance, of measured values by way of HU.

    Raises:
        SliceError: If the frame's values cannot be turned into HU.
    """
    unit_flags: list[str] = []
    if header.is_picture:
        rendered = render_picture(
            stored, bits_stored=header.bits_stored, inverted=header.is_inverted, settings=settings
        )
    else:
        rescale, unit_flags = rescale_of_frame(elements, header, frame)
        rendered = render_slice(stored, rescale, settings, padding=header.padding)
    geometry = geometry_of_frame(elements, header, frame)
    flags = {*header.flags, *unit_flags, *rendered.flags}
    return Image(
        pixels=rendered.pixels,
        source_rows=header.rows,
        source_cols=header.cols,
        pixel_format=header.pixel_format,
        pixel_digest=rendered.digest,
        flags=tuple(flag for flag in FLAGS if flag in flags),
        frame=frame,
        frames=header.frames,
        brain_fraction=rendered.brain_fraction,
        position_mm=geometry.position_mm,
        orientation=geometry.orientation,
        spacing_mm=geometry.spacing_mm,
        slice_thickness_mm=geometry.slice_thickness_mm,
        **names,
    )
