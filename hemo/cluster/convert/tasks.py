"""Convert units in Ray Data tasks, several to a task, and yield the footer or the failure of each unit."""

import pickle
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray

from hemo.cluster.ray_data import LOST_WORKERS, data_context, limit_growth, set_up_decoding, stopped
from hemo.errors import HemoError, SourceChangedError
from hemo.shards.convert_unit import UnitTask, build_shard
from hemo.shards.manifest import Unit
from hemo.shards.schema import ShardFooter
from hemo.storage import join, write_bytes

UNITS_A_TASK = 8
"""Units of a task at most. Ray Data notices the end of a task a tenth of a second late: little, beside a long one."""

TASKS_A_CPU = 2
"""Tasks left for every CPU when the next is cut, so that all end at about the same time."""

TASK_S = 30.0
"""Seconds after which a task begins no further unit: on a slow node it would hold up all the others.

Eight usual units take a third of that; where one takes as long, the time between two tasks is nothing beside it.
"""

GROWN_CPUS = 64
"""CPUs for which units are divided where a cluster may grow: Ray does not report by how much.

On fewer of them the tasks are smaller than they could be, which costs 8 % at most (docs/decisions/0004).
"""

NOT_RETRIED = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, SourceChangedError)
"""Errors that are not retried; after other errors of the storage the whole task is retried."""


@dataclass(frozen=True)
class UnitFailure:
    """A unit with a file that could not be read, and why. It has no shard."""

    unit: int
    reason: str


Outcome = ShardFooter | UnitFailure


@dataclass(frozen=True)
class UnitsLeft:
    """Units that a task did not begin within its time."""

    units: tuple[Unit, ...]


def convert_units(task: UnitTask, units: Sequence[Unit], out: str) -> Iterator[Outcome]:
    """Convert units on the cluster and yield the footer of each whose shard is committed, as the tasks end.

    Args:
        task: What the units have in common.
        units: Those to do.
        out: Output folder of the conversion.

    Raises:
        HemoError: If the storage or the workers failed more often than they are retried.
    """
    if not units:
        return
    left: list[Unit] = []
    batches = task_batches(units, cpus=cpus_to_fill(ray.nodes()))  # type: ignore[no-untyped-call]
    for outcome in _run_tasks(task, batches, out):
        if isinstance(outcome, UnitsLeft):
            left += outcome.units
        else:
            yield outcome
    if left:
        yield from _run_tasks(task, [[unit] for unit in left], out)  # a single unit is begun whatever it takes


def _run_tasks(task: UnitTask, batches: Sequence[Sequence[Unit]], out: str) -> Iterator[Any]:
    """Run a task for each batch of units, and yield outcomes and `UnitsLeft` of those that have ended."""
    with data_context("convert") as context:
        limit_growth(context, tasks=len(batches))
        rows = [{"units": pickle.dumps(batch)} for batch in batches]
        work = partial(_convert_row, task=task, out=out, lost_workers=LOST_WORKERS, task_s=TASK_S)
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).flat_map(work, num_cpus=1)
        for row in dataset.iter_rows():
            yield pickle.loads(row["outcome"])


def cpus_to_fill(nodes: Sequence[Mapping[str, Any]]) -> int:
    """Return for how many CPUs units are divided: what the cluster has, or `GROWN_CPUS` where it may grow.

    Args:
        nodes: Of the cluster, as `ray.nodes` returns them. A single one with CPUs is taken for a machine of its own.
    """
    present = [int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]]
    alone = len(present) == 1 and present[0] > 0
    return present[0] if alone else max(sum(present), GROWN_CPUS)


def task_batches(units: Sequence[Unit], *, cpus: int) -> list[Sequence[Unit]]:
    """Divide consecutive units among tasks: large batches first, single units at the end, so that no CPU idles there.

    The very first is of one unit: a cluster grows once Ray Data has seen how long a task takes.

    Args:
        units: Those to do.
        cpus: See `cpus_to_fill`.
    """
    batches, start = [units[:1]], 1
    while start < len(units):
        size = (len(units) - start) // (TASKS_A_CPU * max(1, cpus))
        size = min(UNITS_A_TASK, max(1, size))
        batches.append(units[start : start + size])
        start += size
    return batches


def _convert_row(
    row: dict[str, Any], *, task: UnitTask, out: str, lost_workers: int, task_s: float
) -> Iterator[dict[str, bytes]]:
    units: Sequence[Unit] = pickle.loads(row["units"])
    if (lost := _lost_workers()) > lost_workers:
        raise HemoError(
            stopped(
                "convert",
                f"the worker of units {units[0].number} to {units[-1].number} died {lost} times, out of memory or in a "
                "decoder; lower cluster.cpus (on a cluster num-cpus of its nodes) or take nodes with more memory, and "
                "look at Ray's logs",
            )
        )
    waiting = deque(units)
    for outcome in convert_batch(taken_in_time(waiting, task_s), task=task, out=out):
        yield {"outcome": pickle.dumps(outcome)}
    if waiting:
        yield {"outcome": pickle.dumps(UnitsLeft(tuple(waiting)))}


def taken_in_time(units: deque[Unit], seconds: float) -> Iterator[Unit]:
    """Take units from the front for so many seconds, but at least one; the others are left."""
    began = time.monotonic()
    yield units.popleft()
    while units and time.monotonic() - began < seconds:
        yield units.popleft()


def _lost_workers() -> int:
    """Return how many processes died in this task before: Ray has no public API for it."""
    worker: Any = ray._private.worker.global_worker
    return int(worker.core_worker.get_current_task_attempt_number())


def convert_batch(units: Iterable[Unit], *, task: UnitTask, out: str) -> Iterator[Outcome]:
    """Convert units and commit their shards; runs on a worker. Running twice writes the same bytes.

    A shard is written while the next is made: storage that takes its time costs none.
    """
    set_up_decoding()
    with ThreadPoolExecutor(1) as writer:
        writing: Future[ShardFooter] | None = None
        for unit in units:
            try:
                shard, footer = build_shard(task, unit)
            except NOT_RETRIED as error:
                yield UnitFailure(unit.number, _reason(error, unit, task))
                continue
            except OSError as error:
                raise OSError(error.errno, _reason(error, unit, task)) from None
            if writing is not None:
                yield writing.result()
            writing = writer.submit(_commit, join(out, unit.shard), shard, footer)
            del shard  # else it stays in memory while the next is made
        if writing is not None:
            yield writing.result()


def _commit(location: str, shard: pa.Buffer, footer: ShardFooter) -> ShardFooter:
    try:
        write_bytes(location, memoryview(shard))
    except OSError as error:
        reason = (error.strerror or str(error)).removeprefix(f"{location}: ")  # of a full disk it begins with the file
        raise OSError(error.errno, f"{location}: {reason}") from None
    return footer


def _reason(error: Exception, unit: Unit, task: UnitTask) -> str:
    """Return what went wrong in one line; the file is named only where names are public."""
    public = task.pseudonyms.keeps_ids
    if isinstance(error, OSError):
        file = error.filename if public and error.filename else f"a file of unit {unit.number}"
        text = error.strerror or (str(error) if public else "")
        return f"{file}: {text or type(error).__name__}"
    return str(error) if public else f"a file of unit {unit.number} changed after the corpus was listed"
