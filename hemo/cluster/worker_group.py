"""A worker group of Ray Train: what its end means, and lines that its processes print in the job's own.

Ray Train's controller, a process of its own that starts before the workers, imports this module. It must not wait for
timm or torchmetrics.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hemo.console import print_line

NODE_LOST = ("its node has died", " is unavailable: ")
"""In Ray's messages about a process that was lost with its node; the error has no field for it.

The second is that of a process which cannot be reached: the death of a node is noticed some seconds later, that of a
process by the node at once.
"""

LAST_LINES_S = 20.0
"""How long lines of workers that have ended are waited for."""


class NodeLossPolicy(DefaultFailurePolicy):
    """Starts the workers again however often a node was lost; other losses of workers are counted."""

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        """Return whether the workers start again. Where one was lost with its node, the others fail for it too."""
        failures = training_failed_error.worker_failures if isinstance(training_failed_error, WorkerGroupError) else {}
        if any(is_node_loss(str(failure)) for failure in failures.values()):
            return FailureDecision.RETRY
        return super().make_decision(training_failed_error)


def is_node_loss(message: str) -> bool:
    """Return whether a process was lost with its node, from Ray's message about it."""
    return any(words in message for words in NODE_LOST)


class WorkersTrainer(TorchTrainer):
    """Counts no lost nodes, and leaves the job's handler of SIGINT in place, which ends the job at once.

    Ray Train's own asks its controller to end the run, which does not answer while it waits for resources.
    """

    def _register_sigint_handler(self, controller: Any) -> None:
        """Do nothing."""

    def _initialize_and_run_controller(self, **options: Any) -> Any:
        """Run with `NodeLossPolicy` in place of Ray Train's."""
        settings: Any = self.run_config.failure_config
        run: Any = super()._initialize_and_run_controller  # type: ignore[misc]  # typed as Train V1's trainer
        return run(**{**options, "failure_policy": NodeLossPolicy(settings)})


class WorkerLines:
    """Prints lines in the process that made it, from whatever process calls it; without an effect once that is gone."""

    def __init__(self, queue: Queue) -> None:
        """Take the queue through which lines come."""
        self.queue = queue

    def __call__(self, line: str) -> None:
        """Send a line. That it cannot be shown is no reason for a trial to fail."""
        with suppress(RayError):
            self.queue.put(line)


@contextmanager
def printed_lines() -> Iterator[WorkerLines]:
    """Give a function for workers that prints a line on this process's standard error.

    The queue is on this process's node, so that it is lost with it alone: nodes of workers may come and go.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})

    def show() -> None:
        with suppress(RayError):  # the queue is lost where a signal also ends Ray's processes
            while (line := queue.get()) is not None:
                print_line(line)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield WorkerLines(queue)
    finally:
        actor: Any = queue.actor
        actor.put.remote(None)  # not awaited: the queue may be lost
        thread.join(LAST_LINES_S)
        queue.shutdown(force=True)


def failure_reason(error: TrainingFailedError) -> str:
    """Return why a worker group ended: what all failed workers raised, else Ray Train's message about lost ones."""
    failures = list(error.worker_failures.values()) if isinstance(error, WorkerGroupError) else []
    raised = [failure._base_exc for failure in failures if isinstance(failure, UserExceptionWithTraceback)]
    if raised and len(raised) == len(failures):
        return f"{type(raised[0]).__name__}: {raised[0]}"
    return f"the workers were lost: {str(error).strip().splitlines()[-1]}"
