"""Which trials belong to which search, as the plans beside the records tell: a trial may be of several."""

from collections.abc import Sequence
from dataclasses import dataclass

from hemo.study.progress import SweepPlan
from hemo.study.rows import Row


@dataclass(frozen=True, eq=False)
class SearchedRows:
    """The trials of one search that stand in one comparison; at least one."""

    rows: tuple[Row, ...]
    chosen: Row | None  # the last one it chose, if that stands here
    plan: SweepPlan | None  # None: the folder of records does not tell


def searches_among(rows: Sequence[Row], plans: Sequence[SweepPlan]) -> tuple[SearchedRows, ...]:
    """Return each search with its trials; those in no plan are one search, if any of them was chosen or stopped.

    Args:
        rows: Trials of one comparison.
        plans: Of all grids and searches of the folder of records.
    """
    found = [_of_plan(plan, rows) for plan in plans if plan.kind == "search"]
    planned = {trial.digest for plan in plans for trial in plan.trials}
    others = [row for row in rows if row.record.digest not in planned]
    if any(row.record.selected_by or row.record.status == "pruned" for row in others):
        found.append(SearchedRows(tuple(others), _last_chosen(others), None))
    return tuple(sorted((each for each in found if each.rows), key=_first_end))


def _of_plan(plan: SweepPlan, rows: Sequence[Row]) -> SearchedRows:
    digests = {trial.digest for trial in plan.trials}
    mine = [row for row in rows if row.record.digest in digests]
    if not plan.chosen:
        return SearchedRows(tuple(mine), _last_chosen(mine), plan)
    chosen = [row for row in mine if row.record.digest == plan.chosen]
    return SearchedRows(tuple(mine), chosen[0] if chosen else None, plan)


def _last_chosen(rows: Sequence[Row]) -> Row | None:
    """Return the trial a search chose, the last one if it went on and chose anew."""
    chosen = [row for row in rows if row.record.selected_by]
    return max(chosen, key=lambda row: (row.record.selected_among, row.record.finished), default=None)


def _first_end(search: SearchedRows) -> tuple[str, str]:
    return min((row.record.finished, row.record.digest) for row in search.rows)
