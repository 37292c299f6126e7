"""Hours and cost of a conversion on any number of nodes, by arithmetic from a short measurement."""

import math
from dataclasses import dataclass

SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class Workload:
    """Files to convert."""

    files: int
    size_bytes: int
    units: int  # what one CPU works on at a time


@dataclass(frozen=True)
class MeasuredSpeeds:
    """Measured on a sample of the files, all nodes together."""

    nodes: int
    cpus: int
    read_bytes_per_s: float  # reading only, one task per CPU
    cpu_s_per_file: float  # seconds of one CPU, all CPUs at work
    write_bytes_per_s: float  # writing only, one task per CPU
    files_per_s: float  # reading, decoding and writing together
    written_bytes_per_file: float
    list_s: float  # listing the whole corpus and cutting it into units
    start_s: float  # from the first task submitted to the first shard
    index_s_per_file: float


@dataclass(frozen=True)
class Cluster:
    """Nodes for a conversion."""

    nodes: int
    cpus_per_node: int
    price_per_node_hour: float | None = None
    storage_bytes_per_s: float = math.inf  # read by all nodes together


@dataclass(frozen=True)
class Estimate:
    """Time and cost of a conversion on a cluster."""

    nodes: int
    hours: float
    node_hours: float
    cost: float | None  # in the currency of the price; None without one
    files_per_s: float  # while every CPU has a unit
    bound: str  # `read`, `decode`, `write` or `shared storage`: what is to be made faster
    busy: float  # 0 to 1: fraction of `hours` that would suffice if all CPUs had work all the time


def node_bounds(workload: Workload, speeds: MeasuredSpeeds, cpus_per_node: int) -> dict[str, float]:
    """Return the files per second of one node if only reading, only decoding, or only writing took time.

    Decoding (with windows, resize and encoding) grows with the CPUs; a node's storage and network stay as measured.
    """
    read_a_file = workload.size_bytes / workload.files
    return {
        "read": speeds.read_bytes_per_s / speeds.nodes / read_a_file,
        "decode": cpus_per_node / speeds.cpu_s_per_file,
        "write": speeds.write_bytes_per_s / speeds.nodes / speeds.written_bytes_per_file,
    }


def efficiency(workload: Workload, speeds: MeasuredSpeeds) -> float:
    """Return the measured rate of the whole path over its narrowest bound; 1: the phases do not slow each other."""
    bounds = node_bounds(workload, speeds, speeds.cpus // speeds.nodes)
    return speeds.files_per_s / (speeds.nodes * min(bounds.values()))


def estimate_conversion(workload: Workload, speeds: MeasuredSpeeds, cluster: Cluster) -> Estimate:
    """Estimate a workload on a cluster.

    Full rounds, in which each CPU has a unit, run at the cluster's rate. In the last one, when fewer units than CPUs
    are left, a unit takes at least what one CPU needs for it. Listing, start and index are done once.
    """
    bounds = node_bounds(workload, speeds, cluster.cpus_per_node)
    bound = min(bounds, key=lambda name: bounds[name])
    rate = cluster.nodes * bounds[bound] * efficiency(workload, speeds)
    storage = cluster.storage_bytes_per_s * workload.files / workload.size_bytes
    if storage < rate:
        rate, bound = storage, "shared storage"
    cpus, unit_files = cluster.nodes * cluster.cpus_per_node, workload.files / workload.units
    rounds, rest = divmod(workload.units, cpus)
    last_s = max(unit_files * speeds.cpu_s_per_file, rest * unit_files / rate) if rest else 0.0
    once_s = speeds.list_s + speeds.start_s + workload.files * speeds.index_s_per_file
    seconds = once_s + rounds * cpus * unit_files / rate + last_s
    node_hours = cluster.nodes * seconds / SECONDS_AN_HOUR
    price = cluster.price_per_node_hour
    return Estimate(
        nodes=cluster.nodes,
        hours=seconds / SECONDS_AN_HOUR,
        node_hours=node_hours,
        cost=None if price is None else price * node_hours,
        files_per_s=rate,
        bound=bound,
        busy=workload.files / rate / seconds,
    )


def duration_text(hours: float) -> str:
    """Return a time as `15.1 s`, `3 min 20 s`, `42 min`, `5 h 07 min` or `1,234.5 h`."""
    seconds = round(hours * 3600, 1)
    minutes = round(hours * 60)
    if seconds < 60:
        return f"{seconds:.1f} s"
    if round(seconds) < 600:
        return f"{round(seconds) // 60} min {round(seconds) % 60:02} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes < 600 else f"{hours:,.1f} h"
