"""Plan the copy of images to a training set: the part and row of each, with neighbouring slices as channels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hemo.config.curate import SPLITS
from hemo.curation.hash_order import hash_texts
from hemo.curation.labelled_index import has_flag, text_column
from hemo.curation.select import Selection
from hemo.errors import ConfigError
from hemo.shards.card import ConversionCard
from hemo.shards.schema import NOT_IN_THE_STACK
from hemo.shards.writer import rows_per_group

PART_BYTES = 1 << 29
"""Pixels of a part at most: one part is put together in memory."""

READ_BYTES = 1 << 28
"""Pixels that one task of the first pass reads at most: a unit of multi-frame files may hold far more."""

COPY_SCHEMA = pa.schema(
    [
        pa.field("read", pa.int32()),  # piece of a shard that is read at once; numbered from 0
        pa.field("unit", pa.int32()),  # shard to read
        pa.field("row", pa.int32()),  # row within the shard
        pa.field("part", pa.int32()),  # part to write
        pa.field("position", pa.int32()),  # row within the part
        pa.field("slot", pa.int8()),  # index among the images of that row: 0, or previous, own, next
        pa.field("image_id", pa.string()),  # of the image, to detect a shard that does not match the index
    ]
)

GAP_RATIO = 1.5  # a missing slice doubles the spacing
LONE_GAP_RATIO = 2.5
SAME_POSITION_MM = 0.01  # positions computed from decimals; the thinnest CT slices are 0.2 mm
SAME_COSINE = 0.01  # half a degree
DIRECTION_COSINES = 6

SLOTS = ("previous", "own", "next")
"""Order of the channels of an image with its neighbours."""


@dataclass(frozen=True)
class ImageLayout:
    """Channels, dtype and shape of one image of a training set."""

    channels: tuple[str, ...]  # of one slot's image
    dtype: str
    height_px: int
    width_px: int
    slots: int  # 1, or 3 with neighbours

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a stored image: (channels, height_px, width_px)."""
        return len(self.channels), self.height_px, self.width_px

    @property
    def image_bytes(self) -> int:
        """Bytes of a stored image, as the shards hold it."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    @property
    def all_channels(self) -> tuple[str, ...]:
        """Channels of a row of the training set, in order."""
        if self.slots == 1:
            return self.channels
        suffixes = [f"_{slot}" if slot != "own" else "" for slot in SLOTS]
        return tuple(f"{channel}{suffix}" for suffix in suffixes for channel in self.channels)


@dataclass(frozen=True)
class CopyPlan:
    """Source and target of every image.

    Attributes:
        layout: Of the images.
        parts: Path of each part below the training set.
        rows: For each part its rows in order: columns of `INDEX_SCHEMA`, then the labels.
        copies: Columns of `COPY_SCHEMA`, sorted by read.
        stacks: With neighbours: series, stacks of two slices or more, slices without a neighbour, in the conversion.
    """

    layout: ImageLayout
    parts: tuple[str, ...]
    rows: tuple[pa.Table, ...]
    copies: pa.Table
    stacks: dict[str, int]

    def copies_by_read(self) -> Iterator[pa.Table]:
        """Yield the copies of each read: rows of one shard, at most `READ_BYTES` of pixels."""
        reads = self.copies["read"].to_numpy()
        starts = np.flatnonzero(np.diff(reads, prepend=-1))
        for start, stop in zip(starts, np.append(starts[1:], len(reads)), strict=True):
            yield self.copies.slice(int(start), int(stop - start))


def layout_of(card: ConversionCard, neighbours: int) -> ImageLayout:
    """Return the layout of a training set made of these shards."""
    slots = len(SLOTS) if neighbours else 1
    return ImageLayout(card.channels, card.dtype, card.height_px, card.width_px, slots)


def plan_copies(selection: Selection, layout: ImageLayout, *, part_rows: int, seed: int) -> CopyPlan:
    """Distribute the selected rows to parts and list the copies that are needed.

    Args:
        selection: Rows and their splits.
        layout: Of the images; with three slots the neighbours' images are copied as well.
        part_rows: Rows in a part at most; fewer if the images are so large that a part would exceed `PART_BYTES`.
        seed: Of the order.
    """
    index = selection.rows.index
    rows_at_most = max(1, min(part_rows, PART_BYTES // (layout.image_bytes * layout.slots)))
    image_ids = text_column(index, "image_id")
    parts, members = [], []
    for number, split in enumerate(SPLITS):
        chosen = selection.chosen[selection.splits == number]
        for part, order in enumerate(shuffled_parts(image_ids.take(chosen), rows_at_most, seed)):
            parts.append(f"{split}/part-{part:06d}.parquet")
            members.append(chosen[order])
    columns = selection.rows.training_set_columns()
    rows = tuple(columns.take(numbers) for numbers in members)
    beside = adjacent(index, selection.rows.patient) if layout.slots > 1 else None
    copies = _copies(index, members, beside, layout.image_bytes)
    return CopyPlan(layout, tuple(parts), rows, copies, _count_stacks(index, *beside) if beside else {})


def _copies(
    index: pa.Table,
    members: list[NDArray[np.int64]],
    beside: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
    image_bytes: int,
) -> pa.Table:
    """Return the copies of all parts, sorted by read, then part, position and slot.

    Args:
        index: Of all images.
        members: Rows of each part, in order.
        beside: As `adjacent` returns it; None: without neighbours.
        image_bytes: Of an image.
    """
    target = np.concatenate(members)
    part = np.repeat(np.arange(len(members)), [len(numbers) for numbers in members])
    position = np.concatenate([np.arange(len(numbers)) for numbers in members])
    sources = [target] if beside is None else [beside[0][target], target, beside[1][target]]
    slots = len(sources)
    source = np.concatenate(sources)
    slot = np.repeat(np.arange(slots), len(target))
    unit, row = (index[name].to_numpy()[source] for name in ("unit", "row"))
    read = _reads(unit, row, image_bytes)
    columns = [read, unit, row, np.tile(part, slots), np.tile(position, slots), slot]
    order = np.lexsort((slot, columns[4], columns[3], read))
    numbers = [pa.array(column[order], field.type) for column, field in zip(columns, COPY_SCHEMA, strict=False)]
    image_id = text_column(index, "image_id").take(source[order])
    return pa.Table.from_arrays([*numbers, image_id], schema=COPY_SCHEMA)


def _reads(unit: NDArray[np.int32], row: NDArray[np.int32], image_bytes: int) -> NDArray[np.int64]:
    """Number the reads from 0: one a unit, or several of whole row groups where a unit exceeds `READ_BYTES`.

    Args:
        unit: Shape (copies,).
        row: Row within the unit's shard, shape (copies,).
        image_bytes: Bytes of an image.
    """
    group = rows_per_group(image_bytes)
    rows_a_read = max(1, READ_BYTES // (image_bytes * group)) * group
    piece = unit.astype(np.int64) * (int(row.max()) // rows_a_read + 1) + row // rows_a_read
    numbers: NDArray[np.int64] = np.unique(piece, return_inverse=True)[1].astype(np.int64)
    return numbers


def shuffled_parts(image_ids: pa.StringArray, part_rows: int, seed: int) -> list[NDArray[np.int64]]:
    """Distribute rows to parts of equal size (within one), each a random sample of all.

    The rows' hashes decide: ranges of them are the parts, and their order is the order within a part. So a copy needs
    two passes and no random reads: rows to the buckets of their parts, then each bucket sorted in memory.

    Args:
        image_ids: Shape (rows,), at least one.
        part_rows: Rows in a part at most.
        seed: Of the order.

    Returns:
        For each part the indices of its rows in `image_ids`, in the order of the part.
    """
    order = np.argsort(hash_texts(image_ids, "shuffle", seed), kind="stable")
    return np.array_split(order, -(-len(order) // part_rows))


def adjacent(index: pa.Table, patient: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the row of the slice before and of the slice after each slice, by position along the normal.

    A stack holds the slices of one series and one orientation, without a gap. At its ends, and for images without
    series or position, the neighbour is the image itself: one of another patient could be in another split.
    Slices at one position, as of a repeated scan, are no neighbours of each other: the first of them by image_id is
    what the slices before and after see.

    Args:
        index: Columns of `INDEX_SCHEMA`, shape (rows,).
        patient: Number of each row's patient, shape (rows,).

    Returns:
        Two arrays of row numbers, each of shape (rows,).

    Raises:
        ConfigError: If no image has a series and a position.
    """
    series = text_column(index, "series").dictionary_encode().indices.fill_null(-1).to_numpy()
    position = _floats(index, "position_mm")
    stacked = np.flatnonzero((series >= 0) & ~np.isnan(position) & ~has_flag(index, NOT_IN_THE_STACK))
    if not len(stacked):
        raise ConfigError("neighbours: 1 needs slices with a series and a position, the shards have none; use 0")
    names = pc.rank(text_column(index, "image_id")).to_numpy()
    order = stacked[np.lexsort((names[stacked], position[stacked], series[stacked], patient[stacked]))]
    number = np.cumsum(_changes(series[order]) | _changes(patient[order])) - 1  # of the series
    plane = _planes(number, _orientations(index, order))
    if plane.any():
        by_plane = np.lexsort((plane, number))  # stable: by position within a plane
        order, number, plane = order[by_plane], number[by_plane], plane[by_plane]
    begins_plane = _changes(number) | _changes(plane)
    begins_position = begins_plane | (np.diff(position[order], prepend=-np.inf) > SAME_POSITION_MM)
    first, at = order[begins_position], np.cumsum(begins_position) - 1
    has_previous = ~begins_plane[begins_position]
    thickness = _floats(index, "slice_thickness_mm")[first]
    has_previous &= ~_gaps(position[first], has_previous, number[begins_position], thickness)
    has_next = np.append(has_previous[1:], False)
    before, after = np.arange(len(series)), np.arange(len(series))
    for neighbour, exists, step in ((before, has_previous, -1), (after, has_next, 1)):
        inner = exists[at]
        neighbour[order[inner]] = first[at[inner] + step]
    return before, after


def _count_stacks(index: pa.Table, before: NDArray[np.int64], after: NDArray[np.int64]) -> dict[str, int]:
    """Count series, stacks of two slices or more, and slices without a neighbour; arguments as of `adjacent`."""
    own = np.arange(len(before))
    seen_before = np.unique(before[before != own])
    return {
        "series": pc.count_distinct(index["series"]).as_py(),
        "stacks": int((before[seen_before] == seen_before).sum()),
        "without_neighbour": int(((before == own) & (after == own)).sum()),
    }


def _floats(index: pa.Table, name: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = index[name].combine_chunks().cast(pa.float64()).fill_null(np.nan).to_numpy()
    return values


def _orientations(index: pa.Table, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the direction cosines of rows, shape (rows, 6); zeros where they are not known."""
    column: Any = index["orientation"].combine_chunks()
    known = column.is_valid().to_numpy(zero_copy_only=False)
    cosines = np.zeros((len(column), DIRECTION_COSINES), np.float32)
    cosines[known] = column.flatten().to_numpy().reshape(-1, DIRECTION_COSINES)  # flatten leaves out nulls
    return cosines[rows]


def _planes(series: NDArray[np.int64], cosines: NDArray[np.float32]) -> NDArray[np.int64]:
    """Number the orientations within each series from 0, in the order of rows; equal within a tolerance.

    Args:
        series: Number of each row's series, ascending, shape (rows,).
        cosines: Direction cosines, shape (rows, 6).
    """
    plane = np.zeros(len(series), np.int64)
    left = np.arange(len(series))
    while True:
        begins = _changes(series[left])
        reference = cosines[left[begins]][np.cumsum(begins) - 1]
        left = left[(np.abs(cosines[left] - reference) > SAME_COSINE).any(axis=1)]
        if not len(left):
            return plane
        plane[left] += 1


def _gaps(
    position_mm: NDArray[np.float64],
    has_previous: NDArray[np.bool_],
    series: NDArray[np.int64],
    thickness_mm: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Tell before which positions slices are missing; shape (positions,).

    A spacing is a gap where it exceeds `GAP_RATIO` times the largest of the spacings before and after it and of the
    thicknesses of its two slices, as far as they are known; where none is, `LONE_GAP_RATIO` times the median of its
    series. So slices of 4 and then of 7 mm are one stack. Two large spacings in a row count as a wider stack.

    Args:
        position_mm: Ascending within a series' orientation, shape (positions,).
        has_previous: Whether the position before is of the same series and orientation, shape (positions,).
        series: Number of the series, shape (positions,).
        thickness_mm: Slice thickness; NaN, zero or below: not known. Shape (positions,).
    """
    spacing_mm = np.where(has_previous, np.diff(position_mm, prepend=np.nan), 0)  # to the position before
    thickness_mm = np.fmax(thickness_mm, 0)
    expected = np.maximum(np.append(0, spacing_mm[:-1]), np.append(spacing_mm[1:], 0))
    expected = np.maximum(expected, np.maximum(thickness_mm, np.append(0, thickness_mm[:-1])))
    gap: NDArray[np.bool_] = has_previous & (expected > 0) & (spacing_mm > GAP_RATIO * expected)
    lone = np.flatnonzero(has_previous & (expected == 0))
    if len(lone):
        spaced = np.flatnonzero(has_previous)
        by_size = spaced[np.lexsort((spacing_mm[spaced], series[spaced]))]
        numbers, starts, counts = np.unique(series[by_size], return_index=True, return_counts=True)
        low, high = (spacing_mm[by_size[starts + part]] for part in ((counts - 1) // 2, counts // 2))
        median = ((low + high) / 2)[np.searchsorted(numbers, series[lone])]
        gap[lone] = spacing_mm[lone] > LONE_GAP_RATIO * median
    return gap


def _changes(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return for each value whether it differs from the one before it; the first does. `values` has shape (rows,)."""
    return np.append(True, values[1:] != values[:-1])
