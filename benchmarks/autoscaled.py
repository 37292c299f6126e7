"""An autoscaling Ray cluster on one machine: a head without CPUs, workers that come when tasks wait and leave idle.

Ray's own fake provider starts each worker as a node of its own; no cloud, and no other Ray on this machine is touched.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEAD = "ray.head.default"  # the fake provider knows its head by this name
HEAD_ID = "f" * 51 + "00000"
OBJECT_STORE_BYTES = 100 * 2**20
COMMANDS = (
    *("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands"),
)
CONVERT = {"CPU": 1}
"""Resources of a node for convert, curate and predict."""
TRAIN = {"CPU": 1, "GPU": 1}
"""Of a node for train and tune; the GPU is a number of Ray's and no device."""


@dataclass(frozen=True)
class Autoscaled:
    """A running cluster: where it is, and the environment with which a command reaches it."""

    address: str
    dashboard: str
    environment: dict[str, str]
    folder: Path

    def nodes(self) -> dict[str, int]:
        """Return how many nodes of each type run now; the head is not counted."""
        listed = subprocess.run(
            [sys.executable, "-c", LIST_NODES, self.address],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        counts: dict[str, int] = json.loads(listed.stdout.splitlines()[-1])
        return counts


LIST_NODES = """
import collections, json, sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
working = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
print(json.dumps(collections.Counter("train" if "GPU" in resources else "convert" for resources in working)))
"""


@contextmanager
def autoscaled(folder: Path, *, convert: int = 2, train: int = 0, idle_minutes: float = 0.1) -> Iterator[Autoscaled]:
    """Start the cluster, with a token, ports and a directory of its own; end its processes afterwards.

    Args:
        folder: A new, short path.
        convert: Nodes of `CONVERT` at most.
        train: Nodes of `TRAIN` at most.
        idle_minutes: After which a node leaves.
    """
    port, dashboard = free_port(), free_port()
    address = f"{_own_ip()}:{port}"
    config = folder / "autoscaling.json"
    config.write_text(json.dumps(_config(address, convert, train, idle_minutes)))
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    of_head = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        "RAY_health_check_period_ms": "500",
        "RAY_worker_niceness": "0",  # of 15: beside other work they would hardly run
    }
    options: Mapping[str, Any] = {
        "--port": port,
        "--dashboard-port": dashboard,
        "--dashboard-agent-listen-port": free_port(),
        "--ray-client-server-port": free_port(),
        "--dashboard-host": "127.0.0.1",
        "--num-cpus": 0,
        "--object-store-memory": 2 * OBJECT_STORE_BYTES,
        "--temp-dir": folder,
        "--autoscaling-config": config,
    }
    words = [str(word) for option in options.items() for word in option]
    start = [Path(sys.executable).with_name("ray"), "start", "--head", "--disable-usage-stats", *words]
    try:
        subprocess.run(start, env=environment | of_head, stdout=subprocess.DEVNULL, check=True)
        reached = environment | {"RAY_ADDRESS": address, "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"}
        yield Autoscaled(address, f"http://127.0.0.1:{dashboard}", reached, folder)
    finally:
        end_processes_of(folder)


def _config(address: str, convert: int, train: int, idle_minutes: float) -> dict[str, Any]:
    def node_type(resources: dict[str, int], most: int) -> dict[str, Any]:
        return {
            "resources": {**resources, "object_store_memory": OBJECT_STORE_BYTES},
            "node_config": {},
            "min_workers": 0,
            "max_workers": most,
        }

    return {
        "cluster_name": "fake",
        "max_workers": convert + train,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": HEAD_ID,
            "gcs_address": address,
        },
        "available_node_types": {
            HEAD: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "convert": node_type(CONVERT, convert),
            "train": node_type(TRAIN, train),
        },
        "head_node_type": HEAD,
        "auth": {},
        "upscaling_speed": 5.0,
        "idle_timeout_minutes": idle_minutes,
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        **{name: [] for name in COMMANDS},
    }


def _own_ip() -> str:
    from ray._private.services import get_node_ip_address  # Ray's nodes use it

    address: str = get_node_ip_address()
    return address


def free_port() -> int:
    """Return a port of the loopback interface on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def processes_of(folder: Path) -> list[int]:
    """Return the processes that hold files open below a folder: their titles do not tell, Ray overwrites them."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            files = [str(file.readlink()) for file in (process / "fd").iterdir()]
        except OSError:  # it ended meanwhile, or is another user's
            continue
        if any(file.startswith(f"{folder}/") for file in files):
            found.append(int(process.name))
    return found


def end_processes_of(folder: Path) -> None:
    """Kill what a cluster with this folder started, and nothing else."""
    while running := processes_of(folder):
        for pid in running:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
