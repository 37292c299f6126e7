"""What a conversion will take on clusters of several sizes, from a sample that is converted and measured here."""

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
from rich.console import Console
from rich.table import Table

from hemo.cluster.convert.estimate import Calibration, Cluster, Estimate, Workload, efficiency, estimate, node_bounds
from hemo.cluster.convert.job import read_pseudonyms
from hemo.cluster.convert.tasks import Outcome, UnitFailure, convert_batch, convert_units
from hemo.cluster.ray_data import data_context
from hemo.cluster.session import say
from hemo.config.convert import PlanConfig
from hemo.corpus.source_file import SourceFile
from hemo.corpus.sources import list_corpus, media_of
from hemo.errors import ConfigError, HemoError, SourceError
from hemo.imaging.settings import image_settings
from hemo.output_lock import output_lock
from hemo.shards.card import write_derived
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

HEADINGS = ("nodes", "hours", "node-hours", "cost", "files/s", "MB/s read", "busy", "bound")

RUN_FILES = 8
"""Consecutive files a sample takes together, as a unit does: storage may be faster that way."""

READ_ONLY = 4
"""Every fourth run of a sample is read and no more. No file is read twice: the second time, memory would answer."""

UNITS_A_CPU = 4
"""So that writing one unit overlaps with making the next, as in a real run."""

Files = Sequence[SourceFile]


@dataclass(frozen=True)
class Plan:
    """What was measured, and what follows."""

    workload: Workload
    calibration: Calibration
    rejects: Counter[str]  # of the sample, by reason
    clusters: tuple[Cluster, ...]

    @property
    def estimates(self) -> list[Estimate]:
        """What the workload takes on each cluster."""
        return [estimate(self.workload, self.calibration, cluster) for cluster in self.clusters]

    @property
    def write_bytes(self) -> float:
        """Bytes of all shards together."""
        return self.workload.files * self.calibration.written_bytes_per_file


def plan_conversion(config: PlanConfig) -> str:
    """Tell what a conversion will take on some clusters, from a short run on the corpus itself.

    Call it within `connected`. Nothing stays below `out` but `plan.json`, so it may be the folder of the conversion.

    Returns:
        The file `plan.json` in the output folder.

    Raises:
        UserError: As `convert` does for a wrong source, output, window or key; or if too little is there to measure.
        HemoError: If files could not be read.
    """
    pseudonyms = read_pseudonyms(config.pseudonym_key)
    task = UnitTask(
        config.source,
        image_settings(config, media_of(config.source, config.corpus), pseudonyms),
        pseudonyms,
        config.read_threads,
    )
    started = time.perf_counter()
    files = list_corpus(config.source, config.corpus).files
    units = update_manifest(Manifest((), ()), files, unit_files=config.unit_files, pseudonyms=pseudonyms).units
    list_s = time.perf_counter() - started
    scratch = join(config.out, SCRATCH)
    with output_lock(config.out):
        calibration, rejects = calibrate(
            task, files, files_per_cpu=config.files_per_cpu, scratch=scratch, list_s=list_s
        )
    workload = Workload(len(files), sum(file.size_bytes for file in files), len(units))
    plan = Plan(workload, calibration, rejects, clusters_of(config, calibration))
    for line in summary(plan):
        say(f"plan: {line}")
    Console(stderr=True).print(estimate_table(plan))
    place = join(config.out, "plan.json")
    write_json(place, as_json(plan))
    return place


def clusters_of(config: PlanConfig, calibration: Calibration) -> tuple[Cluster, ...]:
    """Return the clusters a config asks about; nodes are as those measured where it does not say."""
    as_here = calibration.cpus // calibration.nodes
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
    """Return what was found, a line each: the work, the rates measured, rejects, and what is assumed."""
    work, here = plan.workload, plan.calibration
    rates = node_bounds(work, here, here.cpus // here.nodes)
    rejects = ", ".join(f"{reason} {count}" for reason, count in plan.rejects.most_common())
    return [
        f"{work.files:,} files in {work.units:,} units, {size_text(work.size_bytes)} to read, "
        f"about {size_text(round(plan.write_bytes))} to write",
        f"a node of {here.cpus // here.nodes} CPUs, {here.nodes} measured: "
        + ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
        + f" files/s each alone, {here.files_per_s / here.nodes:,.0f} all at once",
        f"rejects in the sample: {rejects or 'none'}",
        *(f"assumed: {line}" for line in ASSUMED),
    ]


def estimate_table(plan: Plan) -> Table:
    """Return hours and cost by number of nodes, for a terminal of 80 columns."""
    table = Table(title=f"nodes of {plan.clusters[0].cpus_per_node} CPUs", title_justify="left", box=SIMPLE_HEAD)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "bound" else "right", no_wrap=True)
    read_mb = plan.workload.size_bytes / plan.workload.files / 1e6
    for found in plan.estimates:
        table.add_row(
            f"{found.nodes}",
            f"{found.hours:,.3g}",
            f"{found.node_hours:,.3g}",
            "unknown" if found.cost is None else f"{found.cost:,.2f}",
            f"{found.files_per_s:,.0f}",
            f"{found.files_per_s * read_mb:,.0f}",
            f"{found.busy:.0%}",
            found.bound,
        )
    return table


def as_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as `plan.json` has it; no name of the corpus is in it."""
    return {
        "workload": {**asdict(plan.workload), "write_bytes": round(plan.write_bytes)},
        "calibration": {**asdict(plan.calibration), "efficiency": efficiency(plan.workload, plan.calibration)},
        "rejects": dict(plan.rejects),
        "estimates": [
            {"cpus_per_node": cluster.cpus_per_node, **asdict(found)}
            for cluster, found in zip(plan.clusters, plan.estimates, strict=True)
        ],
        "assumed": list(ASSUMED),
    }


@dataclass(frozen=True)
class Sample:
    """Files spread over a corpus, dealt to CPUs."""

    first: list[Unit]  # of one file each: what starts the workers
    read: list[Files]  # a list a CPU
    converted: list[list[Unit]]  # a list a CPU


@dataclass(frozen=True)
class Share:
    """What one CPU did while the others did the like."""

    files: int
    size_bytes: int
    wall_s: float
    cpu_s: float = 0.0
    footers: tuple[ShardFooter, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What the phases of a calibration took."""

    start_s: float
    read: list[Share]
    converted: list[Share]
    written: list[Share]
    footers: list[ShardFooter]  # of the sample's shards, by unit
    index_s_per_file: float


def calibrate(
    task: UnitTask, files: Files, *, files_per_cpu: int, scratch: str, list_s: float
) -> tuple[Calibration, Counter[str]]:
    """Measure a conversion on the cluster as it is now.

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
    nodes, cpus = _present()
    sample = deal_sample(files, cpus=cpus, files_per_cpu=files_per_cpu)
    remove(scratch)
    try:
        with data_context("plan"):
            measured = _measure(task, sample, scratch)
    finally:
        remove(scratch)
    if not any(share.size_bytes for share in measured.read):
        raise SourceError("source: the files read for a sample have no bytes at all; is it the right folder?")
    count = sum(share.files for share in measured.converted)
    calibration = Calibration(
        nodes=nodes,
        cpus=cpus,
        read_bytes_per_s=sum(share.size_bytes / share.wall_s for share in measured.read),
        cpu_s_per_file=sum(share.cpu_s for share in measured.converted) / count,
        write_bytes_per_s=sum(share.size_bytes / share.wall_s for share in measured.written),
        files_per_s=sum(share.files / share.wall_s for share in measured.converted),
        written_bytes_per_file=sum(share.size_bytes for share in measured.written) / count,
        list_s=list_s,
        start_s=measured.start_s,
        index_s_per_file=measured.index_s_per_file,
    )
    return calibration, Counter(reject.reason for footer in measured.footers for reject in footer.rejects)


def deal_sample(files: Files, *, cpus: int, files_per_cpu: int) -> Sample:
    """Take about `cpus` x `files_per_cpu` files in short runs spread evenly over a corpus, and deal them to CPUs.

    Raises:
        SourceError: If there are fewer than two files: one to read, one to convert.
    """
    if len(files) < 2:
        raise SourceError("source: holds one file, too few to measure anything; `hemo convert` it")
    length = max(1, min(RUN_FILES, len(files) // (READ_ONLY * UNITS_A_CPU * cpus)))
    starts = range(0, len(files), length)
    wanted = min(len(starts), -(-cpus * files_per_cpu // length))
    runs = [
        files[start : start + length]
        for start in (starts[number * len(starts) // wanted] for number in range(max(2, wanted)))
    ]
    read = [joined(runs[::READ_ONLY][cpu::cpus]) for cpu in range(cpus)]
    rest = [run for number, run in enumerate(runs) if number % READ_ONLY]
    lanes = cpus * UNITS_A_CPU
    units = [Unit(number, joined(rest[number::lanes])) for number in range(min(lanes, len(rest)))]
    first = [Unit(number, unit.files[:1]) for number, unit in enumerate(units[:cpus])]
    return Sample(first, [share for share in read if share], [units[cpu::cpus] for cpu in range(min(cpus, len(units)))])


def joined(runs: Iterable[Files]) -> tuple[SourceFile, ...]:
    """Return the files of some runs in one row."""
    return tuple(chain.from_iterable(runs))


def _present() -> tuple[int, int]:
    """Return nodes with CPUs, and their CPUs together."""
    cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    nodes = [count for count in cpus if count]
    if not nodes:
        raise ConfigError(
            "cluster: it has no CPU yet, so nothing can be measured; start a node of the kind to plan for"
        )
    return len(nodes), sum(nodes)


def _measure(task: UnitTask, sample: Sample, scratch: str) -> Measured:
    """Go through the phases, one after the other: what is measured is alone on the cluster."""
    started = time.perf_counter()
    _footers(convert_units(task, sample.first, join(scratch, "first")))
    start_s = time.perf_counter() - started
    read = _on_every_cpu(_read, sample.read, task=task)
    converted = _on_every_cpu(_convert, sample.converted, task=task, out=scratch)
    size_bytes = _size_bytes(join(scratch, "shards")) // len(converted)
    written = _on_every_cpu(_write, range(len(converted)), size_bytes=size_bytes, out=scratch)
    units = sorted(chain.from_iterable(sample.converted), key=lambda unit: unit.number)
    footers = sorted(chain.from_iterable(share.footers for share in converted), key=lambda footer: footer.unit)
    return Measured(start_s, read, converted, written, footers, _index_s_per_file(scratch, units, footers))


def _index_s_per_file(scratch: str, units: Sequence[Unit], footers: Sequence[ShardFooter]) -> float:
    """Return what one more file costs at the end: all units against half of them, without what an index costs once."""
    seconds = []
    for count in (len(units), len(units) // 2, len(units)):  # the first only warms up
        started = time.perf_counter()
        if count:
            write_derived(scratch, units[:count], footers[:count], ignored=0)
        seconds.append(time.perf_counter() - started)
    more = sum(footer.files for footer in footers[len(units) // 2 :])
    return max(0.0, seconds[2] - seconds[1]) / more


def _on_every_cpu(work: Callable[..., Share], portions: Iterable[Any], **shared: Any) -> list[Share]:
    """Call `work` with each portion in a task of its own, all at once, one a CPU."""
    remote = ray.remote(num_cpus=1)(work)
    shares: list[Share] = ray.get([remote.remote(portion, **shared) for portion in portions])
    return shares


def _read(files: Files, *, task: UnitTask) -> Share:
    """Read files as a unit does, and do nothing with them; sizes are those of the listing."""
    started = time.perf_counter()
    for _ in read_unit(task, Unit(0, tuple(files))):
        pass
    return Share(len(files), sum(file.size_bytes for file in files), time.perf_counter() - started)


def _convert(units: Sequence[Unit], *, task: UnitTask, out: str) -> Share:
    """Convert units as the job does."""
    started, cpu_started = time.perf_counter(), time.process_time()
    footers = _footers(convert_batch(units, task=task, out=out))
    files = [file for unit in units for file in unit.files]
    return Share(
        files=len(files),
        size_bytes=sum(file.size_bytes for file in files),
        wall_s=time.perf_counter() - started,
        cpu_s=time.process_time() - cpu_started,
        footers=footers,
    )


def _write(cpu: int, *, size_bytes: int, out: str) -> Share:
    """Write as many bytes as a CPU's shards had, in as many files."""
    data = os.urandom(size_bytes // UNITS_A_CPU + 1)
    started = time.perf_counter()
    for number in range(UNITS_A_CPU):
        write_bytes(join(out, f"written-{cpu}-{number}"), data)
    return Share(UNITS_A_CPU, UNITS_A_CPU * len(data), time.perf_counter() - started)


def _footers(outcomes: Iterable[Outcome]) -> tuple[ShardFooter, ...]:
    """Return the footers of units, all of which must have been made."""
    made = []
    for outcome in outcomes:
        if isinstance(outcome, UnitFailure):
            raise HemoError(f"plan stopped: a file of the sample cannot be read ({outcome.reason}); mend the source")
        made.append(outcome)
    return tuple(made)


def _size_bytes(location: str) -> int:
    fs, path = filesystem(location)
    return int(fs.du(path))
