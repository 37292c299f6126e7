"""A Ray cluster of three nodes on one machine, whose nodes and workers can be killed: no other Ray is touched."""

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OBJECT_STORE_BYTES = 100 * 2**20
BUSY_WAIT_S = 10.0


class TwoNodes:
    """A head without CPUs and two nodes of one CPU each; a node that is killed is replaced."""

    def __init__(self, start_head: Callable[[], Any]) -> None:
        """Start the cluster.

        Args:
            start_head: Returns a new `ray.cluster_utils.Cluster` that has its head.
        """
        self._start_head = start_head
        self._start()

    def _start(self) -> None:
        self._cluster = self._start_head()
        self.address: str = self._cluster.address
        self._nodes = [self._new_node(), self._new_node()]

    def raylets(self) -> list[int]:
        """Return the process of each node's raylet."""
        return [_raylet(node) for node in self._nodes]

    def replace_head(self) -> None:
        """Kill the head, and the nodes, which end without it; start a new cluster, at another address."""
        for raylet in [_raylet(self._cluster.head_node), *self.raylets()]:
            for pid in [raylet, *descendants(raylet)]:
                kill(pid)
        self.end()
        self._start()

    def end(self) -> None:
        """End the cluster's processes."""
        self._cluster.shutdown()

    def kill_worker(self, choice: int) -> bool:
        """Kill one of the processes that run a task now; `choice` picks it. False if none does for long."""
        deadline = time.monotonic() + BUSY_WAIT_S
        while time.monotonic() < deadline:
            busy = [pid for node in self._nodes for pid in descendants(_raylet(node)) if _runs_a_task(pid)]
            if busy:
                kill(busy[choice % len(busy)])
                return True
            time.sleep(0.005)
        return False

    def kill_node(self, choice: int) -> None:
        """Kill the raylet of a node and all it started, then add a new node."""
        self.remove_node(choice)
        self.add_node()

    def add_node(self) -> None:
        """Add a node."""
        self._nodes.append(self._new_node())

    def remove_node(self, choice: int) -> None:
        """Kill the raylet of a node and all it started; none comes in its place."""
        node = self._nodes.pop(choice % len(self._nodes))
        raylet = _raylet(node)
        for pid in [raylet, *descendants(raylet)]:
            kill(pid)
        self._cluster.remove_node(node, allow_graceful=False)

    def _new_node(self) -> Any:
        return self._cluster.add_node(wait=False, num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)


def cluster_environment(temp_dir: Path) -> dict[str, str]:
    """Return the environment of a cluster apart from all others, with a token of its own, which it writes.

    Ray reads it when it is imported.
    """
    token = temp_dir / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_TMPDIR": str(temp_dir),  # else the cluster would become what `auto` means on this machine
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # of 15: beside other work they would hardly run
        "RAY_health_check_period_ms": "500",  # of 3,000: a node that is killed is missed sooner
    }


def head_options(temp_dir: Path) -> dict[str, Any]:
    """Return the options of a head without CPUs, for `ray.cluster_utils.Cluster`; its session is below `temp_dir`."""
    session = temp_dir / "ray"
    session.mkdir()
    return {
        "num_cpus": 0,
        "object_store_memory": OBJECT_STORE_BYTES,
        "include_dashboard": False,
        "dashboard_port": None,  # any: Ray's own port may be another cluster's
        "temp_dir": str(session),
    }


@contextmanager
def two_nodes(temp_dir: Path) -> Iterator[TwoNodes]:
    """Start the cluster, with a token of its own; end its processes afterwards."""
    os.environ |= cluster_environment(temp_dir)
    os.environ.pop("RAY_ADDRESS", None)
    from ray.cluster_utils import Cluster  # not before: Ray reads these when it is imported

    head = head_options(temp_dir)
    nodes = TwoNodes(lambda: Cluster(initialize_head=True, head_node_args=head))
    try:
        yield nodes
    finally:
        nodes.end()


def kill(pid: int) -> None:
    """Kill a process, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def descendants(ancestor: int) -> list[int]:
    """Return the processes that a process started, and those they started."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent(entry)) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [ancestor]
    while waiting:
        more = children.get(waiting.pop(), [])
        found += more
        waiting += more
    return found


def _parent(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it ended meanwhile
        return None


def _raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def _runs_a_task(pid: int) -> bool:
    """Tell whether a process is a Ray worker in a task of Ray Data: its title says so."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::FlatMap(")
    except OSError:
        return False
