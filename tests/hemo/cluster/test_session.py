"""One Ray connection a job: quiet, side by side with others, gone afterwards."""

import os
import secrets
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Literal

import grpc
import pytest
import ray

from hemo.cluster import session
from hemo.cluster.session import _require_head_node, _start_local, connect, connected
from hemo.config.types import ClusterConfig
from hemo.errors import ConfigError, HemoError

JOB = """
import signal, sys, time
import ray
from hemo.cluster.session import connected
from hemo.config.types import ClusterConfig
from ray_jobs.entry_point import errors_as_exit_codes

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it runs in the background

address, temp_dir = sys.argv[1:]
with errors_as_exit_codes(), connected(ClusterConfig(address=address, cpus=1, temp_dir=temp_dir)):
    rows = ray.data.range(4, override_num_blocks=2).map_batches(lambda batch: batch).count()
    print(f"{rows} rows, {ray.cluster_resources()['CPU']:.0f} CPU", flush=True)
    time.sleep(60)
"""


Start = Callable[[str, Path], subprocess.Popen[str]]


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(secrets.token_hex(32))
    file.chmod(0o644)
    return file


@pytest.fixture
def start(token: Path) -> Iterator[Start]:
    """Start the job above at an address, with a token and session files of its own; end it with the test."""
    with ExitStack() as running:

        def begin(address: str, temp_dir: Path) -> subprocess.Popen[str]:
            environment = {**os.environ, "RAY_AUTH_TOKEN_PATH": str(token)}
            environment.pop("RAY_ADDRESS", None)
            command = [sys.executable, "-c", JOB, address, str(temp_dir)]
            pipe = subprocess.PIPE
            job = subprocess.Popen(
                command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True
            )
            running.enter_context(job)
            running.callback(job.kill)
            return job

        yield begin


def test_inside_another_connection_nothing_is_started_or_ended(ray_cluster: None) -> None:
    node = ray.get_runtime_context().get_node_id()
    with connected(ClusterConfig(address="127.0.0.1:7")):
        assert ray.get_runtime_context().get_node_id() == node
    assert ray.is_initialized()


def test_ray_that_does_not_start_in_time_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray raises `Exception` itself, as on a machine that is too busy; a subclass of it is a defect."""
    raised: list[Exception] = [Exception("The current node timed out during startup."), KeyError("a defect")]
    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(raised.pop(0)))
    with pytest.raises(
        HemoError, match=r"^Ray did not start: The current node timed .* startup\. Run the same command"
    ):
        _start_local(ClusterConfig(address="local"))
    with pytest.raises(KeyError, match="a defect"):
        _start_local(ClusterConfig(address="local"))


@pytest.mark.parametrize(("cpus", "started_with"), [("all", 1), (3, 3)])
def test_a_local_cluster_has_the_cpus_that_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch, cpus: int | Literal["all"], started_with: int
) -> None:
    """One of them here, as under `taskset` or Slurm; the machine has more."""
    started: list[dict[str, Any]] = []
    monkeypatch.setattr(ray, "init", lambda **settings: started.append(settings))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    _start_local(ClusterConfig(address="local", cpus=cpus))
    assert [settings["num_cpus"] for settings in started] == [started_with]


@pytest.mark.parametrize("error", [None, RuntimeError("stop")])
def test_signal_handlers_are_as_before(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    """Ray sets one for SIGTERM while it starts."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(session, "connect", lambda _: signal.signal(signal.SIGTERM, lambda *_: None))
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    with suppress(RuntimeError), session.connected(ClusterConfig(address="local")):
        within = [signal.getsignal(number) for number in numbers]
        if error:
            raise error
    assert within == [signal.default_int_handler] * 2
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_local_cluster_is_quiet_beside_another_and_gone_after_ctrl_c(
    ray_cluster: None,
    start: Start,
    token: Path,
    make_ray_folder: Callable[[], Path],
    processes_in: Callable[[Path], list[int]],
) -> None:
    place = make_ray_folder()
    job = start("local", place)
    assert job.stdout
    first = job.stdout.readline()
    mode = stat.S_IMODE(token.stat().st_mode)
    os.killpg(job.pid, signal.SIGINT)
    rest, errors = job.communicate(timeout=180)
    assert errors == "hemo: interrupted; run the same command again: finished work is kept\n"
    assert (first, rest, job.returncode) == ("4 rows, 1 CPU\n", "", 1)
    assert mode == 0o600
    deadline = time.monotonic() + 20
    while processes_in(place) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_in(place) == []


REFUSED = """
import os, sys
from hemo.cluster.session import connected
from hemo.config.types import ClusterConfig
from ray_jobs.entry_point import errors_as_exit_codes

place, token = sys.argv[1:]
for token_path, address, folder in (
    (f"{place}/none", "local", "ray"), (token, "127.0.0.1:7", "ray"), (token, "local", "x" * 100)
):
    os.environ["RAY_AUTH_TOKEN_PATH"] = token_path
    temp_dir = f"{place}/{folder}"
    try:
        with errors_as_exit_codes(), connected(ClusterConfig(address=address, cpus=1, temp_dir=temp_dir)):
            print("connected")
    except SystemExit as ended:
        print(ended.code)
"""


@pytest.mark.ray
def test_a_cluster_that_cannot_be_is_refused_at_once(token: Path, tmp_path: Path) -> None:
    """No token, a dead address, a folder too long for a socket: a line each, and nothing of Ray's."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-c", REFUSED, str(tmp_path), str(token)]
    job = subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment, check=False)
    assert (job.returncode, job.stdout) == (0, "2\n1\n2\n")
    no_token, address, folder = job.stderr.splitlines()
    assert no_token.startswith("hemo: Ray's token: RAY_AUTH_TOKEN_PATH is set but file cannot be opened or is empty")
    assert address.startswith("hemo: cannot connect to Ray at 127.0.0.1:7: [Errno 111] Connection refused; `ray st")
    assert folder.startswith("hemo: cluster.temp_dir: ")


def test_a_job_in_the_background_can_be_interrupted_and_obeys_sigterm(
    make_ray_folder: Callable[[], Path],
) -> None:
    """A shell ignores SIGINT for it; Ray's workers inherit what the job has, and call it where they are interrupted.

    A scheduler sends SIGTERM, which does the same.
    """
    code = (
        "import os, signal, sys, ray\n"
        "from hemo.cluster.session import connected\n"
        "from hemo.config.types import ClusterConfig\n"
        "from ray_jobs.entry_point import errors_as_exit_codes\n"
        "with errors_as_exit_codes(), connected(ClusterConfig(address='local', cpus=1, temp_dir=sys.argv[1])):\n"
        "    print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, flush=True)\n"
        "    print(callable(ray.get(ray.remote(lambda: signal.getsignal(signal.SIGINT)).remote())), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    signal.pause()\n"
    )
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", code, str(make_ray_folder())]
    job = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (job.returncode, job.stdout) == (1, "True\nTrue\n")
    assert job.stderr == "hemo: interrupted; run the same command again: finished work is kept\n"


@pytest.mark.parametrize(
    ("file", "line"),
    [
        (
            "home",
            r"Ray cannot write its token: .*/home'; set HOME to a folder you may write to, or RAY_AUTH_TOKEN_PATH",
        ),
        (
            "home/.ray/auth_token",
            r"Ray cannot write its token: .*/home/\.ray/auth_token'; set HOME to a folder you may",
        ),
        ("ray/session", r"cluster\.temp_dir: /.*/ray: .*/ray/session'; give a short path you may write to"),
    ],
)
def test_what_ray_could_not_write_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, line: str
) -> None:
    """A home without write access is no fault of `temp_dir`."""

    def refused(**_: Any) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / file))

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(ray, "init", refused)
    with pytest.raises(ConfigError, match=line):
        _start_local(ClusterConfig(address="local", temp_dir=str(tmp_path / "ray")))


def test_a_head_node_is_known_by_its_health(ray_cluster: None) -> None:
    _require_head_node(ray.get_runtime_context().gcs_address)


def test_an_address_of_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that nobody serves, and one of another gRPC server; Ray would try either for minutes."""
    monkeypatch.setattr(session, "CONNECT_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = "{}:{}".format(*mute.getsockname())
        with pytest.raises(ConnectionError, match=r"does not reply as a head node \(DEADLINE_EXCEEDED\)"):
            _require_head_node(address)
    with pytest.raises(ConnectionRefusedError):
        _require_head_node(f"ray://{address}")
    with ThreadPoolExecutor(1) as threads:
        other = grpc.server(threads)
        port = other.add_insecure_port("127.0.0.1:0")
        other.start()
        with pytest.raises(ConnectionError, match=r"does not reply as a head node \(UNIMPLEMENTED\)"):
            _require_head_node(f"127.0.0.1:{port}")
        other.stop(grace=None).wait()


def test_the_way_out_of_a_dead_address_is_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where Ray's own message has several lines."""

    def refused(**_: Any) -> None:
        raise ValueError("Invalid Ray address\n  1. Unset RAY_ADDRESS")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refused)
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    line = r"Ray at http://127\.0\.0\.1:8265: Invalid Ray address 1\. Unset RAY_ADDRESS; .*; --cluster\.address local"
    with pytest.raises(HemoError, match=line):
        connect(ClusterConfig())
