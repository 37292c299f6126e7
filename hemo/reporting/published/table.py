"""A published table with our metrics below the published ones, and the differences."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hemo.config.tune import flattened
from hemo.console import hours
from hemo.reporting.cells import Cell, cells_of
from hemo.reporting.published.source import (
    Column,
    PublishedRow,
    PublishedTable,
    SetName,
    by_set,
    set_of,
    training_set_notes,
)
from hemo.reporting.table_format import MISSING, Table, number
from hemo.reporting.trial_row import Row, estimate, image_of, join_with_counts, split_name
from hemo.trials.record import title_of

REDUCIBLE = ("model.weights", "training.epochs")
"""Settings that may differ from the published ones where a row is matched by its settings."""


@dataclass(frozen=True)
class Pair:
    """A published metric and ours."""

    row: str
    metric: str  # `split.metric`, `baseline.metric` or `seconds`
    published: float | None
    ours: float | None  # mean over the seeds
    seeds: int  # 0 without a complete trial
    training_set: str

    @property
    def difference(self) -> float | None:
        """Ours minus the published metric; None if one of them is missing."""
        return None if self.published is None or self.ours is None else self.ours - self.published


@dataclass(frozen=True)
class PublishedComparison:
    """A published table with ours, and the heading above it."""

    heading: tuple[tuple[str, str], ...]  # term and text
    table: Table
    pairs: tuple[Pair, ...]  # the same metrics in full precision


def compare_with_published(published: PublishedTable, rows: Sequence[Row]) -> list[PublishedComparison]:
    """Return a published table with ours: one table for each split and set of classes, or one for all.

    A trial belongs to the row whose name it has, or has before its seed. A row without such a trial is matched by its
    settings, because a trial of two published tables has one record. Weights and epochs may then differ; the heading
    states what does.

    Training sets with the same split and classes share a table, so that a backbone that needs larger images is in the
    same table as the others; the notes state the training set of each row. If two of them have the same row, each has
    its own table.

    Args:
        published: The table.
        rows: Trials of any training set.
    """
    rows = [row for row in rows if not row.record.external]
    named = [row for row in rows if any(_has_name_of(row, target) for target in published.rows)]
    if published.across_training_sets:
        return [_compare(published, {target.name: _named(target, named) for target in published.rows})]
    matched = named or [
        row for row in rows if any(_has_settings_of(row, published, target) for target in published.rows)
    ]
    tables = [_ours(published, rows, sets) for sets in _sets_of_tables(published, matched)]
    return [_compare(published, ours) for ours in tables or [{target.name: [] for target in published.rows}]]


def _sets_of_tables(published: PublishedTable, matched: Sequence[Row]) -> list[list[SetName]]:
    """Return the training sets of each table."""
    alike: dict[tuple[str, tuple[str, ...]], list[Row]] = defaultdict(list)
    for row in matched:
        alike[row.record.split, row.record.classes].append(row)
    tables = []
    for _, rows in sorted(alike.items()):
        sets = sorted({set_of(row) for row in rows})
        complete = [row for row in rows if row.record.status == "complete"]
        repeated = any(len(by_set(_named(target, complete))) > 1 for target in published.rows)
        tables += [[one] for one in sets] if repeated else [sets]
    return tables


def _ours(published: PublishedTable, rows: Sequence[Row], sets: Sequence[SetName]) -> dict[str, list[Row]]:
    """Return the trials of each published row, by its name, of some training sets."""
    candidates = [row for row in rows if set_of(row) in sets]
    return {
        target.name: _named(target, candidates)
        or [row for row in candidates if _has_settings_of(row, published, target)]
        for target in published.rows
    }


def _named(target: PublishedRow, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if _has_name_of(row, target)]


def _has_name_of(row: Row, target: PublishedRow) -> bool:
    config = row.record.config
    return config.name.removesuffix(f", seed {config.seed}") == target.name


def _has_settings_of(row: Row, published: PublishedTable, target: PublishedRow) -> bool:
    return all(key in REDUCIBLE for key in _deviating(published, target, row))


def _compare(published: PublishedTable, ours: Mapping[str, Sequence[Row]]) -> PublishedComparison:
    names = [name for column in published.columns for name in column.metrics]
    lines: list[tuple[str, ...]] = []
    marks: list[str] = []
    notes: list[str] = []
    pairs: list[Pair] = []
    sizes = {image_of(row.record) for rows in ours.values() for row in rows if row.record.image}
    for target in published.rows:
        rows = ours[target.name]
        cells = [cell for group in by_set(rows).values() for cell in cells_of(group)]
        for name, metrics, mark in _lines(target, rows, cells, len(sizes) > 1):
            lines.append((_first_cell(published, target), name, *_texts(published, target, metrics, mark)))
            marks.append(mark)
        notes += _notes(target, rows)
        pairs += [pair for cell in cells or (None,) for pair in _pairs(target, cell, names)]
    notes += training_set_notes(ours)
    head = (published.columns[0].head, "result", *(column.head for column in published.columns[1:]))
    table = Table(published.title, head, tuple(lines), tuple(marks), tuple(notes))
    return PublishedComparison(tuple(_heading(published, ours)), table, tuple(pairs))


def _lines(
    target: PublishedRow, rows: Sequence[Row], cells: Sequence[Cell], several_sizes: bool
) -> Iterator[tuple[str, dict[str, float], str]]:
    """Yield name, metrics and mark of each line: published, each cell of ours and its difference, or why none."""
    yield "published", target.metrics, "published"
    for cell in cells:
        pairs = _pairs(target, cell, _names(cell))
        ours = {pair.metric: pair.ours for pair in pairs if pair.ours is not None}
        yield _label(cell, cells, several_sizes), ours, "complete"
        gaps = {pair.metric: pair.difference for pair in pairs if pair.difference is not None}
        yield "difference", gaps, "difference"
    if not cells:
        yield f"ours: {rows[0].record.status if rows else 'no record'}", {}, "failed"


def _label(cell: Cell, cells: Sequence[Cell], several_sizes: bool) -> str:
    record = cell.rows[0].record
    label = "ours" if len(cells) == 1 else f"ours, {record.digest[:8]}"
    label += f", {image_of(record)}" if several_sizes else ""
    return label if len(cell.rows) == 1 else f"{label}, mean of {len(cell.rows)} seeds"


def _pairs(target: PublishedRow, cell: Cell | None, names: Iterable[str]) -> list[Pair]:
    """Return published metrics and ours, without those that neither has."""
    seeds, training_set = (len(cell.rows), cell.rows[0].record.training_set) if cell else (0, "")
    pairs = [
        Pair(target.name, name, target.metrics.get(name), _mean(cell, name) if cell else None, seeds, training_set)
        for name in names
    ]
    return [pair for pair in pairs if pair.published is not None or pair.ours is not None]


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
        baselines = [row.record.baseline.get("val", {}) for row in cell.rows]
        values = [baseline[metric] for baseline in baselines if metric in baseline]
    else:
        values = cell.values(split, metric)
    return fmean(values) if values else None


def _first_cell(published: PublishedTable, target: PublishedRow) -> str:
    key = published.columns[0].setting
    return target.name if key == "name" else str(target.settings[key])


def _texts(published: PublishedTable, target: PublishedRow, metrics: dict[str, float], mark: str) -> list[str]:
    """Return a line's cells; settings are in the published line only, and differences have a sign."""
    cells = []
    for column in published.columns[1:]:
        if column.setting:
            cells.append(_setting(target.settings[column.setting]) if mark == "published" else "")
            continue
        texts = [_text(column, metrics.get(name), mark == "difference") for name in column.metrics]
        cells.append(" / ".join(texts) if any(text != MISSING for text in texts) else MISSING)
    return cells


def _text(column: Column, value: float | None, signed: bool) -> str:
    if value is None:
        return MISSING
    if column.unit == "hours":
        sign = "" if not signed else "-" if round(value) < 0 else "+"
        return sign + hours(abs(value))
    in_unit, digits = (1000 * value, 0) if column.unit == "milliseconds" else (value, 4)
    return number(in_unit, digits, signed=signed)


def _setting(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _heading(published: PublishedTable, ours: Mapping[str, Sequence[Row]]) -> Iterator[tuple[str, str]]:
    yield "Source", published.source
    for sentence in published.limitations:
        yield "Limitation", sentence
    ran = [(target, row) for target in published.rows for row in ours[target.name] if row.record.status != "failed"]
    records = [row.record for _, row in ran]
    if not records:
        yield "Ours", "no trial of this table ran"
        return
    yield "Split", join_with_counts([(split_name(record),) for record in records])
    counts = [", ".join(f"{split} {images:,}" for split, images in record.rows.items()) for record in records]
    sizes = [f", each {size}" if (size := image_of(record)) else "" for record in records]
    yield "Images", join_with_counts([(count + size,) for count, size in zip(counts, sizes, strict=True)])
    yield "Reductions", join_with_counts([record.reductions for record in records]) or "none"
    deviations = join_with_counts([_deviations(published, target, row) for target, row in ran])
    yield "Not as published", deviations or "nothing"
    yield "Hardware", join_with_counts([(record.hardware,) for record in records])


def _deviating(published: PublishedTable, target: PublishedRow, row: Row) -> dict[str, tuple[Any, Any]]:
    """Return setting -> published value and ours, of the settings in which a trial is not as published."""
    ours = dict(flattened(row.record.config.deciding()))
    settings = {**published.recipe, **target.settings}
    return {key: (value, ours[key]) for key, value in settings.items() if ours[key] != value}


def _deviations(published: PublishedTable, target: PublishedRow, row: Row) -> tuple[str, ...]:
    return tuple(
        f"{key.rsplit('.', 1)[-1].replace('_', ' ')} {_setting(ours)} instead of {_setting(value)}"
        for key, (value, ours) in _deviating(published, target, row).items()
    )


def _notes(target: PublishedRow, rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        record = row.record
        if not _has_name_of(row, target):
            yield f"{target.name}: ours is {title_of(record)}, which has the same settings"
        if record.status != "complete":
            yield f"{title_of(record)} {record.status}: {record.reason or 'no reason recorded'}"
        elif row.test and row.test.accuracy and row.test.accuracy.ends and "test.accuracy" in target.metrics:
            (low, high), published = row.test.accuracy.ends, target.metrics["test.accuracy"]
            relation = "inside" if low <= published <= high else "outside"
            ours = estimate(row.test.accuracy)
            yield f"{title_of(record)}: the published test accuracy is {relation} the 95 % interval of ours, {ours}"
    if not rows:
        yield f"{target.name}: no record with that name or those settings"
