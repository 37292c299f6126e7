"""Hours, nodes and cost of a conversion, estimated from a sample that is converted and timed on this cluster.

What is trained on its images is planned with it where configured, see `hemo.cluster.convert.plan_training`.
"""

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import ray
from rich.box import SIMPLE_HEAD
from rich.table import Table

from hemo.cluster.convert import plan_training
from hemo.cluster.convert.estimate import (
    Cluster,
    Estimate,
    MeasuredSpeeds,
    Workload,
    duration_text,
    efficiency,
    estimate_conversion,
    node_bounds,
)
from hemo.cluster.convert.plan_training import Step, StepEstimate, all_steps
from hemo.cluster.convert.tasks import Outcome, UnitFailure, convert_batch, convert_units
from hemo.cluster.ray_data import data_context
from hemo.config.convert import PlanConfig
from hemo.console import print_line, print_tables
from hemo.corpus.source_file import SourceFile
from hemo.corpus.sources import list_corpus, media_of
from hemo.errors import ConfigError, HemoError, SourceError
from hemo.imaging.settings import image_settings
from hemo.output_lock import output_lock
from hemo.pseudonym import read_pseudonyms
from hemo.shards.card import write_card, write_derived
from hemo.shards.convert_unit import UnitTask, read_unit
from hemo.shards.manifest import Manifest, Unit, update_manifest
from hemo.shards.schema import ShardFooter
from hemo.storage import filesystem, join, remove, size_text, write_bytes, write_json

SCRATCH = ".plan"
"""Folder below `out` for what the calibration writes."""

ASSUMED = (
    "the files measured, spread over the whole listing, are like the others",
    "every node is like those measured: CPUs of the same kind, storage and network as fast",
    "nodes add up: the storage gives all of them together the MB/s read of the table; where it cannot, give its limit "
    "as --storage_mb_per_s",
    "nodes are up when the job starts; a head node and what the storage charges are not in the cost",
)

HEADINGS = ("nodes", "time", "node time", "cost", "files/s", "MB/s read", "busy", "bound")

RUN_FILES = 8
"""Consecutive files a sample takes together, as a unit does: storage may be faster that way."""

READ_ONLY = 4
"""Every fourth run of a sample is only read. No file is read twice: the second time it would come from the cache."""

UNITS_A_CPU = 4
"""So that writing one unit overlaps with making the next, as in a real run."""

Files = Sequence[SourceFile]


@dataclass(frozen=True)
class Plan:
    """What was measured, and what follows."""

    workload: Workload
    measured: MeasuredSpeeds
    rejects: Counter[str]  # of the sample, by reason
    clusters: tuple[Cluster, ...]
    steps: tuple[Step, ...] = ()  # after the conversion

    @property
    def assumed(self) -> tuple[str, ...]:
        """What the hours rest on without having been measured."""
        return ASSUMED + (plan_training.ASSUMED if self.steps else ())

    @property
    def paths(self) -> list[list[StepEstimate]]:
        """Conversion and further steps on each cluster; none without further steps."""
        pairs = zip(self.estimates, self.clusters, strict=True)
        return [all_steps(first, self.steps, self.measured, cluster) for first, cluster in pairs if self.steps]

    @property
    def estimates(self) -> list[Estimate]:
        """What the workload takes on each cluster."""
        return [estimate_conversion(self.workload, self.measured, cluster) for cluster in self.clusters]

    @property
    def write_bytes(self) -> float:
        """Bytes of all shards together."""
        return self.workload.files * self.measured.written_bytes_per_file


def plan_conversion(config: PlanConfig) -> str:
    """Estimate what a conversion, and training on its images, will take on some clusters, from a short run on each.

    Call it within `connected`. Nothing stays below `out` but `plan.json`, so it may be the folder of the conversion.

    Returns:
        The file `plan.json` in the output folder.

    Raises:
        UserError: As `convert` does for a wrong source, output, window or key; if there is too little to measure; or if
            a config of `train` is wrong.
        HemoError: If files could not be read.
    """
    pseudonyms = read_pseudonyms(config.pseudonym_key)
    settings = image_settings(config, media_of(config.source, config.corpus), pseudonyms)
    trials = plan_training.read_trials(config, settings)
    task = UnitTask(config.source, settings, pseudonyms, config.read_threads)
    started = time.perf_counter()
    files = list_corpus(config.source, config.corpus).files
    units = update_manifest(Manifest((), ()), files, unit_files=config.unit_files, pseudonyms=pseudonyms).units
    list_s = time.perf_counter() - started
    with output_lock(config.out):
        scratch = join(config.out, SCRATCH)
        speeds = plan_training.measure(config, trials, settings) if trials else None
        measured, rejects = calibrate(task, files, config.files_per_cpu, scratch, list_s)
        workload = Workload(len(files), sum(file.size_bytes for file in files), len(units))
        steps: tuple[Step, ...] = ()
        if trials and speeds:
            image_bytes = measured.written_bytes_per_file
            steps = plan_training.steps_of(config, trials, speeds, images=len(files), image_bytes=image_bytes)
        plan = Plan(workload, measured, rejects, clusters_of(config, measured), steps)
        for line in summary(plan):
            print_line(f"plan: {line}")
        print_tables(estimate_table(plan), *([plan_training.path_table(plan.paths)] if steps else []))
        write_json(join(config.out, "plan.json"), as_json(plan))
    return join(config.out, "plan.json")


def clusters_of(config: PlanConfig, measured: MeasuredSpeeds) -> tuple[Cluster, ...]:
    """Return the configured clusters; nodes are as those measured unless configured otherwise."""
    as_here = measured.cpus // measured.nodes
    limit, price = config.storage_mb_per_s, config.price_per_node_hour
    return tuple(
        Cluster(
            nodes=nodes,
            cpus_per_node=as_here if config.cpus_per_node == "as_here" else config.cpus_per_node,
            price_per_node_hour=None if price == "unknown" else price,
            storage_bytes_per_s=math.inf if limit == "unlimited" else limit * 1e6,
        )
        for nodes in config.nodes
    )


def summary(plan: Plan) -> list[str]:
    """Return the plan but for the table, a line each: the work, the rates measured, rejects, and what is assumed."""
    work, here = plan.workload, plan.measured
    rates = node_bounds(work, here, here.cpus // here.nodes)
    rejects = ", ".join(f"{reason} {count}" for reason, count in plan.rejects.most_common())
    return [
        f"{work.files:,} files in {work.units:,} units, {size_text(work.size_bytes)} to read, "
        f"about {size_text(round(plan.write_bytes))} to write",
        f"a node of {here.cpus // here.nodes} CPUs, {here.nodes} measured: "
        + ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
        + f" files/s each alone, {here.files_per_s / here.nodes:,.0f} all three together",
        f"rejects in the sample: {rejects or 'none'}",
        *plan_training.step_lines(plan.steps),
        *(f"assumed: {line}" for line in plan.assumed),
    ]


def estimate_table(plan: Plan) -> Table:
    """Return time and cost by number of nodes, for a terminal of 80 columns."""
    title = f"nodes of {plan.clusters[0].cpus_per_node} CPUs; cost (your currency)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "bound" else "right", no_wrap=True)
    read_mb = plan.workload.size_bytes / plan.workload.files / 1e6
    for row in plan.estimates:
        table.add_row(
            f"{row.nodes}",
            duration_text(row.hours),
            duration_text(row.node_hours),
            "unknown" if row.cost is None else f"{row.cost:,.2f}",
            f"{row.files_per_s:,.0f}",
            f"{row.files_per_s * read_mb:,.0f}",
            f"{row.busy:.0%}",
            row.bound,
        )
    return table


def as_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as `plan.json` has it; no name of the corpus is in it."""
    return {
        "workload": {**asdict(plan.workload), "write_bytes": round(plan.write_bytes)},
        "calibration": {**asdict(plan.measured), "efficiency": efficiency(plan.workload, plan.measured)},
        "rejects": dict(plan.rejects),
        "estimates": [
            {"cpus_per_node": cluster.cpus_per_node, **asdict(row)}
            for cluster, row in zip(plan.clusters, plan.estimates, strict=True)
        ],
        **plan_training.as_json(plan.steps, plan.paths),
        "assumed": list(plan.assumed),
    }


@dataclass(frozen=True)
class Sample:
    """Files spread over a corpus, divided among CPUs."""

    first: list[Unit]  # of one file each: what starts the workers
    read: list[Files]  # one list per CPU
    converted: list[list[Unit]]  # one list per CPU


@dataclass(frozen=True)
class CpuWork:
    """Work of one CPU and the time it took, while all other CPUs did the same."""

    files: int
    size_bytes: int
    wall_s: float
    cpu_s: float = 0.0
    footers: tuple[ShardFooter, ...] = ()


def calibrate(
    task: UnitTask, files: Files, files_per_cpu: int, scratch: str, list_s: float
) -> tuple[MeasuredSpeeds, Counter[str]]:
    """Measure a conversion on the cluster as it is now, one phase after the other: each is alone on the cluster.

    Args:
        task: What all units have in common.
        files: The whole corpus.
        files_per_cpu: How many of them to measure for each CPU.
        scratch: Folder on the storage that is to be written; removed in the end.
        list_s: Seconds it took to list the corpus and cut it into units.

    Returns:
        What was measured, and the sample's rejects by reason.

    Raises:
        ConfigError: If the cluster has no CPU yet.
        SourceError: If the corpus has too few files to measure, or empty ones.
        HemoError: If files could not be read.
    """
    cpus_of_nodes = [cpus for node in ray.nodes() if node["Alive"] and (cpus := int(node["Resources"].get("CPU", 0)))]  # type: ignore[no-untyped-call]
    if not cpus_of_nodes:
        raise ConfigError(
            "cluster: it has no CPU yet, so nothing can be measured; start a node of the kind to plan for"
        )
    sample = take_sample(files, cpus=sum(cpus_of_nodes), files_per_cpu=files_per_cpu)
    remove(scratch)
    try:
        with data_context("plan"):
            started = time.perf_counter()
            _footers(convert_units(task, sample.first, join(scratch, "first")))
            start_s = time.perf_counter() - started
            read = _on_every_cpu(_read, sample.read, task=task)
            converted = _on_every_cpu(_convert, sample.converted, task=task, out=scratch)
            fs, shards = filesystem(join(scratch, "shards"))
            size_bytes = int(fs.du(shards)) // len(converted)
            written = _on_every_cpu(_write, range(len(converted)), size_bytes=size_bytes, out=scratch)
            units = sorted(chain.from_iterable(sample.converted), key=lambda unit: unit.number)
            footers = sorted(chain.from_iterable(work.footers for work in converted), key=lambda footer: footer.unit)
            index_s_per_file = _index_s_per_file(scratch, units, footers)
    finally:
        remove(scratch)
    if not any(work.size_bytes for work in read):
        raise SourceError("source: the files read for a sample have no bytes at all; is it the right folder?")
    count = sum(work.files for work in converted)
    measured = MeasuredSpeeds(
        nodes=len(cpus_of_nodes),
        cpus=sum(cpus_of_nodes),
        read_bytes_per_s=sum(work.size_bytes / work.wall_s for work in read),
        cpu_s_per_file=sum(work.cpu_s for work in converted) / count,
        write_bytes_per_s=sum(work.size_bytes / work.wall_s for work in written),
        files_per_s=sum(work.files / work.wall_s for work in converted),
        written_bytes_per_file=sum(work.size_bytes for work in written) / count,
        list_s=list_s,
        start_s=start_s,
        index_s_per_file=index_s_per_file,
    )
    return measured, Counter(reject.reason for footer in footers for reject in footer.rejects)


def take_sample(files: Files, *, cpus: int, files_per_cpu: int) -> Sample:
    """Take about `cpus` x `files_per_cpu` files in short runs spread evenly over a corpus, and divide them among CPUs.

    Raises:
        SourceError: If there are fewer than two files: one to read, one to convert.
    """
    if len(files) < 2:
        raise SourceError("source: holds one file, too few to measure anything; `hemo convert` it")
    length = max(1, min(RUN_FILES, len(files) // (READ_ONLY * UNITS_A_CPU * cpus)))
    starts = range(0, len(files), length)
    count = max(2, min(len(starts), -(-cpus * files_per_cpu // length)))
    runs = [
        files[start : start + length] for start in (starts[number * len(starts) // count] for number in range(count))
    ]

    def joined(some: Sequence[Files]) -> tuple[SourceFile, ...]:
        return tuple(chain.from_iterable(some))

    read = [joined(runs[::READ_ONLY][cpu::cpus]) for cpu in range(cpus)]
    rest = [run for number, run in enumerate(runs) if number % READ_ONLY]
    lanes = min(cpus * UNITS_A_CPU, len(rest))
    units = [Unit(number, joined(rest[number :: cpus * UNITS_A_CPU])) for number in range(lanes)]
    first = [Unit(number, unit.files[:1]) for number, unit in enumerate(units[:cpus])]
    return Sample(first, [part for part in read if part], [units[cpu::cpus] for cpu in range(min(cpus, len(units)))])


def _index_s_per_file(scratch: str, units: Sequence[Unit], footers: Sequence[ShardFooter]) -> float:
    """Return what one more file costs at the end: all units against half of them, without what an index costs once."""
    seconds = []
    for count in (len(units), len(units) // 2, len(units)):  # the first only warms up
        started = time.perf_counter()
        if count:
            write_card(scratch, write_derived(scratch, units[:count], footers[:count], ignored=0))
        seconds.append(time.perf_counter() - started)
    more = sum(footer.files for footer in footers[len(units) // 2 :])
    return max(0.0, seconds[2] - seconds[1]) / more


def _on_every_cpu(work: Callable[..., CpuWork], parts: Iterable[Any], **shared: Any) -> list[CpuWork]:
    """Call `work` with each part in a task of its own, all at the same time, one per CPU."""
    remote = ray.remote(num_cpus=1)(work)
    done: list[CpuWork] = ray.get([remote.remote(part, **shared) for part in parts])
    return done


def _read(files: Files, *, task: UnitTask) -> CpuWork:
    """Read files as a unit does, and do nothing with them; sizes are those of the listing."""
    started = time.perf_counter()
    for _ in read_unit(task, Unit(0, tuple(files))):
        pass
    return CpuWork(len(files), sum(file.size_bytes for file in files), time.perf_counter() - started)


def _convert(units: Sequence[Unit], *, task: UnitTask, out: str) -> CpuWork:
    """Convert units as the job does."""
    started, cpu_started = time.perf_counter(), time.process_time()
    footers = _footers(convert_batch(units, task=task, out=out))
    files = [file for unit in units for file in unit.files]
    return CpuWork(
        files=len(files),
        size_bytes=sum(file.size_bytes for file in files),
        wall_s=time.perf_counter() - started,
        cpu_s=time.process_time() - cpu_started,
        footers=footers,
    )


def _write(cpu: int, *, size_bytes: int, out: str) -> CpuWork:
    """Write as many bytes as a CPU's shards had, in as many files."""
    data = os.urandom(size_bytes // UNITS_A_CPU + 1)
    started = time.perf_counter()
    for number in range(UNITS_A_CPU):
        write_bytes(join(out, f"written-{cpu}-{number}"), data)
    return CpuWork(UNITS_A_CPU, UNITS_A_CPU * len(data), time.perf_counter() - started)


def _footers(outcomes: Iterable[Outcome]) -> tuple[ShardFooter, ...]:
    """Return the footers of units, all of which must have been made."""
    made = []
    for outcome in outcomes:
        if isinstance(outcome, UnitFailure):
            raise HemoError(f"plan stopped: a file of the sample cannot be read ({outcome.reason}); repair the source")
        made.append(outcome)
    return tuple(made)
