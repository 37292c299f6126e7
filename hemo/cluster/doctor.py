"""Examine a cluster before work is submitted: what each node has, and what of that would fail a job later.

An actor on each node returns facts; findings are made of the facts alone, each with its cure.
"""

import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hemo.cluster.capacity import in_words
from hemo.config.report import DoctorConfig
from hemo.console import print_line
from hemo.storage import exists, is_local, join, list_files, read_bytes, remove, size_text, write_bytes
from hemo.trials.record import versions

EXAMINED_PACKAGES = ("pyarrow", "pydicom", "timm")
"""Beside those that a record names."""
DASHBOARD_PORT, CLIENT_PORT = 8265, 10001
"""Of Ray: its dashboard, where jobs are submitted, and Ray Client; both run code for whoever reaches them."""
ANSWER_S = 120.0
"""A node that does not answer in this time runs nothing."""
WARNED_SKEW_S, FATAL_SKEW_S = 5.0, 300.0
"""Differences of clocks: lines of logs are out of order; S3 refuses a request that is minutes off."""
WARNED_DISK_BYTES, FATAL_DISK_BYTES = 20e9, 2e9
"""Free space where Ray keeps its session and spills objects; with less than 5 % of a disk Ray stops."""
WARNED_STORE_BYTES = 500e6
"""An object store that a few blocks of images fill, after which Ray spills to disk."""
PROBE = "written-by-the-driver"
"""File in the folder of an examination."""
GPU_PART = 0.1
"""Of a GPU, for a look at it beside trials that share it."""


@dataclass(frozen=True)
class NodeFacts:
    """What one node is like; sizes in bytes."""

    name: str  # host name and the end of Ray's id
    fault: str = ""  # why it runs nothing; then nothing else is known
    versions: tuple[tuple[str, str], ...] = ()
    clock_ahead_s: float = 0.0  # of the driver's clock
    clock_error_s: float = 0.0  # half the time that the question and the answer took
    gpus: float = 0.0  # as Ray counts them
    gpu_fault: str = ""  # why torch cannot compute on them
    gpus_busy: bool = False  # jobs have all of them, so that torch could not be tried
    store_bytes: float = 0.0
    shm_bytes: float | None = None  # size of /dev/shm; None where there is none
    disk_free_bytes: float = 0.0
    open_ports: tuple[int, ...] = ()  # of the two above, those that listen on all interfaces
    storage_faults: tuple[tuple[str, str], ...] = ()  # location -> what failed


@dataclass(frozen=True)
class Finding:
    """The result of one check, of one node or of all."""

    severity: Literal["fatal", "warning", "ok"]
    check: str
    what: str
    cure: str = ""  # of all but `ok`

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.severity}: {self.check}: {self.what}{f'; {self.cure}' if self.cure else ''}"


def examine_cluster(config: DoctorConfig) -> tuple[tuple[NodeFacts, ...], tuple[Finding, ...]]:
    """Examine the connected cluster.

    Returns:
        The facts of each node, and the findings.
    """
    started = list(_nodes_start(config))
    probes = {location: probe(location) for location in config.storage}
    unwritable = [_storage_finding("the driver", location, why) for location, (_, why) in probes.items() if why]
    usable = tuple((location, name) for location, (name, why) in probes.items() if not why)
    nodes = tuple(_nodes(usable))
    for location, name in usable:
        remove(join(location, name))
    of_nodes = findings(_versions(), nodes, [location for location, _ in usable])
    return nodes, (*started, *unwritable, *of_nodes, token_finding(os.environ.get("RAY_AUTH_MODE", ""), len(nodes)))


def _nodes_start(config: DoctorConfig) -> Iterator[Finding]:
    """Yield whether CPUs and GPUs are there within `wait_s`; where nodes start on demand, this starts some."""
    for kind, amount in (("CPU", config.cpus), ("GPU", config.gpus)):
        if not amount:
            continue
        needed = in_words({kind: amount})
        print_line(f"doctor: waiting for {needed}, {config.wait_s:.0f} s at most")
        began = time.monotonic()
        task = ray.remote(num_cpus=amount if kind == "CPU" else 0, num_gpus=amount if kind == "GPU" else 0)(_nothing)
        pending = task.remote()
        if ray.wait([pending], timeout=config.wait_s)[0]:
            yield Finding("ok", "nodes", f"{needed} on one node after {time.monotonic() - began:.0f} s")
            continue
        ray.cancel(pending)
        present = ray.cluster_resources().get(kind, 0.0)  # type: ignore[no-untyped-call]
        yield Finding(
            "fatal",
            "nodes",
            f"no node had {needed} free within {config.wait_s:.0f} s; the cluster has {present:g} {kind} in all",
            "`ray status` shows what the autoscaler does; a limit of its config or a quota may be reached",
        )


def _nothing() -> None: ...


def probe(location: str) -> tuple[str, str]:
    """Write a file that all nodes must see, in a folder of its own.

    Returns:
        Name of the folder in `location`, and why the file could not be written; empty if it was.
    """
    name = f".hemo-doctor-{secrets.token_hex(8)}"
    if is_local(location) and not exists(location):  # a job would make it, but also where the disk is not mounted
        return name, "no such folder; make it, or give the one above"
    try:
        write_bytes(join(location, name, PROBE), name.encode())
    except OSError as error:
        with suppress(OSError):
            remove(join(location, name))
        return name, _one_line(error)
    return name, ""


def _nodes(probes: tuple[tuple[str, str], ...]) -> Iterator[NodeFacts]:
    """Yield the facts of each node that is alive."""
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    examiners, facts, gpu_faults = {}, {}, {}
    for node in alive:
        on_node: dict[str, Any] = {
            "num_cpus": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        }
        actor: Any = ray.remote(**on_node)(Examiner)
        examiners[node["NodeID"]] = actor.remote()
        facts[node["NodeID"]] = examiners[node["NodeID"]].facts.remote(probes)
        if "GPU" in node["Resources"]:  # apart from the facts: jobs may have all GPUs
            task: Any = ray.remote(**on_node, num_gpus=GPU_PART, max_retries=0)(_gpu_fault)
            gpu_faults[node["NodeID"]] = task.remote()
    gpus_until = time.monotonic() + ANSWER_S
    for node in alive:
        examiner, resources = examiners[node["NodeID"]], node["Resources"]
        name = f"{node['NodeManagerHostname']} ({node['NodeID'][-6:]})"
        try:
            answer = ray.get(facts[node["NodeID"]], timeout=ANSWER_S)
            asked = time.time()
            clock = ray.get(examiner.clock.remote(), timeout=ANSWER_S)
            error_s = (time.time() - asked) / 2
        except ray.exceptions.RayError as error:
            yield NodeFacts(name, fault=fault_of(error))
            continue
        finally:
            ray.kill(examiner)
        yield NodeFacts(
            name,
            **answer,
            **(_gpu_facts(gpu_faults[node["NodeID"]], gpus_until) if node["NodeID"] in gpu_faults else {}),
            clock_ahead_s=clock - asked - error_s,
            clock_error_s=error_s,
            gpus=resources.get("GPU", 0.0),
            store_bytes=resources.get("object_store_memory", 0.0),
        )


def _gpu_facts(fault: "ray.ObjectRef[str]", until: float) -> dict[str, Any]:
    """Return fields of `NodeFacts`, of a task that runs as soon as a part of a GPU is free, by `time.monotonic`."""
    try:
        return {"gpu_fault": ray.get(fault, timeout=max(0.0, until - time.monotonic()))}
    except ray.exceptions.GetTimeoutError:
        ray.cancel(fault, force=True)
        return {"gpus_busy": True}
    except ray.exceptions.RayError as error:
        return {"gpu_fault": fault_of(error)}


def fault_of(error: ray.exceptions.RayError) -> str:
    """Return in one line why a node does not answer: the last line of what was raised there, not of Ray's traceback."""
    if isinstance(error, ray.exceptions.GetTimeoutError):
        return f"no answer within {ANSWER_S:.0f} s"
    if cause := getattr(error, "cause", None):
        return f"{type(cause).__name__}: {cause}".strip().splitlines()[-1]
    if getattr(error, "actor_init_failed", False):
        return str(error).strip().splitlines()[-1]
    return _one_line(error)[:300]


class Examiner:
    """Looks at the node on which it runs."""

    def facts(self, probes: tuple[tuple[str, str], ...]) -> dict[str, Any]:
        """Return fields of `NodeFacts`.

        Args:
            probes: Location and name of a folder in which the driver wrote a file, see `probe`.
        """
        shm = Path("/dev/shm")  # noqa: S108  (where Ray's object store lies)
        faults = tuple((location, storage_fault(location, name)) for location, name in probes)
        return {
            "versions": tuple(_versions().items()),
            "shm_bytes": shutil.disk_usage(shm).total if shm.is_dir() else None,
            "disk_free_bytes": shutil.disk_usage(_session_folder()).free,
            "open_ports": tuple(sorted({DASHBOARD_PORT, CLIENT_PORT} & listening_everywhere(_sockets()))),
            "storage_faults": tuple((location, fault) for location, fault in faults if fault),
        }

    def clock(self) -> float:
        """Return the time on this node, seconds since 1970."""
        return time.time()


def _versions() -> dict[str, str]:
    return versions(*EXAMINED_PACKAGES)


def _session_folder() -> str:
    worker: Any = ray._private.worker.global_worker
    folder: str = worker.node.get_session_dir_path()
    return folder


def _gpu_fault() -> str:
    """Return why torch cannot compute on the GPU of this process; empty if it can."""
    import torch

    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no CUDA device: no driver, or torch was built without CUDA"
    try:
        ones = torch.ones(256, 256, device="cuda")
        wrong = float((ones @ ones).sum()) != 256**3
    except RuntimeError as error:
        return _one_line(error)
    return "a product of matrices is wrong" if wrong else ""


def storage_fault(location: str, name: str) -> str:
    """Return what a node cannot do in a location: see what the driver wrote, list, write and remove.

    Args:
        location: Path or URI.
        name: Of the driver's folder there, see `probe`. What else is in the location is not listed.
    """
    folder = join(location, name)
    try:
        if read_bytes(join(folder, PROBE)).decode() != name:
            return "another file is there than the driver wrote"
        if PROBE not in list_files(folder):
            return "the listing lacks a file that the driver wrote a moment ago"
        of_node = join(folder, secrets.token_hex(8))
        write_bytes(of_node, b"")
        remove(of_node)
    except FileNotFoundError:
        return "what the driver wrote there is not seen: it is another disk"
    except OSError as error:
        return _one_line(error)
    return ""


def _sockets() -> str:
    return "".join(path.read_text() for path in map(Path, ("/proc/net/tcp", "/proc/net/tcp6")) if path.exists())


def listening_everywhere(sockets: str) -> set[int]:
    """Return the ports on which something listens on all interfaces.

    Args:
        sockets: Content of /proc/net/tcp or /proc/net/tcp6: local address and port in hexadecimal digits, state 0A.

    Source:
        proc(5): a socket that listens has state 10.
    """
    ports = set()
    for line in sockets.splitlines():
        words = line.split()
        if len(words) > 3 and words[3] == "0A":
            address, _, port = words[1].partition(":")
            if not address.strip("0"):
                ports.add(int(port, 16))
    return ports


def findings(driver: dict[str, str], nodes: Sequence[NodeFacts], storage: Sequence[str]) -> Iterator[Finding]:
    """Yield what the facts of the nodes mean: each fault with its cure, and each check that all nodes pass.

    Args:
        driver: Package -> version on the driver.
        nodes: Facts of each.
        storage: The locations that were examined.
    """
    answering = [node for node in nodes if not node.fault]
    for node in nodes:
        if node.fault:
            cure = "see the logs of its raylet, or terminate it: the autoscaler starts another"
            yield Finding("fatal", "nodes", f"{node.name} runs nothing: {node.fault}", cure)
    checks = {
        "versions": [found for node in answering for found in _version_findings(driver, node)],
        "storage": [_storage_finding(node.name, *fault) for node in answering for fault in node.storage_faults],
        "GPUs": [found for node in answering for found in _gpu_findings(node)],
        "memory": [found for node in answering for found in _memory_findings(node)],
        "disk": [found for node in answering for found in _disk_findings(node)],
        "clocks": [found for node in answering for found in _clock_findings(node)],
        "ports": [found for node in answering for found in _port_findings(node)],
    }
    for check, found in checks.items():
        yield from found
        if answering and not found:
            yield Finding("ok", check, _all_well(check, driver, answering, storage))


def _all_well(check: str, driver: dict[str, str], nodes: Sequence[NodeFacts], storage: Sequence[str]) -> str:
    """Return in words what a check without a fault has seen."""
    smallest_store = min((node.store_bytes for node in nodes), default=0.0)
    smallest_disk = min((node.disk_free_bytes for node in nodes), default=0.0)
    skew = max((abs(node.clock_ahead_s) for node in nodes), default=0.0)
    gpus = sum(node.gpus for node in nodes)
    return {
        "versions": f"Ray {driver['ray']}, torch {driver['torch']} and others, the same on the driver and all nodes",
        "storage": f"{', '.join(storage)}: each node reads, lists, writes and removes"
        if storage
        else "not examined; give --storage with the folders that jobs read and write",
        "GPUs": f"torch computes on a GPU of each node that has some, {gpus:g} in all" if gpus else "none",
        "memory": f"the smallest object store has {size_text(int(smallest_store))}",
        "disk": f"{size_text(int(smallest_disk))} free at least, where Ray spills objects",
        "clocks": f"{skew:.2f} s apart at most",
        "ports": "dashboard and Ray Client do not listen on all interfaces",
    }[check]


def _version_findings(driver: dict[str, str], node: NodeFacts) -> Iterator[Finding]:
    of_node = dict(node.versions)
    others = [(name, version) for name, version in driver.items() if version != of_node.get(name)]
    if others:
        differing = ", ".join(f"{name} {of_node.get(name)} and not {version}" for name, version in others)
        yield Finding(
            "fatal",
            "versions",
            f"{node.name} differs from the driver: {differing}",
            "install both with `pip install -c constraints.txt`, or use one image for all nodes",
        )


def _storage_finding(node: str, location: str, fault: str) -> Finding:
    cure = "give a location that all nodes can read and write, such as s3://bucket/folder"
    if not is_local(location):
        cure = "give the nodes a role or credentials that may read, write, list and remove there"
    return Finding("fatal", "storage", f"{node} cannot use {location}: {fault}", cure)


def _gpu_findings(node: NodeFacts) -> Iterator[Finding]:
    if node.gpu_fault:
        cure = "install the driver and the CUDA build of torch there, or start the node with --num-gpus=0"
        yield Finding("fatal", "GPUs", f"{node.name}: Ray counts {node.gpus:g}, but {node.gpu_fault}", cure)
    if node.gpus_busy:
        what = f"{node.name}: all {node.gpus:g} are in use, so none was examined"
        yield Finding("warning", "GPUs", what, "run `hemo doctor` again when they are free")


def _memory_findings(node: NodeFacts) -> Iterator[Finding]:
    if node.shm_bytes is not None and node.shm_bytes < node.store_bytes:
        sizes = size_text(int(node.shm_bytes)), size_text(int(node.store_bytes))
        what = f"{node.name}: /dev/shm has {sizes[0]}, the object store {sizes[1]}"
        yield Finding("warning", "memory", what, "start the container with --shm-size of a third of its memory")
    if node.store_bytes < WARNED_STORE_BYTES:
        what = f"{node.name}: the object store has {size_text(int(node.store_bytes))}"
        cure = f"start the node with --object-store-memory of {size_text(int(WARNED_STORE_BYTES))} or more"
        yield Finding("warning", "memory", what, cure)


def _disk_findings(node: NodeFacts) -> Iterator[Finding]:
    if node.disk_free_bytes < WARNED_DISK_BYTES:
        yield Finding(
            "fatal" if node.disk_free_bytes < FATAL_DISK_BYTES else "warning",
            "disk",
            f"{node.name}: {size_text(int(node.disk_free_bytes))} free where Ray keeps its session and spills objects",
            "give the node a larger disk, or start it with --temp-dir on one",
        )


def _clock_findings(node: NodeFacts) -> Iterator[Finding]:
    ahead = abs(node.clock_ahead_s) - node.clock_error_s
    if ahead > WARNED_SKEW_S:
        what = f"{node.name}: its clock differs from the driver's by {node.clock_ahead_s:+.0f} s"
        yield Finding("fatal" if ahead > FATAL_SKEW_S else "warning", "clocks", what, "run chrony or ntpd on all nodes")


def _port_findings(node: NodeFacts) -> Iterator[Finding]:
    for port, name, flag in (
        (DASHBOARD_PORT, "the dashboard", "--dashboard-host=127.0.0.1"),
        (CLIENT_PORT, "Ray Client", "--ray-client-server-port unset"),
    ):
        if port in node.open_ports:
            what = f"{node.name}: {name} listens on all interfaces, port {port}"
            yield Finding("warning", "ports", what, f"start the head with {flag}, and keep the port behind a firewall")


def token_finding(mode: str, nodes: int) -> Finding:
    """Return whether Ray asks for a token.

    Args:
        mode: RAY_AUTH_MODE of this process; a cluster of another mode refuses it.
        nodes: How many the cluster has; one is a machine of the user's, on which Ray's default is a token.
    """
    if mode == "token":
        return Finding("ok", "token", "RAY_AUTH_MODE=token: without the token nobody starts a job")
    return Finding(
        "fatal" if nodes > 1 else "warning",
        "token",
        "RAY_AUTH_MODE is not `token`: whoever reaches a port of Ray runs code on the cluster",
        "set RAY_AUTH_MODE=token where the nodes are started and where jobs are submitted (SECURITY.md)",
    )


def _one_line(error: Exception) -> str:
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
