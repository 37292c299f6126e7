"""The Parquet parts of a split: their columns without the pixels, and images streamed block by block."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hemo.curation.card import TrainingSetCard
from hemo.errors import SourceError
from hemo.shards.reader import CURATE_AGAIN, checked_parquet, images_of, read_column
from hemo.shards.schema import IMAGE, INDEX_SCHEMA
from hemo.storage import join, list_files

IDENTITY_COLUMNS = ("image_id", "patient", "pixel_format")

READ_THREADS = 4
"""Blocks read and decoded at once: both happen outside Python's lock, and hide the latency of a storage."""

OPEN_BLOCKS = 32
"""Blocks in memory at most, unless one batch needs more: those in use (training: `sampling.LANES`), and those ahead."""

IDLE_BATCHES = 32
"""A block that is not needed for so many batches is dropped and read again."""


@dataclass(frozen=True)
class Part:
    """One file of a split, its footer read once."""

    location: str
    footer: pq.FileMetaData

    @property
    def block_rows(self) -> list[int]:
        """Rows of each block. A block is a row group: what is read and decoded at once."""
        return [self.footer.row_group(group).num_rows for group in range(self.footer.num_row_groups)]


def read_parts(
    training_set: str, split: str, card: TrainingSetCard, more: Sequence[str] = ()
) -> tuple[list[Part], pa.Table]:
    """Return the parts of a split in order, and all their rows without the pixels.

    Args:
        training_set: Output folder of `curate`, a path or URI.
        split: `train`, `val` or `test`.
        card: The set's card.
        more: Further columns of the row schema.

    Returns:
        Parts, and a table of `IDENTITY_COLUMNS`, `more` and a column `label_NAME` for each class of the card.

    Raises:
        SourceError: If pixels are not uint8, a part is damaged or lacks a column, or rows are missing.
    """
    if card.dtype != "uint8":
        raise SourceError(f"{training_set}: images are {card.dtype}, training takes uint8; convert with `windows`")
    folder = join(training_set, split)
    labels = [f"label_{name}" for name in card.classes]
    read = [
        _read_part(join(folder, name), [*IDENTITY_COLUMNS, *more, *labels])
        for name in list_files(folder)
        if name.endswith(".parquet")
    ]
    rows = sum(part.footer.num_rows for part, _ in read)
    if rows != card.splits[split].rows:
        raise SourceError(
            f"{folder} holds {rows} rows, its card has {card.splits[split].rows}; run `hemo curate` again"
        )
    nothing = pa.schema(
        [*(INDEX_SCHEMA.field(name) for name in (*IDENTITY_COLUMNS, *more)), *((name, pa.uint8()) for name in labels)]
    )
    tables = [columns for _, columns in read] or [nothing.empty_table()]
    return [part for part, _ in read], pa.concat_tables(tables)


def _read_part(location: str, wanted: list[str]) -> tuple[Part, pa.Table]:
    with checked_parquet(location, CURATE_AGAIN) as file:
        missing = [name for name in (IMAGE, *wanted) if name not in file.schema_arrow.names]
        if missing:
            raise SourceError(f"{location} has no column {', '.join(missing)}; run `hemo curate` again")
        return Part(location, file.metadata), file.read(columns=wanted)


def read_pixels(part: Part, group: int, shape: Sequence[int]) -> NDArray[np.uint8]:
    """Read the images of one block; only their bytes are read, and decoded into a buffer that the array views.

    Args:
        part: Of a split.
        group: Row group of the part, 0-based.
        shape: (channels, height_px, width_px), as in the card.

    Returns:
        Read-only, shape (rows of the block, *shape).

    Raises:
        SourceError: If the part is gone or damaged, or an image is of another size.
        OSError: As the storage raises it.
    """
    column = read_column(part.location, part.footer, group, IMAGE, CURATE_AGAIN)
    channels, height_px, width_px = shape
    try:
        return images_of(column, (channels, height_px, width_px))
    except ValueError as error:
        raise SourceError(
            f"{part.location}: an image is not {np.prod(shape)} bytes, {channels} x {height_px} x {width_px} as its "
            "card says; run `hemo curate` again"
        ) from error


@dataclass(frozen=True)
class Visits:
    """When which block must be in memory, in the order of first need; each array of shape (visits,)."""

    block: NDArray[np.intp]
    first: NDArray[np.intp]  # batch, 0-based
    last: NDArray[np.intp]  # batch


@dataclass(frozen=True)
class StreamedImages:
    """The images of one split, in the files where `curate` put them; small enough to travel to every trial.

    In memory at once: `OPEN_BLOCKS` blocks at most, or those that one batch needs if they are more, a compressed block
    for each of `READ_THREADS`, and a batch. A block of the sets that `curate` writes has 128 images at most and 64 MiB:
    32 blocks of 3 x 224 x 224 px are 590 MiB.
    """

    parts: tuple[Part, ...]
    image_shape: tuple[int, int, int]  # (channels, height_px, width_px)
    is_study: ClassVar[None] = None
    chosen: NDArray[np.intp] | None = None  # ascending: the rows of the parts that belong to the split; None: all

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all: (rows, channels, height_px, width_px)."""
        rows = sum(part.footer.num_rows for part in self.parts) if self.chosen is None else len(self.chosen)
        return rows, *self.image_shape

    @cached_property
    def block_ends(self) -> NDArray[np.intp]:
        """Row after the last of each block, ascending, shape (blocks,)."""
        return self._stored_ends if self.chosen is None else np.searchsorted(self.chosen, self._stored_ends)

    @cached_property
    def _stored_ends(self) -> NDArray[np.intp]:
        """The same in the parts, chosen or not."""
        return np.cumsum([rows for part in self.parts for rows in part.block_rows], dtype=np.intp)

    @cached_property
    def _places(self) -> list[tuple[Part, int]]:
        """Part of each block and its row group in it."""
        return [(part, group) for part in self.parts for group in range(part.footer.num_row_groups)]

    def batches(self, wanted: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[np.uint8]]:
        """Yield the images of these rows, batch by batch; each batch is a new array that may be written to.

        All batches are known from the start, so blocks are read in the order in which they will be needed.

        Args:
            wanted: Rows of each batch, shape (images,).

        Raises:
            SourceError: If a part is gone or damaged.
        """
        stored = wanted if self.chosen is None else [self.chosen[rows] for rows in wanted]
        begins = np.concatenate([[0], self._stored_ends])
        blocks = [np.searchsorted(self._stored_ends, rows, side="right") for rows in stored]
        pool = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="hemo-read")
        try:
            held = _HeldBlocks(plan_visits(blocks), self._read, pool)
            for number, rows in enumerate(stored):
                held.open(number)
                batch = np.empty((len(rows), *self.image_shape), np.uint8)
                in_block = rows - begins[blocks[number]]
                for image, block, row in zip(batch, blocks[number].tolist(), in_block.tolist(), strict=True):
                    image[...] = held.pixels(block)[row]
                held.drop(number)
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)

    def read_all(self) -> NDArray[np.uint8]:
        """Read every image of the split into one array of `shape`; blocks go straight to their places.

        Raises:
            SourceError: If a part is gone or damaged.
        """
        pixels = np.empty(self.shape, np.uint8)

        begins = np.concatenate([[0], self.block_ends])

        def fill(block: int) -> None:
            here, images = slice(begins[block], begins[block + 1]), self._read(block)
            chosen = slice(None) if self.chosen is None else self.chosen[here] - self._stored_ends[block] + len(images)
            pixels[here] = images[chosen]

        with ThreadPoolExecutor(READ_THREADS, thread_name_prefix="hemo-read") as pool:
            deque(pool.map(fill, np.flatnonzero(np.diff(begins)).tolist()), maxlen=0)
        return pixels

    def _read(self, block: int) -> NDArray[np.uint8]:
        part, group = self._places[block]
        return read_pixels(part, group, self.image_shape)


def plan_visits(blocks: Sequence[NDArray[np.intp]]) -> Visits:
    """Return when blocks must be in memory. One that is not needed for `IDLE_BATCHES` is visited again later.

    Args:
        blocks: For each batch, the block of each of its images.
    """
    batch = np.repeat(np.arange(len(blocks)), [len(of_batch) for of_batch in blocks])
    block = np.concatenate([*blocks, np.empty(0, np.intp)])
    order = np.lexsort((batch, block))
    batch, block = batch[order], block[order]
    begins = np.append(True, (np.diff(block) != 0) | (np.diff(batch) > IDLE_BATCHES))[: len(block)]
    ends = np.append(begins[1:], True)[: len(block)]
    in_order = np.argsort(batch[begins], kind="stable")
    return Visits(block[begins][in_order], batch[begins][in_order], batch[ends][in_order])


class _HeldBlocks:
    """The blocks that are in memory, or on their way there."""

    def __init__(self, visits: Visits, read: Callable[[int], NDArray[np.uint8]], pool: Executor) -> None:
        """Begin to read."""
        self._visits, self._read, self._pool = visits, read, pool
        self._asked = self._opened = 0  # visits
        self._coming: deque[Future[NDArray[np.uint8]]] = deque()  # of the visits between both
        self._open: dict[int, tuple[NDArray[np.uint8], int]] = {}  # block -> pixels, last batch
        self._ask(0)

    def open(self, batch: int) -> None:
        """Wait until all blocks of this batch are there."""
        self._ask(batch)
        visits = self._visits
        while self._opened < len(visits.first) and visits.first[self._opened] <= batch:
            block, last = int(visits.block[self._opened]), int(visits.last[self._opened])
            self._open[block] = self._coming.popleft().result(), last
            self._opened += 1

    def pixels(self, block: int) -> NDArray[np.uint8]:
        """Return the images of an open block, shape (rows of the block, channels, height_px, width_px)."""
        return self._open[block][0]

    def drop(self, batch: int) -> None:
        """Evict blocks that are not needed after this batch, and read further ones instead."""
        self._open = {block: held for block, held in self._open.items() if held[1] > batch}
        self._ask(batch)

    def _ask(self, batch: int) -> None:
        """Have those visits read that `batch` needs, and further ones while there is room."""
        first, block = self._visits.first, self._visits.block
        while self._asked < len(first) and (
            first[self._asked] <= batch or len(self._open) + len(self._coming) < OPEN_BLOCKS
        ):
            self._coming.append(self._pool.submit(self._read, int(block[self._asked])))
            self._asked += 1
