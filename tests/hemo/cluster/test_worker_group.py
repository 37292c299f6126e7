"""What the end of a worker group means, and lines that come from its processes."""

import subprocess
import sys
import threading
from typing import Any

import pytest
import ray
import ray.train
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback, WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import WorkerGroupError
from ray.util.queue import Queue

from hemo.cluster import worker_group
from hemo.cluster.worker_group import NodeLossPolicy, failure_reason, printed_lines


def test_what_all_failed_workers_raised_is_the_reason() -> None:
    raised = UserExceptionWithTraceback(ZeroDivisionError("by nought"), "Traceback ...")
    assert failure_reason(WorkerGroupError("long text", {1: raised})) == "ZeroDivisionError: by nought"
    with_a_lost_one = WorkerGroupError("long\ntext", {0: raised, 1: RuntimeError("The actor died")})
    assert failure_reason(with_a_lost_one) == "the workers were lost: text"


def test_the_loss_of_a_node_is_no_failure_of_the_workers() -> None:
    """One failure is allowed: any number of lost nodes come before the second one of another kind."""
    policy = NodeLossPolicy(ray.train.FailureConfig(max_failures=1))
    died = WorkerHealthCheckFailedError("rank 1", RuntimeError("The actor died\nits process ended"))
    gone = WorkerHealthCheckFailedError("rank 0", RuntimeError("The actor died because its node has died. Node Id: 03"))
    lost_nodes = WorkerGroupError("two", {0: gone, 1: UserExceptionWithTraceback(RuntimeError("reset by peer"), "")})
    one_process = WorkerGroupError("one", {1: died})
    errors = [lost_nodes, one_process, lost_nodes, lost_nodes, one_process]
    decisions = [policy.make_decision(error).name for error in errors]
    assert decisions == ["RETRY", "RETRY", "RETRY", "RETRY", "RAISE"]


@pytest.mark.usefixtures("ray_cluster")
def test_a_lost_queue_of_lines_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a scheduler sends SIGTERM to Ray's processes too: the thread that prints raises nothing."""
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    threads = threading.active_count()
    with printed_lines() as print_from_worker:
        ray.kill(print_from_worker.queue.actor)  # type: ignore[arg-type]  # Ray's annotation names the class too
        print_from_worker("epoch 1")  # from a trial that runs on
    assert (raised, threading.active_count()) == ([], threads)


@pytest.mark.usefixtures("ray_cluster")
def test_the_queue_of_lines_is_on_this_node_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a hard affinity: the loss of a node of workers cannot take it."""
    chosen: list[dict[str, Any]] = []

    def queue(actor_options: dict[str, Any]) -> Queue:
        chosen.append(actor_options)
        return Queue(actor_options=actor_options)

    monkeypatch.setattr(worker_group, "Queue", queue)
    with printed_lines() as print_from_worker:
        print_from_worker("epoch 1")
    assert capsys.readouterr().err == "epoch 1\n"
    where = chosen[0]["scheduling_strategy"]
    assert (where.node_id, where.soft) == (ray.get_runtime_context().get_node_id(), False)


def test_ray_trains_controller_loads_no_models() -> None:
    """It imports the module to unpickle `NodeLossPolicy`; with timm and torchmetrics it would start seconds later."""
    code = "import sys, hemo.cluster.worker_group; print(*{name.partition('.')[0] for name in sys.modules})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in shown
    assert {"timm", "torchvision", "torchmetrics", "sklearn", "wandb"}.isdisjoint(shown)
