"""One job of the line by `ray job submit`, on a real head with token authentication."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LEFT_AT_HOME = {"excludes": ["/tests", "/docs", "/benchmarks"]}
START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Head:
    """A running Ray head and how to speak to it."""

    dashboard: str
    token: str
    environment: dict[str, str]

    def submit(self, *entry_point: str) -> subprocess.CompletedProcess[str]:
        """Run an entry point as a job of this checkout and wait for its end."""
        submit = ["job", "submit", "--working-dir", str(ROOT), "--runtime-env-json", json.dumps(LEFT_AT_HOME), "--"]
        return ray_command(*submit, sys.executable, *entry_point, environment=self.environment)

    def get(self, path: str, token: str) -> tuple[int, Any]:
        """Return status code and JSON of a request to the dashboard; an empty token sends none."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.dashboard + path, headers=headers)) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, None


def ray_command(*words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("ray"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=110)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def head(make_ray_folder: Callable[[], Path], processes_in: Callable[[Path], list[int]]) -> Iterator[Head]:
    """A head with two CPUs and its own token, ports and directory; ended by ending what holds files open there."""
    place = make_ray_folder()
    token = secrets.token_hex(32)
    (place / "token").write_text(token)
    (place / "token").chmod(0o600)
    dashboard_port = free_port()
    dashboard = f"http://127.0.0.1:{dashboard_port}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(place / "token"),
        "RAY_API_SERVER_ADDRESS": dashboard,
    }
    options = {
        "--port": free_port(),
        "--dashboard-port": dashboard_port,
        "--dashboard-agent-listen-port": free_port(),  # jobs start through it; its default may be taken
        "--ray-client-server-port": free_port(),
        "--dashboard-host": "127.0.0.1",
        "--num-cpus": 2,
        "--object-store-memory": 200 * 2**20,
        "--temp-dir": place,
    }
    words = [str(word) for option in options.items() for word in option]
    try:
        started = ray_command("start", "--head", "--disable-usage-stats", *words, environment=environment)
        assert started.returncode == 0, started.stderr
        running = Head(dashboard, token, environment)
        wait_for(lambda: running.get("/api/jobs/", token)[0] == 200)
        yield running
    finally:
        for process in processes_in(place):
            os.kill(process, signal.SIGKILL)


def wait_for(answers: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            if answers():
                return
        except OSError:
            pass  # nobody listens yet
        time.sleep(0.3)
    pytest.fail(f"the head did not answer within {START_TIMEOUT_S:.0f} s")


@pytest.mark.parametrize(("token", "status"), [("", 401), ("0" * 64, 403)])
def test_without_the_token_nobody_sees_or_starts_a_job(head: Head, token: str, status: int) -> None:
    assert head.get("/api/jobs/", token) == (status, None)


def test_a_client_without_the_token_cannot_submit(head: Head, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0" * 64)
    stranger = Head(head.dashboard, "", {**head.environment, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")})
    refused = stranger.submit("-c", "print('ran')")
    assert refused.returncode != 0
    assert "ran" not in refused.stdout.splitlines()


def test_a_job_of_the_line_runs_on_the_head(head: Head, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    done = head.submit("-m", "ray_jobs.phantom", "--out", str(out), "--slices", "8", "--faults", "false")
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(out) in done.stdout.splitlines()
    assert len(list((out / "stage_2_train").glob("ID_*.dcm"))) == 8


def test_a_users_mistake_fails_the_job_with_one_line_in_its_log(head: Head) -> None:
    failed = head.submit("-m", "ray_jobs.phantom", "--out", "/proc/nowhere", "--slice", "8")
    assert failed.returncode == 1
    line = "hemo: --slice is no flag of `hemo phantom` (did you mean --slices?); `hemo phantom --help` lists the flags"
    assert line in failed.stdout
    assert "Traceback" not in failed.stdout
    _, jobs = head.get("/api/jobs/", head.token)
    newest = max(jobs, key=lambda job: job["start_time"])
    assert (newest["status"], newest["driver_exit_code"]) == ("FAILED", 2)
