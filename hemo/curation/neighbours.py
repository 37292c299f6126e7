"""The slice before and the slice after, in each series."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hemo.curation.labelled_index import has_flag, text_column
from hemo.errors import ConfigError

NOT_IN_THE_STACK = ("localizer", "secondary_capture")
"""Flags of images that lie in a series but are no slice of its stack."""

SLOTS = ("previous", "own", "next")
"""Order of the channels of an image with its neighbours."""


def adjacent(index: pa.Table, patient: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the row of the slice before and of the slice after each slice, by position along its series' normal.

    At the ends of a series, and for images without patient, series or position, that is the image itself: a neighbour
    of another patient could stand in another split. Slices at one position, as of a repeated scan, are no neighbours of
    each other: the first of them by image_id is what the slices before and after see.

    Args:
        index: Columns of `INDEX_SCHEMA`, shape (rows,).
        patient: Number of each row's patient, shape (rows,).

    Returns:
        Two arrays of row numbers, each of shape (rows,).

    Raises:
        ConfigError: If no image has a series and a position.
    """
    series = text_column(index, "series").dictionary_encode().indices.fill_null(-1).to_numpy()
    position = index["position_mm"].combine_chunks().cast(pa.float64()).fill_null(np.nan).to_numpy()
    stacked = np.flatnonzero((series >= 0) & ~np.isnan(position) & ~has_flag(index, NOT_IN_THE_STACK))
    if not len(stacked):
        raise ConfigError("neighbours: 1 needs slices with a series and a position, the shards have none; use 0")
    names = pc.rank(text_column(index, "image_id")).to_numpy()
    order = stacked[np.lexsort((names[stacked], position[stacked], series[stacked], patient[stacked]))]
    begins_stack = _changes(series[order]) | _changes(patient[order])
    begins_place = begins_stack | _changes(position[order])
    first = order[begins_place]
    place = np.cumsum(begins_place) - 1
    has_previous = ~begins_stack[begins_place]
    has_next = np.append(has_previous[1:], False)
    before, after = np.arange(len(series)), np.arange(len(series))
    for neighbour, exists, step in ((before, has_previous, -1), (after, has_next, 1)):
        inner = exists[place]
        neighbour[order[inner]] = first[place[inner] + step]
    return before, after


def _changes(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell for each value whether it differs from the one before it; the first does. `values` has shape (rows,)."""
    return np.append(True, values[1:] != values[:-1])
