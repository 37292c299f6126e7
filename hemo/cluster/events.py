"""What happens to a cluster while a job runs, as lines on standard error: nodes that come and go, workers that die.

Ray itself prints such things on standard output, in colours and with pieces of its log files.
"""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.exceptions import RayError

from hemo.console import print_line
from hemo.errors import first_names

LOOK_EVERY_S = 5.0
"""Between two looks at the nodes."""

Nodes = Mapping[str, tuple[str, float, float]]
"""Nodes that can run tasks: id -> address, CPUs, GPUs."""

MESSAGES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"infeasible resource requests"), ""),  # the nodes tell that, and when it is over
    (re.compile(r"has been marked dead|^Raylet is terminated"), ""),  # so do they
    (re.compile(r"^Task .* failed\. There are"), ""),  # it runs again; why it failed is another message
    (
        re.compile(r"(?P<count>\d+) (?:Workers \(tasks / actors\) killed due to memory|worker\(s\) were killed)"),
        "{count} workers of a node were killed, as it ran out of memory; their work is done again. Use fewer CPUs a "
        "node, or nodes with more memory",
    ),
    (
        re.compile(r"worker died or was killed.*?IP address: (?P<address>\S+).*?PID: (?P<process>\d+)", re.DOTALL),
        "a worker died on {address} (process {process}), out of memory or in a decoder; its work is done again",
    ),
)
"""Ray's messages to drivers -> the line in their place; empty: none. Of others the first sentence is shown."""

LONGEST_SENTENCE = 200


def in_short(message: str) -> str:
    """Return the line for a message of Ray; empty if there is none."""
    for pattern, line in MESSAGES:
        if match := pattern.search(message):
            return line.format(**match.groupdict())
    sentence = re.split(r"\.\s|\n", message.strip(), maxsplit=1)[0]
    return f"Ray reports: {sentence[:LONGEST_SENTENCE]}"


def report_in_short() -> None:
    """Print Ray's messages to this driver in short. Ray has no public way to; it looks this function up each time."""

    def print_messages(data: dict[str, Any], *_: object, **__: object) -> None:
        for message in data.get("lines", ()):
            if line := in_short(message):
                print_line(f"cluster: {line}")

    ray._private.worker.print_worker_logs = print_messages


@contextmanager
def reported_nodes() -> Iterator[None]:
    """Print which nodes of the cluster come and go, until left; at first only if there is none to run tasks."""
    ended = threading.Event()
    reporter = threading.Thread(target=_report, args=(ended,), daemon=True)
    reporter.start()
    try:
        yield
    finally:
        ended.set()
        reporter.join(LOOK_EVERY_S)  # Ray may not answer any more


def _report(ended: threading.Event) -> None:
    before: Nodes | None = None
    while True:
        with suppress(RayError, RuntimeError):  # it cannot be reached now; the job's own calls decide what follows
            now = working_nodes()
            if line := node_line(before, now):
                print_line(f"cluster: {line}")
            before = now
        if ended.wait(LOOK_EVERY_S):
            return


def working_nodes() -> Nodes:
    """Return the nodes that can run tasks now."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]  # type: ignore[no-untyped-call]
    return {
        node["NodeID"]: (node["NodeManagerAddress"], node["Resources"]["CPU"], node["Resources"].get("GPU", 0.0))
        for node in nodes
    }


def node_line(before: Nodes | None, now: Nodes) -> str:
    """Return which nodes came and went, and what there is now; empty if there is nothing to tell.

    Args:
        before: At the last look; None if this is the first.
        now: At this one.
    """
    if before is None:
        return "" if now else "no node has CPUs yet; nodes that start on demand take some minutes"
    changes = [
        f"{first_names([_described(node) for node in nodes])} {verb}"
        for verb, nodes in (
            ("joined", [now[name] for name in now if name not in before]),
            ("left", [before[name] for name in before if name not in now]),
        )
        if nodes
    ]
    total = _amounts(sum(cpus for _, cpus, _ in now.values()), sum(gpus for _, _, gpus in now.values()))
    present = f"{len(now)} node{'s' if len(now) > 1 else ''} with {total} now" if now else "none is left"
    return "; ".join([*changes, present]) if changes else ""


def _described(node: tuple[str, float, float]) -> str:
    address, cpus, gpus = node
    return f"{address} with {_amounts(cpus, gpus)}"


def _amounts(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPU" + (f", {gpus:g} GPU" if gpus else "")
