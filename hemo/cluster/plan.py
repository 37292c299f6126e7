"""What a conversion will take: list the corpus, measure a sample, reckon."""

import math
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from hemo.cluster.calibrate import calibrate
from hemo.cluster.convert import read_pseudonyms
from hemo.cluster.progress import say
from hemo.config.convert import PlanConfig
from hemo.corpus.sources import list_corpus, media_of
from hemo.imaging.settings import image_settings
from hemo.shards.convert_unit import UnitTask
from hemo.shards.estimate import Calibration, Cluster, Estimate, Workload, efficiency, estimate, node_bounds
from hemo.shards.manifest import Manifest, update_manifest
from hemo.storage import join, require_writable, size_text, write_json

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
    require_writable(config.out)
    scratch = join(config.out, SCRATCH)
    calibration, rejects = calibrate(task, files, files_per_cpu=config.files_per_cpu, scratch=scratch, list_s=list_s)
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
