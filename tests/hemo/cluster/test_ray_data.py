"""What a user reads of errors in Ray Data tasks."""

import math
import os
import threading
import time
from typing import Any

import pytest
import ray
from ray._common.retry import matches_error
from ray.data import DataContext, ExecutionResources
from ray.data._internal.execution.streaming_executor import StreamingExecutor
from ray.data.exceptions import SystemException
from ray.exceptions import (
    ActorDiedError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
    RayError,
    WorkerCrashedError,
)

from hemo.cluster.ray_data import TRANSIENT_ERRORS, data_context, limit_growth
from hemo.errors import HemoError, SourceError

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_a_job_asks_for_no_more_cpus_than_it_has_tasks() -> None:
    context = DataContext()
    assert context.execution_options.resource_limits.cpu == math.inf
    limit_growth(context, tasks=99)
    assert context.execution_options.resource_limits == ExecutionResources.for_limits(cpu=99)


def message_of(error: Exception) -> str:
    """Return the text of the HemoError that a task becomes which raises `error`."""

    def faulty(row: dict[str, Any]) -> dict[str, Any]:
        raise error

    with pytest.raises(HemoError) as caught, data_context("convert"):
        ray.data.range(1).map(faulty).materialize()
    assert type(caught.value) is (SourceError if isinstance(error, SourceError) else HemoError)
    return str(caught.value)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            FileNotFoundError(2, "No such file or directory", "/data/x.dcm"),
            "convert stopped: FileNotFoundError: No such file or directory; run it again, finished work is kept",
        ),
        (ValueError("odd"), "convert stopped: ValueError: odd; run it again, finished work is kept"),
        (KeyError("side_px"), "convert stopped: KeyError: side_px; run it again, finished work is kept"),
        (KeyError(), "convert stopped: KeyError; run it again, finished work is kept"),
        (
            MemoryError(),
            "convert stopped: a worker ran out of memory; lower cluster.cpus (on a cluster num-cpus of its nodes), so "
            "that fewer work at once, or take nodes with more memory; run it again, finished work is kept",
        ),
        (
            OSError(28, "No space left on device", "/data/x.parquet"),
            "convert stopped: OSError: No space left on device; free some, or give a folder on a larger disk; "
            "run it again, finished work is kept",
        ),
        (SourceError("/data/a.dcm is gone; restore it"), "/data/a.dcm is gone; restore it"),
    ],
)
def test_an_error_in_a_task_is_reported_without_rays_advice(error: Exception, message: str) -> None:
    assert message_of(error) == message


def test_a_worker_that_ray_kills_for_its_memory_is_reported_and_not_started_again_for_ever() -> None:
    """Ray ends such a task with an error that has one of its own without a text as its cause."""
    with (
        pytest.raises(HemoError, match=r"phantom stopped: a worker ran out of memory; lower cluster\.cpus"),
        data_context("phantom"),
    ):
        raise OutOfMemoryError("1 worker(s) were killed\nTop 10 memory users") from SystemException()
    assert os.environ.get("RAY_task_oom_retries") == "8"  # noqa: SIM112 (so it is spelled by Ray)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            WorkerCrashedError(),
            r"predict stopped: a worker was killed, .*; lower cluster\.cpus, .*Ray's logs; run it again$",
        ),
        (
            ActorDiedError(),
            r"predict stopped: a worker was killed, .*; lower cluster\.cpus, .*Ray's logs; run it again$",
        ),
        (
            ObjectStoreFullError("Failed to put object 00ff\nin object store"),
            r"predict stopped: Ray's object store is full; .*--object-store-memory, or lower cluster\.cpus, .*again$",
        ),
        (
            OutOfDiskError("Local disk is full\n"),
            r"predict stopped: the disk of Ray's own files, .* \(cluster\.temp_dir\); free some, .*; run it again$",
        ),
    ],
)
def test_what_a_node_ran_out_of_is_one_line_with_the_cure(error: RayError, line: str) -> None:
    """Ray's own texts of these have several lines, and name none of hemo's keys."""
    with pytest.raises(HemoError, match=line) as caught, data_context("predict"):
        raise error
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shown", "again"),
    [
        ("OSError: [Errno 5] Input/output error: 'a'", True),
        ("ConnectionResetError: [Errno 104] Connection reset by peer", True),
        ("OSError: AWS Error NETWORK_CONNECTION", True),
        ("StorageError: the storage cannot be accessed (EndpointConnectionError: no such host)", True),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'a'", False),
        ("PermissionError: [Errno 13] Permission denied: 'a'", False),
        ("IsADirectoryError: [Errno 21] Is a directory: 'a'", False),
        ("OSError: [Errno 28] No space left on device", False),
        ("OSError: [Errno 122] Disk quota exceeded", False),
        ("ValueError: odd", False),
    ],
)
def test_only_errors_that_pass_are_tried_again(shown: str, again: bool) -> None:
    assert any(matches_error(pattern, shown) for pattern in TRANSIENT_ERRORS) is again


def test_ctrl_c_ends_what_ray_data_executes() -> None:
    """The loop that consumes its rows ends at once; without help its thread would use a connection that is closed."""

    def executors() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if isinstance(thread, StreamingExecutor)]

    def slow(row: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.2)
        return row

    def consume() -> None:
        with data_context("predict"):
            for _ in ray.data.range(1000, override_num_blocks=1000).map(slow).iter_rows():
                assert executors()
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert executors() == []
