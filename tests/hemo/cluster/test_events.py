"""Ray's messages in short, and nodes that come and go."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from hemo.cluster.events import in_short, node_line, working_nodes

DIED = (
    "A worker died or was killed while executing a task by an unexpected system error. To troubleshoot the problem, "
    "check the logs for the dead worker. Lease ID: 01 Worker ID: 02 Node ID: 03 Worker IP address: 10.0.0.7 Worker "
    "port: 18973 Worker PID: 4711 Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits"
)
MEMORY = "3 Workers (tasks / actors) killed due to memory pressure (OOM), 0 Workers crashed due to other reasons"
RAYLET = "Raylet is terminated. Termination is unexpected. Last 20 lines of the logs:\n    [state-dump] Node"
NODE = "The node with node id: 03 and address: 10.0.0.7 has been marked dead because the detector has missed too many"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            DIED,
            "a worker died on 10.0.0.7 (process 4711), out of memory or in a decoder; its work is done again",
        ),
        (
            MEMORY,
            "3 workers of a node were killed, as it ran out of memory; their work is done again. Use fewer CPUs a "
            "node, or nodes with more memory",
        ),
        ("There are tasks with infeasible resource requests that cannot be scheduled. See https://", ""),
        ("Task _map_task failed. There are infinite retries remaining, so the task will be retried. Error: \n", ""),
        (RAYLET, ""),
        (NODE, ""),
        ("The autoscaler failed with the following error:\nTraceback", "Ray reports: The autoscaler failed with the "
         "following error:"),
        ("x" * 300, "Ray reports: " + "x" * 200),
    ],
)  # fmt: skip
def test_a_message_of_ray_is_a_line(message: str, line: str) -> None:
    assert in_short(message) == line


SMALL, LARGE = ("10.0.0.1", 16.0, 0.0), ("10.0.0.2", 16.0, 1.0)


@pytest.mark.parametrize(
    ("before", "now", "line"),
    [
        (None, {}, "no node has CPUs yet; nodes that start on demand take some minutes"),
        (None, {"a": SMALL}, ""),
        ({"a": SMALL}, {"a": SMALL}, ""),
        ({}, {"a": SMALL}, "10.0.0.1 with 16 CPU joined; 1 node with 16 CPU now"),
        ({"a": SMALL}, {"a": SMALL, "b": LARGE}, "10.0.0.2 with 16 CPU, 1 GPU joined; 2 nodes with 32 CPU, 1 GPU now"),
        ({"a": SMALL}, {"b": LARGE}, "10.0.0.2 with 16 CPU, 1 GPU joined; 10.0.0.1 with 16 CPU left; 1 node with 16 "
         "CPU, 1 GPU now"),
        ({"a": SMALL}, {}, "10.0.0.1 with 16 CPU left; none is left"),
        ({}, {str(n): SMALL for n in range(7)}, ", ".join(["10.0.0.1 with 16 CPU"] * 5) + " and 2 more joined; 7 nodes "
         "with 112 CPU now"),
    ],
)  # fmt: skip
def test_nodes_that_come_and_go(before: dict, now: dict, line: str) -> None:
    assert node_line(before, now) == line


def test_nodes_of_a_cluster(ray_cluster: None) -> None:
    """One node with two CPUs; the GPU is that of the machine, if any."""
    ((address, cpus, _),) = working_nodes().values()
    assert cpus == 2
    assert address == ray.util.get_node_ip_address()


KILLED = """
import os, signal, sys, time
from pathlib import Path
import ray
from hemo.cluster.session import connected
from hemo.config.types import ClusterConfig

@ray.remote(max_retries=1)
def killed(mark):
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)

with connected(ClusterConfig(address="local", cpus=1, temp_dir=sys.argv[1])):
    ray.get(killed.remote(Path(sys.argv[2])))
    time.sleep(2)  # the message comes by itself
print("result")
"""


def test_what_ray_says_of_a_dead_worker_is_one_line_on_standard_error(
    make_ray_folder: Callable[[], Path], tmp_path: Path
) -> None:
    """Ray itself would print it on standard output, in yellow: see `report_in_short`."""
    command = [sys.executable, "-c", KILLED, str(make_ray_folder()), str(tmp_path / "mark")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "result\n", done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("cluster: ")]
    assert line.startswith("cluster: a worker died on ")
    assert "\x1b" not in done.stderr
