"""A published table with our figures under the published ones, and the difference."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hemo.reporting.cells import Cell, cells_of
from hemo.reporting.headings import split_name, told
from hemo.reporting.published.source import Column, PublishedRow, PublishedTable, SetName, by_set, set_of, sets_told
from hemo.reporting.table_format import MISSING, Table, hours, number
from hemo.reporting.trial_row import Row, image_of
from hemo.sweeps.trial_changes import flattened
from hemo.trials.record import title_of

REDUCIBLE = ("model.weights", "training.epochs")
"""Settings that may differ from the published ones where a row is found by its settings."""


@dataclass(frozen=True)
class Pair:
    """A published figure and ours."""

    row: str
    figure: str  # `split.metric`, `baseline.metric` or `seconds`
    published: float | None
    ours: float | None  # mean over the seeds
    seeds: int  # 0 where there is no complete trial
    training_set: str

    @property
    def difference(self) -> float | None:
        """Ours less the published figure; None where one of them is missing."""
        return None if self.published is None or self.ours is None else self.ours - self.published


@dataclass(frozen=True)
class Beside:
    """A published table beside ours, and what stands above it."""

    heading: tuple[tuple[str, str], ...]  # term and text
    table: Table
    pairs: tuple[Pair, ...]  # the same figures in full precision


def beside(published: PublishedTable, rows: Sequence[Row]) -> list[Beside]:
    """Return a published table with ours: one for each split and classes, or one for all.

    A trial belongs to the row whose name it has, or has before its seed. A row without such a trial takes one of
    another name with the same settings: a trial of two published tables has one record. Weights and epochs may differ,
    and are told.

    Training sets with the same split and classes share a table, so that a backbone that needs larger images stands
    beside the others; the notes tell which row is of which set. Where two of them have the same row, each has its own.

    Args:
        published: The table.
        rows: Trials of any training set.
    """
    named = [row for row in rows if any(_is_named(row, wanted) for wanted in published.rows)]
    if published.across_training_sets:
        return [_beside(published, {wanted.name: _named(wanted, named) for wanted in published.rows})]
    named = named or [row for row in rows if any(_is_alike(row, published, wanted) for wanted in published.rows)]
    tables = [_of_sets(published, rows, sets) for sets in _shared_tables(published, named)]
    return [_beside(published, found) for found in tables or [{wanted.name: [] for wanted in published.rows}]]


def _shared_tables(published: PublishedTable, named: Sequence[Row]) -> list[list[SetName]]:
    """Return the training sets of each table."""
    alike: dict[tuple[str, tuple[str, ...]], list[Row]] = defaultdict(list)
    for row in named:
        alike[row.record.split, row.record.classes].append(row)
    tables = []
    for _, mine in sorted(alike.items()):
        sets = sorted({set_of(row) for row in mine})
        complete = [row for row in mine if row.record.status == "complete"]
        twice = any(len(by_set(_named(wanted, complete))) > 1 for wanted in published.rows)
        tables += [[one] for one in sets] if twice else [sets]
    return tables


def _of_sets(published: PublishedTable, rows: Sequence[Row], sets: Sequence[SetName]) -> dict[str, list[Row]]:
    """Return the trials of each published row, by its name, of some training sets."""
    mine = [row for row in rows if set_of(row) in sets]
    return {
        wanted.name: _named(wanted, mine) or [row for row in mine if _is_alike(row, published, wanted)]
        for wanted in published.rows
    }


def _beside(published: PublishedTable, found: Mapping[str, Sequence[Row]]) -> Beside:
    names = [name for column in published.columns for name in column.figures]
    lines: list[tuple[str, ...]] = []
    marks: list[str] = []
    notes: list[str] = []
    pairs: list[Pair] = []
    sizes = {image_of(row.record) for rows in found.values() for row in rows if row.record.image}
    for wanted in published.rows:
        cells = [cell for rows in by_set(found[wanted.name]).values() for cell in cells_of(rows)]
        for name, figures, mark in _lines(wanted, found[wanted.name], cells, len(sizes) > 1):
            lines.append((_first_cell(published, wanted), name, *_texts(published, wanted, figures, mark)))
            marks.append(mark)
        notes += _notes(wanted, found[wanted.name])
        pairs += [pair for cell in cells or (None,) for pair in _pairs(wanted, cell, names)]
    notes += sets_told(found)
    head = (published.columns[0].head, "figures", *(column.head for column in published.columns[1:]))
    table = Table(published.title, head, tuple(lines), tuple(marks), tuple(notes))
    return Beside(tuple(_heading(published, found)), table, tuple(pairs))


def _named(wanted: PublishedRow, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if _is_named(row, wanted)]


def _is_named(row: Row, wanted: PublishedRow) -> bool:
    config = row.record.config
    return config.name.removesuffix(f", seed {config.seed}") == wanted.name


def _is_alike(row: Row, published: PublishedTable, wanted: PublishedRow) -> bool:
    return all(key in REDUCIBLE for key in _deviating(published, wanted, row))


def _first_cell(published: PublishedTable, wanted: PublishedRow) -> str:
    key = published.columns[0].setting
    return wanted.name if key == "name" else str(wanted.settings[key])


def _lines(
    wanted: PublishedRow, found: Sequence[Row], cells: Sequence[Cell], several_sizes: bool
) -> Iterator[tuple[str, dict[str, float], str]]:
    """Yield name, figures and mark of each line: published, each cell of ours and its difference, or why none."""
    yield "published", wanted.figures, "published"
    for cell in cells:
        pairs = _pairs(wanted, cell, _names(cell))
        yield (
            _whose(cell, cells, several_sizes),
            {pair.figure: pair.ours for pair in pairs if pair.ours is not None},
            "complete",
        )
        gaps = {pair.figure: pair.difference for pair in pairs if pair.difference is not None}
        yield "difference", gaps, "difference"
    if not cells:
        yield f"ours: {found[0].record.status if found else 'no record'}", {}, "failed"


def _pairs(wanted: PublishedRow, cell: Cell | None, names: Iterable[str]) -> list[Pair]:
    """Return published figures and ours, those of nobody left out."""
    seeds, training_set = (len(cell.rows), cell.rows[0].record.training_set) if cell else (0, "")
    pairs = [
        Pair(wanted.name, name, wanted.figures.get(name), _mean(cell, name) if cell else None, seeds, training_set)
        for name in names
    ]
    return [pair for pair in pairs if pair.published is not None or pair.ours is not None]


def _whose(cell: Cell, cells: Sequence[Cell], several_sizes: bool) -> str:
    record = cell.rows[0].record
    label = "ours" if len(cells) == 1 else f"ours, {record.digest[:8]}"
    label += f", {image_of(record)}" if several_sizes else ""
    return label if len(cell.rows) == 1 else f"{label}, mean of {len(cell.rows)} seeds"


def _names(cell: Cell) -> set[str]:
    record = cell.rows[0].record
    splits = {f"{split}.{metric}" for split in record.metrics for metric in record.metrics[split]}
    return splits | {f"baseline.{metric}" for metric in record.baseline.get("val", {})} | {"seconds"}


def _mean(cell: Cell, name: str) -> float | None:
    """Return the mean over the seeds of `split.metric`, `baseline.metric` of validation, or `seconds`."""
    split, _, metric = name.partition(".")
    if name == "seconds":
        return fmean(row.record.seconds for row in cell.rows)
    if split == "baseline":
        values = [
            row.record.baseline["val"][metric] for row in cell.rows if metric in row.record.baseline.get("val", {})
        ]
    else:
        values = cell.values(split, metric)
    return fmean(values) if values else None


def _texts(published: PublishedTable, wanted: PublishedRow, figures: dict[str, float], mark: str) -> list[str]:
    """Return a line's cells; settings stand in the published line only, and differences have a sign."""
    cells = []
    for column in published.columns[1:]:
        if column.setting:
            cells.append(_setting(wanted.settings[column.setting]) if mark == "published" else "")
            continue
        texts = [_figure(column, figures.get(name), mark == "difference") for name in column.figures]
        cells.append(" / ".join(texts) if any(text != MISSING for text in texts) else MISSING)
    return cells


def _figure(column: Column, value: float | None, signed: bool) -> str:
    if value is None:
        return MISSING
    if column.unit == "hours":
        sign = "" if not signed else "-" if round(value) < 0 else "+"
        return sign + hours(abs(value))
    in_unit, digits = (1000 * value, 0) if column.unit == "milliseconds" else (value, 4)
    return number(in_unit, digits, signed=signed)


def _setting(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _heading(published: PublishedTable, found: Mapping[str, Sequence[Row]]) -> Iterator[tuple[str, str]]:
    yield "Published", published.source
    for sentence in published.worth:
        yield "What it is worth", sentence
    mine = [(wanted, row) for wanted in published.rows for row in found[wanted.name] if row.record.status != "failed"]
    ran = [row.record for _, row in mine]
    if not ran:
        yield "Ours", "no trial of this table ran"
        return
    yield "Split", told([(split_name(record),) for record in ran])
    sizes = [", ".join(f"{split} {images:,}" for split, images in record.rows.items()) for record in ran]
    yield "Images", told([(f"{size}, each {image_of(record)}",) for size, record in zip(sizes, ran, strict=True)])
    yield "Reduced", told([record.reductions for record in ran]) or "nothing"
    yield "Not as published", told([_deviations(published, wanted, row) for wanted, row in mine]) or "nothing"
    yield "Hardware", told([(record.hardware,) for record in ran])


def _deviating(published: PublishedTable, wanted: PublishedRow, row: Row) -> dict[str, tuple[Any, Any]]:
    """Return setting -> published value and ours, of the settings in which a trial is not as published."""
    ours = dict(flattened(row.record.config.deciding()))
    settings = {**published.recipe, **wanted.settings}
    return {key: (value, ours[key]) for key, value in settings.items() if ours[key] != value}


def _deviations(published: PublishedTable, wanted: PublishedRow, row: Row) -> tuple[str, ...]:
    return tuple(
        f"{key.rsplit('.', 1)[-1].replace('_', ' ')} {_setting(ours)} for {_setting(value)}"
        for key, (value, ours) in _deviating(published, wanted, row).items()
    )


def _notes(wanted: PublishedRow, found: Sequence[Row]) -> Iterator[str]:
    for row in found:
        record = row.record
        if not _is_named(row, wanted):
            yield f"{wanted.name}: ours is {title_of(record)}, whose settings are the same"
        if record.status != "complete":
            yield f"{title_of(record)} {record.status}: {record.reason or 'no reason recorded'}"
        elif row.accuracy is not None and "test.accuracy" in wanted.figures:
            low, high, there = row.accuracy.low, row.accuracy.high, wanted.figures["test.accuracy"]
            inside = "lies inside" if low <= there <= high else "lies outside"
            ends = f"{low:.3f} to {high:.3f}"
            yield f"{title_of(record)}: the published test accuracy {inside} the 95 % interval of ours, {ends}"
    if not found:
        yield f"{wanted.name}: no record of that name or with its settings"
