"""A training set or shards as the data page reads them: the card, all columns but the pixels, and some images."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hemo.config.curate import SPLITS
from hemo.curation.card import TrainingSetCard
from hemo.curation.card import read_card as read_set_card
from hemo.errors import SourceError
from hemo.shards.card import ConversionCard
from hemo.shards.card import read_card as read_conversion_card
from hemo.shards.reader import CONVERT_AGAIN, CURATE_AGAIN, checked_parquet, images_of
from hemo.shards.schema import IMAGE
from hemo.storage import exists, join, list_files, read_json

COLUMNS = (
    *("image_id", "patient", "study", "series", "position_mm", "spacing_mm", "slice_thickness_mm"),
    *("brain_fraction", "flags", "pixel_digest", "pixel_format", "scanner"),
)
MOST_GROUPS = 160
"""Row groups whose images are read: of 128 images at most, some 3 GB of 224 px."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """Images without their pixels, and where these are."""

    folder: str
    card: TrainingSetCard | ConversionCard
    rows: pa.Table  # `COLUMNS`, `split` and `label_NAME` of a training set, `file` and `group` (row group in it)
    files: tuple[str, ...]
    rejects: pa.Table | None  # of shards
    audit: pa.Table | None  # of a training set: images of equal pixels
    near_duplicates: pa.Table | None  # of one that was curated with embeddings: pairs of images of different patients

    @property
    def ids_are_public(self) -> bool:
        """Whether ids and images may be shown."""
        return not self.card.image.get("key_fingerprint")

    @property
    def remedy(self) -> str:
        """What to do about a damaged file."""
        return CURATE_AGAIN if isinstance(self.card, TrainingSetCard) else CONVERT_AGAIN


def read_data_set(folder: str) -> DataSet:
    """Read a training set or shards.

    Raises:
        SourceError: If the folder is neither, or a file is damaged.
    """
    content = read_json(join(folder, "card.json")) if exists(join(folder, "card.json")) else {}
    if not isinstance(content, dict) or not {"channels", "image"} <= set(content):
        raise SourceError(f"data: {folder} holds no images; give an output folder of `hemo convert` or `hemo curate`")
    if "splits" in content:
        card: TrainingSetCard | ConversionCard = read_set_card(folder)
        places = [(split, join(split, name)) for split in SPLITS for name in _parquet(join(folder, split))]
        return _data_set(folder, card, places, CURATE_AGAIN)
    card = read_conversion_card(folder)
    places = [("", join("shards", name)) for name in _parquet(join(folder, "shards"))]
    return _data_set(folder, card, places, CONVERT_AGAIN)


def _parquet(folder: str) -> list[str]:
    return [name for name in list_files(folder) if name.endswith(".parquet")]


def _data_set(
    folder: str, card: TrainingSetCard | ConversionCard, places: Sequence[tuple[str, str]], remedy: str
) -> DataSet:
    labels = tuple(f"label_{name}" for name in card.classes) if isinstance(card, TrainingSetCard) else ()
    tables = []
    for number, (split, name) in enumerate(places):
        with checked_parquet(join(folder, name), remedy) as file:
            table = file.read(columns=[*COLUMNS, *labels])
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        table = table.append_column("split", pa.array([split] * len(table), pa.string()))
        table = table.append_column("file", pa.array([number] * len(table), pa.int32()))
        tables.append(table.append_column("group", pa.array(np.repeat(np.arange(len(sizes)), sizes), pa.int64())))
    if not tables:
        raise SourceError(f"data: {folder} has no rows")
    rejects = None if labels else _table(folder, "rejects.parquet", remedy)
    audit = _table(folder, "audit.parquet", remedy) if labels else None
    near = _table(folder, "near_duplicates.parquet", remedy) if labels else None
    return DataSet(folder, card, pa.concat_tables(tables), tuple(name for _, name in places), rejects, audit, near)


def _table(folder: str, name: str, remedy: str) -> pa.Table | None:
    """Return a table beside the card; None where there is none."""
    if not exists(join(folder, name)):
        return None
    with checked_parquet(join(folder, name), remedy) as file:
        return file.read()


def near_rows(data: DataSet, groups: Mapping[str, NDArray[np.int64]], most: int) -> dict[str, list[int]]:
    """Return rows to show of each group of rows, spread over it, `most` at most, from few row groups of the files.

    Images are read by row groups, so rows of those that are read anyway come first. Past `MOST_GROUPS` no further ones
    are read: a rare group then has fewer rows, or none.

    Args:
        data: The images.
        groups: Name -> numbers of its rows, ascending.
        most: Rows of each.
    """
    place = np.stack([data.rows["file"].to_numpy(), data.rows["group"].to_numpy()], axis=1)
    reading: set[tuple[int, int]] = set()
    chosen: dict[str, list[int]] = {}
    for name, rows in sorted(groups.items(), key=lambda item: (len(item[1]), item[0])):
        spread = rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))] if len(rows) else rows
        near = [int(row) for row in rows if tuple(place[row].tolist()) in reading]
        if len(near) < len(spread):
            for row in spread.tolist():
                if len(reading) < MOST_GROUPS:
                    reading.add(tuple(place[row].tolist()))
            near = [int(row) for row in rows if tuple(place[row].tolist()) in reading]
        step = max(1, len(near) // most)
        chosen[name] = near[::step][:most]
    return chosen


def read_pixels(data: DataSet, rows: Iterable[int]) -> dict[int, NDArray[Any]]:
    """Return images of these rows, (channels, height_px, width_px), of the dtype they are stored in.

    Raises:
        SourceError: If a file is damaged.
    """
    files, groups = data.rows["file"].to_pylist(), data.rows["group"].to_pylist()
    wanted: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row in sorted(set(rows)):
        wanted[files[row], groups[row]].append(row)
    starts = _starts(files, groups)
    shape = data.card.image_shape
    found = {}
    for (file_number, group), members in wanted.items():
        with checked_parquet(join(data.folder, data.files[file_number]), data.remedy) as file:
            images = _images(file, group, shape, data.card.dtype)
        for row in members:
            found[row] = images[row - starts[file_number, group]]
    return found


def _images(file: pq.ParquetFile, group: int, shape: tuple[int, int, int], dtype: str) -> NDArray[Any]:
    return images_of(file.read_row_group(group, columns=[IMAGE])[IMAGE], shape, dtype)


def _starts(files: Sequence[int], groups: Sequence[int]) -> dict[tuple[int, int], int]:
    """Return the first row of each row group."""
    starts: dict[tuple[int, int], int] = {}
    for row, place in enumerate(zip(files, groups, strict=True)):
        starts.setdefault(place, row)
    return starts
