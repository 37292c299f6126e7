"""Convert one unit of files to one shard: read ahead, decode, window, encode. The inner loop of `convert`."""

import errno
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from hemo.corpus.source_file import SPLIT_FOLDERS, ManifestRow, SourceFile, class_and_split, image_stem, patient_in_name
from hemo.corpus.sources import read_files
from hemo.errors import HemoError, SliceError, SourceChangedError
from hemo.imaging.dicom.read import images_of_dicom, quiet_pydicom
from hemo.imaging.image import Image, Reject
from hemo.imaging.picture import images_of_picture
from hemo.imaging.settings import ImageSettings
from hemo.pseudonym import Pseudonymiser
from hemo.shards.manifest import Unit, unit_digest
from hemo.shards.schema import ShardFooter, ShardReject
from hemo.shards.writer import ShardBuilder

FILES_A_READ = 8
"""Files that a thread reads at a time; from a bucket by concurrent requests."""

BYTES_A_READ = 1 << 22
"""Bytes after which no further file is added to a read: bounds the memory for large files."""


@dataclass(frozen=True)
class UnitTask:
    """Arguments common to all units of a conversion."""

    source: str
    settings: ImageSettings
    pseudonyms: Pseudonymiser
    read_threads: int


def build_shard(task: UnitTask, unit: Unit) -> tuple[pa.Buffer, ShardFooter]:
    """Convert a unit's files into a finished shard, in memory.

    The same files and settings give the same bytes. In memory: the encoded shard, one row group, and a few files.

    Raises:
        OSError: If a file cannot be read; nothing is written, and the unit can be retried.
    """
    builder = ShardBuilder()
    rejects: list[ShardReject] = []
    with quiet_pydicom(), _names_removed(task, unit):
        for row in unit_rows(task, unit):
            if isinstance(row, ShardReject):
                rejects.append(row)
            else:
                builder.add(row)
    footer = ShardFooter(
        unit=unit.number,
        digest=unit_digest(unit, task.settings.model_dump(mode="json"), task.pseudonyms),
        settings=task.settings.model_dump(mode="json"),
        channels=task.settings.channels,
        dtype=task.settings.dtype,
        height_px=task.settings.side_px,
        width_px=task.settings.side_px,
        files=len(unit.files),
        rows=builder.rows,
        rejects=tuple(rejects),
    )
    return builder.finish(footer.encoded()), footer


def unit_rows(task: UnitTask, unit: Unit) -> Iterator[dict[str, Any] | ShardReject]:
    """Yield what each frame of a unit's files becomes: a row of `ROW_SCHEMA` with `image` as an array, or a reject.

    Call it within `quiet_pydicom`.

    Raises:
        OSError: If a file cannot be read. No error names a file or has text from one, unless ids are public.
        SourceChangedError: If a file has changed since it was listed.
    """
    with _names_removed(task, unit):
        for file, data in read_unit(task, unit):
            frames = 0
            for image in _frames(task, file, data):
                frames += 1
                if isinstance(image, Reject):
                    yield _reject_row(image, file.path, task.pseudonyms)
                else:
                    yield row_of(image, file, task.settings, task.pseudonyms)
            if not frames:
                raise HemoError("a file became neither row nor reject; this is a bug in hemo, please report it")


def _frames(task: UnitTask, file: SourceFile, data: bytes | SliceError) -> Iterable[Image | Reject]:
    """Decode a file, or return why it cannot be."""
    if isinstance(data, SliceError):
        return [Reject.of(data)]
    return decode(data, task.settings, task.pseudonyms)


def read_unit(task: UnitTask, unit: Unit) -> Iterator[tuple[SourceFile, bytes | SliceError]]:
    """Read a unit's files; errors contain file names only if these are public.

    Raises:
        OSError: If a file cannot be read.
        SourceChangedError: If a file has changed since it was listed.
    """
    with _names_removed(task, unit):
        yield from read_ahead(task.source, unit.files, task.read_threads)


@contextmanager
def _names_removed(task: UnitTask, unit: Unit) -> Iterator[None]:
    """Remove file names and text from files from errors, unless ids are public."""
    if task.pseudonyms.keeps_ids:
        yield
        return
    try:
        yield
    except SourceChangedError:
        raise SourceChangedError(
            f"a file of unit {unit.number} changed after the corpus was listed; run again"
        ) from None
    except OSError as error:
        # classes of storage libraries have constructors of their own; OSError chooses a subclass by number
        kind = next(each for each in type(error).__mro__ if each.__module__ in ("builtins", HemoError.__module__))
        raise kind(error.errno or errno.EIO, error.strerror or "the storage cannot be reached") from None
    except (HemoError, MemoryError):
        raise
    except Exception as error:
        raise HemoError(
            f"a file of unit {unit.number}: {type(error).__name__}, its text left out: it may name patients; "
            "this is a bug in hemo, please report it"
        ) from None


def decode(data: bytes, settings: ImageSettings, pseudonyms: Pseudonymiser) -> Iterable[Image | Reject]:
    """Decode one file into images and rejects, one a frame, by the media of the corpus.

    Args:
        data: The whole file.
        settings: Of the stored images.
        pseudonyms: Replaces ids.
    """
    if settings.media == "photo":
        return images_of_picture(data, settings)
    return images_of_dicom(data, settings, pseudonyms)


def read_ahead(
    source: str, files: Sequence[SourceFile], threads: int
) -> Iterator[tuple[SourceFile, bytes | SliceError]]:
    """Yield each file with its bytes, in order, while `threads` threads read further ones: hides storage latency.

    An error is in the place of a refused or damaged file.
    """
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[tuple[Sequence[SourceFile], Future[list[bytes | SliceError]]]] = deque()
        try:
            for batch in read_batches(files):
                pending.append((batch, pool.submit(read_files, source, batch)))
                if len(pending) > threads:
                    yield from _finished(*pending.popleft())
            while pending:
                yield from _finished(*pending.popleft())
        finally:
            for _, future in pending:
                future.cancel()


def _finished(
    batch: Sequence[SourceFile], read: Future[list[bytes | SliceError]]
) -> Iterator[tuple[SourceFile, bytes | SliceError]]:
    yield from zip(batch, read.result(), strict=True)


def read_batches(files: Sequence[SourceFile]) -> Iterator[Sequence[SourceFile]]:
    """Cut files into what one thread reads at a time: `FILES_A_READ`, or fewer that have `BYTES_A_READ` together."""
    start, size_bytes = 0, 0
    for end, file in enumerate(files, 1):
        size_bytes += file.size_bytes
        if end - start == FILES_A_READ or size_bytes >= BYTES_A_READ or end == len(files):
            yield files[start:end]
            start, size_bytes = end, 0


def row_of(image: Image, file: SourceFile, settings: ImageSettings, pseudonyms: Pseudonymiser) -> dict[str, Any]:
    """Return an image as a row of `ROW_SCHEMA`; `image` stays an array."""
    row = identities_of(image, file, settings, pseudonyms)
    name = pseudonyms("image", row.image_id or image_stem(file.path, settings.corpus))
    _, height_px, width_px = image.pixels.shape
    return {
        "image_id": f"{name}#{image.frame}" if image.frames > 1 else name,
        "image": image.pixels,
        "height_px": height_px,
        "width_px": width_px,
        "frame": image.frame,
        "source_class": row.source_class,
        "source_split": row.source_split,
        "patient": row.patient,
        "study": row.study,
        "series": row.series,
        "position_mm": image.position_mm,
        "orientation": image.orientation,
        "source_rows": image.source_rows,
        "source_cols": image.source_cols,
        "spacing_mm": image.spacing_mm,
        "slice_thickness_mm": image.slice_thickness_mm,
        "brain_fraction": image.brain_fraction,
        "flags": list(image.flags),
        "pixel_digest": pseudonyms.keyed_digest("pixels", image.pixel_digest),
        "source_path": pseudonyms("path", file.path),
        "pixel_format": image.pixel_format,
        "scanner": image.scanner,
    }


def identities_of(image: Image, file: SourceFile, settings: ImageSettings, pseudonyms: Pseudonymiser) -> ManifestRow:
    """Return ids, class and split, by a user's manifest or else path and header; under a key they name nobody."""
    if settings.corpus == "image_folder":
        row = _of_folders(file.path, settings.patient_pattern)
    else:
        row = file.manifest_row or ManifestRow()
    if not pseudonyms.keeps_ids:
        row = _with_hidden_folders(row, settings.public_classes, pseudonyms)
    names = {
        kind: pseudonyms(kind, text) if (text := getattr(row, kind)) else getattr(image, kind)
        for kind in ("patient", "study", "series")
    }
    return row._replace(**names)


def _of_folders(path: str, patient_pattern: str) -> ManifestRow:
    source_class, source_split = class_and_split(path)
    patient = patient_in_name(path, patient_pattern)
    return ManifestRow(patient=patient, source_class=source_class, source_split=source_split)


def _with_hidden_folders(row: ManifestRow, public_classes: Sequence[str], pseudonyms: Pseudonymiser) -> ManifestRow:
    """Replace a class that is not public, and drop a split that is none: such a folder may be named after a patient."""
    if row.source_class is not None and row.source_class not in public_classes:
        row = row._replace(source_class=pseudonyms("class", row.source_class))
    known = row.source_split is not None and row.source_split.lower() in SPLIT_FOLDERS
    return row if known else row._replace(source_split=None)


def _reject_row(reject: Reject, path: str, pseudonyms: Pseudonymiser) -> ShardReject:
    return ShardReject(
        source_path=pseudonyms("path", path),
        frame=reject.frame,
        reason=reject.code,
        detail=reject.detail,
        scanner=reject.scanner,
    )
