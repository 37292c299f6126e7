"""Shards as an object: index, images, contact sheet; and a writer of shards from rows of one's own."""

import operator
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from hemo.corpus.source_file import SourceFile
from hemo.errors import ConfigError, OutputError
from hemo.imaging.image import pixel_digest
from hemo.library.notebook import card_html, contact_sheet, picture_html
from hemo.output_lock import output_lock
from hemo.shards.card import DERIVED, ConversionCard, read_card, read_finished_card, write_card, write_derived
from hemo.shards.manifest import Manifest, Unit, shard_path, unit_digest, write_manifest
from hemo.shards.reader import CONVERT_AGAIN, batches_by_group, existing_parquet, frame_of, images_of, read_column
from hemo.shards.schema import IMAGE, OWN_ROWS, ROW_SCHEMA, ShardFooter, read_footers
from hemo.shards.writer import ShardBuilder
from hemo.storage import absolute, join, list_files, remove, write_bytes

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image as Picture

SHOWN_IN_NOTEBOOKS = 8

OF_THE_IMAGE = ("height_px", "width_px", "pixel_digest")
"""Columns that `ShardWriter.write` makes of the image."""


class Shards:
    """The output of `convert`, or of a `ShardWriter`. Opening reads the card only.

    Attributes:
        path: The folder, a path or URI.
        card: Its `card.json`.
    """

    path: str
    card: ConversionCard

    def __init__(self, path: str | PathLike[str]) -> None:
        """Open a folder of shards.

        Raises:
            SourceError: If it is no finished conversion, or of another version.
        """
        self.path = absolute(path)
        self.card = read_card(self.path)

    def __len__(self) -> int:
        """Return the number of images."""
        return self.card.rows

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return self.card.channels

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of each image: (channels, height_px, width_px)."""
        return self.card.image_shape

    @cached_property
    def index(self) -> "pd.DataFrame":
        """All columns but the pixels, a row an image, in the order of `image(0)`, `image(1)`, ..."""
        return frame_of(join(self.path, "index.parquet"), CONVERT_AGAIN)

    @cached_property
    def rejects(self) -> "pd.DataFrame":
        """Inputs that gave no image: `source_path`, `frame`, `reason`, `detail`, `scanner`."""
        return frame_of(join(self.path, "rejects.parquet"), CONVERT_AGAIN)

    def image(self, which: int | str) -> NDArray[Any]:
        """Return one image: array (channels, height_px, width_px), uint8, or int16 HU where `pixels` was `hu16`.

        Args:
            which: Row of `index`, or an `image_id`.

        Raises:
            ConfigError: If there is no such image.
            SourceError: If its shard is gone or damaged.
        """
        unit, row = self._unit_and_row(which)
        shard = join(self.path, shard_path(unit))
        with existing_parquet(shard, CONVERT_AGAIN) as file:
            metadata = file.metadata
        group = 0
        while row >= metadata.row_group(group).num_rows:
            row -= metadata.row_group(group).num_rows
            group += 1
        column = read_column(shard, metadata, group, IMAGE, CONVERT_AGAIN)
        image: NDArray[Any] = images_of(column, self.shape, self.card.dtype)[row].copy()
        return image

    def _unit_and_row(self, which: int | str) -> tuple[int, int]:
        if isinstance(which, str):
            rows = np.flatnonzero(self.index["image_id"].to_numpy() == which)
            if not len(rows):
                raise ConfigError(f"image: {which!r} is no image_id of {self.path}; `index` lists them")
            which = int(rows[0])
        if not 0 <= which < len(self):
            raise ConfigError(f"image: {which} is no row of {self.path}, which has {len(self):,} images")
        entry = self.index.iloc[which]
        return int(entry["unit"]), int(entry["row"])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows in order, as dicts of the columns of a shard; `image` is an array as `image()` returns it."""
        folder = join(self.path, "shards")
        for name in list_files(folder):  # a unit whose files vanished from the source has no shard
            with existing_parquet(join(folder, name), CONVERT_AGAIN) as file:
                for batch in batches_by_group(file):
                    images = images_of(batch[IMAGE], self.shape, self.card.dtype)
                    rows = batch.drop_columns([IMAGE]).to_pylist()
                    yield from ({**row, IMAGE: image} for row, image in zip(rows, images, strict=True))

    def show(self, which: int | Sequence[int | str] = 16) -> "Picture":
        """Return a contact sheet of images, each with its `image_id`.

        Args:
            which: A number of images, evenly spread over the index; or rows of `index` and ids, such as `frame.index`
                of a selection from it.

        Raises:
            ConfigError: If there is no such image.
            SourceError: If a shard is gone or damaged.
        """
        if isinstance(which, int):
            spread = np.linspace(0, len(self) - 1, min(which, len(self)))
            return self.show(np.unique(spread.astype(int)).tolist())
        chosen = [each if isinstance(each, str) else int(each) for each in which]
        names = self.index["image_id"]
        captions = [each if isinstance(each, str) else str(names.iloc[each]) for each in chosen]
        return contact_sheet([self.image(each) for each in chosen], captions)

    def __fspath__(self) -> str:
        """Return the folder: a job takes this object where it takes its path."""
        return self.path

    def __repr__(self) -> str:
        """Return the folder and what it holds."""
        channels, height_px, width_px = self.shape
        return f"Shards({self.path!r}: {len(self):,} images of {channels} x {height_px} x {width_px})"

    def _repr_html_(self) -> str:
        """Return card and contact sheet for notebooks."""
        card = {
            "images": f"{len(self):,} of {self.card.files:,} files, {self.card.patients:,} patients",
            "rejects": ", ".join(f"{name} {count}" for name, count in self.card.reject_reasons.items()) or "none",
            "flags": ", ".join(f"{name} {count}" for name, count in self.card.flags.items()) or "none",
            "channels": ", ".join(self.channels),
            "size": f"{self.card.height_px} x {self.card.width_px} px, {self.card.dtype}",
            "digest": self.card.digest,
        }
        return card_html(f"Shards: {self.path}", card) + picture_html(self.show(SHOWN_IN_NOTEBOOKS))

    def __getstate__(self) -> dict[str, Any]:
        """Pickle folder and card only: a worker reads the index for itself."""
        return {"path": self.path, "card": self.card}


class ShardWriter:
    """Write rows of one's own as shards, which `curate` and all later jobs take as if `convert` had made them.

    A context manager. The folder is complete, with index and card, or holds nothing: what was written is removed if
    the block is left by an exception, and a folder that a killed process left behind is begun anew.

        with hemo.ShardWriter("runs/digits", channels=("grey",), side_px=28) as writer:
            for name, image, digit in digits:
                writer.write(image, image_id=name, source_class=str(digit))
        shards = hemo.Shards("runs/digits")
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        channels: Sequence[str],
        side_px: int | Sequence[int],
        dtype: DTypeLike = "uint8",
        unit_rows: int = 1024,
    ) -> None:
        """Describe the images; nothing is written yet.

        Args:
            path: Output folder, a path or URI.
            channels: Names of the channels, in order.
            side_px: Height and width of each image, one number where they are equal.
            dtype: Of a pixel: uint8, or int16 for Hounsfield units.
            unit_rows: Images in a shard.

        Raises:
            ConfigError: If there are no channels, one is named twice, a side is not positive, or the dtype is another.
        """
        self._channels = () if isinstance(channels, str) else tuple(map(str, channels))
        if not self._channels or len(set(self._channels)) < len(self._channels):
            raise ConfigError(f"channels: {channels!r} must be a list of names, at least one, and none twice")
        sides_px = _sides_px(side_px)
        if unit_rows < 1:
            raise ConfigError(f"unit_rows: {unit_rows} must be positive")
        self._dtype = _pixel_dtype(dtype)
        self.path = absolute(path)
        self._shape, self._unit_rows = (len(self._channels), *sides_px), unit_rows
        self._settings = {
            "corpus": OWN_ROWS,
            "channels": list(self._channels),
            "dtype": str(self._dtype),
            "sides_px": list(sides_px),
        }
        self._is_open = False

    def __enter__(self) -> Self:
        """Lock the folder; remove what a killed writer left there.

        Raises:
            OutputError: If it holds finished shards or something else, cannot be written, or another process writes
                there.
        """
        with ExitStack() as entered:
            self._require_held = entered.enter_context(output_lock(self.path, ("shards",)))
            if read_finished_card(self.path):
                raise OutputError(f"{self.path} holds shards already; give another folder or remove this one")
            read_footers(self.path, self._settings)  # refuses files that are no shards of this writer
            self._remove_all()
            self._lock = entered.pop_all()
        self._builder, self._rows = ShardBuilder(), list[SourceFile]()
        self._units, self._footers = list[Unit](), list[ShardFooter]()
        self._is_open = True
        return self

    def write(self, image: NDArray[Any], *, image_id: str, **columns: Any) -> None:
        """Add one image, within the block of the writer.

        Args:
            image: Of the writer's shape and dtype, (channels, height_px, width_px); without the first axis where there
                is one channel.
            image_id: Not twice in these shards.
            columns: Others of a shard: `patient`, `study`, `series`, `source_class`, `source_split`, `position_mm`,
                `spacing_mm`, `flags`, `source_path`, ...; those left out are null, or follow from the image.

        Raises:
            ConfigError: If the image has another shape or dtype, a column is unknown, follows from the image or has
                another type, or the writer is not open.
        """
        if not self._is_open:
            raise ConfigError(f"{image_id}: {self.path} is not open; write within its `with` block")
        pixels = np.asarray(image)
        if pixels.ndim == 2 and self._shape[0] == 1:
            pixels = pixels[None]
        if pixels.shape != self._shape or pixels.dtype != self._dtype:
            raise ConfigError(
                f"{image_id}: the image is {pixels.dtype} of shape {pixels.shape}, and must be {self._dtype} of "
                f"shape {self._shape}"
            )
        self._builder.add(self._row(np.ascontiguousarray(pixels), image_id, columns))
        self._rows.append(SourceFile(image_id, pixels.nbytes, ""))
        if self._builder.rows == self._unit_rows:
            self._finish_unit()

    def _row(self, pixels: NDArray[Any], image_id: str, columns: dict[str, Any]) -> dict[str, Any]:
        _, height_px, width_px = self._shape
        derived = {
            "image_id": image_id,
            IMAGE: pixels,
            "height_px": height_px,
            "width_px": width_px,
            "frame": 0,
            "source_rows": height_px,
            "source_cols": width_px,
            "flags": [],
            "pixel_digest": pixel_digest(pixels),
            "source_path": image_id,
            "pixel_format": f"{'u' if self._dtype.kind == 'u' else 'i'}{8 * self._dtype.itemsize}",
        }
        for name, value in {"image_id": image_id, **columns}.items():
            _require_column(image_id, name, value)
        return {**dict.fromkeys(ROW_SCHEMA.names), **derived, **columns}

    def _finish_unit(self) -> None:
        unit = Unit(len(self._units), tuple(self._rows))
        footer = ShardFooter(
            unit=unit.number,
            digest=unit_digest(unit, self._settings),
            settings=self._settings,
            channels=self._channels,
            dtype=str(self._dtype),
            height_px=self._shape[1],
            width_px=self._shape[2],
            files=self._builder.rows,
            rows=self._builder.rows,
            rejects=(),
        )
        write_bytes(join(self.path, unit.shard), memoryview(self._builder.finish(footer.encoded())))
        self._units.append(unit)
        self._footers.append(footer)
        self._builder, self._rows = ShardBuilder(), []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write index and card; after an exception remove what was written.

        Raises:
            ConfigError: If no image was written.
            SourceError: If two images have the same `image_id`.
        """
        self._is_open = False
        with self._lock:
            try:
                if kind is None:
                    self._finish()
                    return
            except BaseException:
                self._remove_all()
                raise
            self._remove_all()

    def _finish(self) -> None:
        if self._builder.rows:
            self._finish_unit()
        if not self._footers:
            raise ConfigError(f"{self.path}: no image was written; shards need at least one")
        rows = [(row, unit.number) for unit in self._units for row in unit.files]
        write_manifest(self.path, Manifest(*(tuple(column) for column in zip(*rows, strict=True))))
        card = write_derived(self.path, self._units, self._footers, 0)
        self._require_held()
        write_card(self.path, card)

    def _remove_all(self) -> None:
        self._require_held()
        for name in (*DERIVED, "manifest.parquet", "shards"):
            remove(join(self.path, name))


def _sides_px(side_px: int | Sequence[int]) -> tuple[int, int]:
    """Return height and width."""
    try:
        sides_px: Any = (side_px, side_px) if np.ndim(side_px) == 0 else side_px
        height_px, width_px = (operator.index(side) for side in sides_px)
    except (TypeError, ValueError):
        height_px = width_px = 0
    if min(height_px, width_px) < 1:
        raise ConfigError(f"side_px: {side_px!r} must be a positive integer, or two: height and width")
    return height_px, width_px


def _pixel_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    with suppress(TypeError):
        if str(np.dtype(dtype)) in ("uint8", "int16"):
            return np.dtype(dtype)
    raise ConfigError(f"dtype: {dtype!r} must be uint8 or int16")


def _require_column(image_id: str, name: str, value: object) -> None:
    """Refuse a column that is not the caller's to give, or a value of another type."""
    if name in OF_THE_IMAGE or name not in ROW_SCHEMA.names:
        why = "follows from the image" if name in OF_THE_IMAGE else "is no column of a shard"
        given = ", ".join(each for each in ROW_SCHEMA.names if each not in ("image_id", IMAGE, *OF_THE_IMAGE))
        raise ConfigError(f"{image_id}: {name!r} {why}; you may give {given}")
    field = ROW_SCHEMA.field(name)
    try:
        if isinstance(value, str) and pa.types.is_list(field.type):  # Arrow would take it as a list of letters
            raise TypeError("a list, not a text")
        if value is None and not field.nullable:
            raise TypeError("it cannot be null")
        pa.scalar(value, field.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{image_id}: {name} {value!r} must be {field.type} ({error})") from error
