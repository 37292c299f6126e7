"""Jobs by `ray job submit`, on a real head with token authentication: who may, what is shown, and what a kill costs."""

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
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from hemo.job_log import last_lines
from hemo.storage import filesystem, join, list_files, list_folders, read_json
from tests.s3 import s3_environment  # noqa: F401 (a fixture)

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 300.0
EPOCHS, ROWS = 6, 600
"""Of a trial that is killed in the middle: half a second an epoch."""


@dataclass(frozen=True)
class Head:
    """A running Ray head and how to speak to it."""

    dashboard: str
    token: str
    environment: dict[str, str]
    place: Path

    def submit(self, *entry_point: str, job: str = "", wait: bool = True) -> subprocess.CompletedProcess[str]:
        """Run an entry point as a job of this checkout; by default wait for its end."""
        options = [*(["--submission-id", job] if job else []), *([] if wait else ["--no-wait"])]
        done = self.command("submit", "--working-dir", str(ROOT), *options, "--", sys.executable, *entry_point)
        assert wait or done.returncode == 0, done.stderr
        return done

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `ray job`."""
        return ray_command("job", *words, environment=self.environment)

    def request(self, path: str, token: str = "", method: str = "GET", body: Any = None) -> tuple[int, Any]:
        """Return status code and JSON of a request to the dashboard; an empty token sends none."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.dashboard + path, content, headers, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, None

    def jobs(self) -> list[dict[str, Any]]:
        """Return what the job server lists, the newest last."""
        listed: list[dict[str, Any]] = self.request("/api/jobs/", self.token)[1]
        return sorted(listed, key=lambda job: job["start_time"])

    def wait_for_end(self, job: str) -> str:
        """Return how a job ended."""
        return wait_for(lambda: next(each["status"] for each in self.jobs() if each["submission_id"] == job), ENDED)


ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


def ray_command(*words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("ray"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=500)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_head(place: Path, more: Mapping[str, str]) -> Head:
    """Start a head with two CPUs and its own token, ports and directory."""
    token = secrets.token_hex(32)
    (place / "token").touch(mode=0o600)
    (place / "token").write_text(token)
    dashboard_port = free_port()
    dashboard = f"http://127.0.0.1:{dashboard_port}"
    kept = ("RAY_worker_niceness", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_") or name in kept} | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(place / "token"),
        "RAY_API_SERVER_ADDRESS": dashboard,
        **more,
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
    started = ray_command("start", "--head", "--disable-usage-stats", *words, environment=environment)
    assert started.returncode == 0, started.stderr
    head = Head(dashboard, token, environment, place)
    wait_for(lambda: head.request("/api/jobs/", token)[0], (200,))
    return head


def wait_for(look: Callable[[], Any], wanted: tuple[Any, ...]) -> Any:
    """Return what is seen once it is one of the wanted."""
    deadline = time.monotonic() + TIMEOUT_S
    seen = None
    while time.monotonic() < deadline:
        try:
            seen = look()
            if seen in wanted:
                return seen
        except (OSError, StopIteration):
            pass  # nobody listens yet, or the job is not listed yet
        time.sleep(0.1)
    pytest.fail(f"{seen} for {TIMEOUT_S:.0f} s, not {wanted}")


@pytest.fixture(scope="module")
def kill_all(processes_in: Callable[[Path], list[int]]) -> Callable[[Head], None]:
    """Kill a head and all it started, found by what holds files open in its directory."""

    def kill(head: Head) -> None:
        while running := processes_in(head.place):
            for process in running:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    return kill


@pytest.fixture(scope="module")
def start(make_ray_folder: Callable[[], Path], kill_all: Callable[[Head], None]) -> Iterator[Callable[..., Head]]:
    """Start heads, with more variables in their environment."""
    heads: list[Head] = []

    def begin(more: Mapping[str, str] | None = None) -> Head:
        heads.append(start_head(make_ray_folder(), more or {}))
        return heads[-1]

    try:
        yield begin
    finally:
        for head in heads:
            kill_all(head)


@pytest.fixture(scope="module")
def head(start: Callable[..., Head]) -> Head:
    """One head for all tests that do not end it."""
    return start()


@pytest.mark.parametrize(("token", "status"), [("", 401), ("0" * 64, 403)])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/jobs/", None),
        ("POST", "/api/jobs/", {"entrypoint": "touch /tmp/hemo-a-stranger-was-here"}),
        ("GET", "/api/jobs/raysubmit_1/logs", None),
        ("POST", "/api/jobs/raysubmit_1/stop", None),
        ("DELETE", "/api/jobs/raysubmit_1", None),
        ("PUT", "/api/packages/gcs/_ray_pkg_0123.zip", "code"),
        ("GET", "/api/v0/logs", None),
        ("GET", "/nodes?view=summary", None),
    ],
)
def test_without_the_token_nobody_sees_starts_or_stops_a_job(
    head: Head, token: str, status: int, method: str, path: str, body: Any
) -> None:
    assert head.dashboard.startswith("http://127.0.0.1:")
    assert head.request(path, token, method, body) == (status, None)
    assert not Path("/tmp/hemo-a-stranger-was-here").exists()


def test_a_client_without_the_token_cannot_submit(head: Head, tmp_path: Path) -> None:
    accepted = head.submit("-c", "print('ran')")
    assert (accepted.returncode, "ran" in accepted.stdout.splitlines()) == (0, True)
    (tmp_path / "token").write_text("0" * 64)
    stranger = replace(head, environment={**head.environment, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")})
    refused = stranger.submit("-c", "print('ran')")
    assert refused.returncode == 1
    assert "the authentication token is invalid or incorrect" in refused.stderr
    assert "ran" not in refused.stdout.splitlines()


def test_a_job_runs_to_its_end_although_its_submitter_is_killed(head: Head, tmp_path: Path) -> None:
    """Its log has plain lines: no colours, and no carriage returns of progress bars."""
    out = tmp_path / "corpus"
    phantom = ["-m", "ray_jobs.phantom", "--out", str(out), "--slices", "8", "--faults", "false"]
    words = ["job", "submit", "--submission-id", "left", "--working-dir", str(ROOT), "--", sys.executable, *phantom]
    submitter = subprocess.Popen(
        [Path(sys.executable).with_name("ray"), *words], env=head.environment, stdout=subprocess.DEVNULL
    )
    wait_for(lambda: [job["status"] for job in head.jobs() if job["submission_id"] == "left"], (["RUNNING"],))
    submitter.kill()
    submitter.wait()
    assert head.wait_for_end("left") == "SUCCEEDED"
    assert len(list((out / "stage_2_train").glob("ID_*.dcm"))) == 8
    _, shown = head.request("/api/jobs/left/logs", head.token)
    *of_ray, progress, result = shown["logs"].splitlines()
    assert [line for line in of_ray if "job_manager.py" not in line and "Running entrypoint" not in line] == []
    assert progress.startswith("phantom: 8 of 8 slices in 0:00:")
    assert result == str(out)
    assert not {"\r", "\x1b"} & set(shown["logs"])
    assert [line.split()[1] for line in last_lines(str(out), 10)] == ["begin", "progress", "result", "end"]
    assert "; Ray job left, code gcs://_ray_pkg_" in last_lines(str(out), 10)[0]


def test_a_users_mistake_fails_the_job_with_one_line_in_its_log(head: Head) -> None:
    failed = head.submit("-m", "ray_jobs.phantom", "--out", "/proc/nowhere", "--slice", "8")
    assert failed.returncode == 1
    line = "hemo: --slice is no flag of `hemo phantom` (did you mean --slices?); `hemo phantom --help` lists the flags"
    assert line in failed.stdout
    assert "Traceback" not in failed.stdout
    assert (head.jobs()[-1]["status"], head.jobs()[-1]["driver_exit_code"]) == ("FAILED", 2)


SHORT_LEASE = """
import os, sys
sys.path.insert(0, os.getcwd())
from hemo import output_lock
output_lock.LEASE_S, output_lock.RENEWAL_S = 4.0, 0.5
from ray_jobs.train import main
main()
"""


@dataclass(frozen=True)
class LongTrial:
    """A trial that runs for some seconds, and where it is written."""

    records: str
    entry_point: tuple[str, ...]

    @property
    def folder(self) -> str:
        (digest,) = [name for name in list_folders(self.records) if name not in ("log", "training_sets")]
        return join(self.records, digest)

    def stop_in_the_middle(self, processes: Callable[[], list[int]]) -> None:
        """Stop the worker that trains, one of these processes, once two epochs are done: then the job runs on."""
        wait_for(lambda: self._epoch() >= 2, (True,))
        (worker,) = [each for each in processes() if title(each).startswith("ray::RayTrainWorker")]
        os.kill(worker, signal.SIGSTOP)

    def _epoch(self) -> int:
        files = [file for file in list_files(self.records) if file.endswith("/progress.json")]
        return int(read_json(join(self.records, files[0]))["epoch"]) if files else 0


def title(process: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text()
    return ""


@pytest.fixture
def long_trial(make_training_set: Callable[..., str], tmp_path: Path) -> Callable[[str], LongTrial]:
    """Return a maker of a trial with records in a folder; its locks on buckets last 4 s instead of 30."""

    def make(records: str) -> LongTrial:
        (tmp_path / "train.py").write_text(SHORT_LEASE)
        model = ["--trial.model.backbone", "test_resnet", "--workers.gpus", "0"]
        training = ["--trial.training.epochs", str(EPOCHS), "--trial.training.patience", str(EPOCHS)]
        training_set = make_training_set({"train": ROWS, "val": 16, "test": 16})
        words = ["--training_set", training_set, "--out", records, *model, *training]
        return LongTrial(records, (str(tmp_path / "train.py"), *words))

    return make


def require_resumed(trial: LongTrial) -> None:
    """Check that the trial has every epoch once, and by its log that the last job began where the first was killed."""
    record = read_json(join(trial.folder, "record.json"))
    assert record["status"] == "complete"
    assert [epoch["epoch"] for epoch in record["epochs"]] == list(range(1, EPOCHS + 1))
    log = [line.split(maxsplit=2)[2] for line in last_lines(trial.records, 1000)]
    printed = [int(line.split()[1].rstrip(":")) for line in log if line.startswith("epoch ")]
    assert printed == list(range(printed[0], EPOCHS + 1))
    assert printed[0] > 2
    assert log[-1].startswith("code 0 after ")
    assert not {".output-lock.json", "progress.json", "state.pt"} & set(list_files(trial.folder))


@pytest.mark.timeout(800)
def test_a_job_may_be_submitted_again_while_it_runs_and_after_its_driver_died(
    head: Head, long_trial: Callable[[str], LongTrial], processes_in: Callable[[Path], list[int]], tmp_path: Path
) -> None:
    """On a disk: a second job is refused, and so is the same id, until Ray is told to forget it after the kill."""
    trial = long_trial(str(tmp_path / "records"))
    head.submit(*trial.entry_point, job="one", wait=False)
    trial.stop_in_the_middle(lambda: processes_in(head.place))
    second = head.submit(*trial.entry_point, job="two")
    assert second.returncode == 1
    assert f"hemo: out: another run is writing in {trial.folder} (process " in second.stdout
    assert {job["submission_id"]: job.get("driver_exit_code") for job in head.jobs()}["two"] == 2
    same = head.submit(*trial.entry_point, job="one")
    assert same.returncode == 1
    assert "one already exists" in same.stdout + same.stderr
    os.kill(read_json(join(trial.folder, ".output-lock.json"))["process"], signal.SIGKILL)
    assert head.wait_for_end("one") == "FAILED"

    def submit_again() -> int:
        head.command("delete", "one")  # at once after the end Ray may list it again
        return head.submit(*trial.entry_point, job="one").returncode

    wait_for(submit_again, (0,))
    require_resumed(trial)


@pytest.mark.timeout(800)
def test_a_job_on_a_bucket_goes_on_after_its_head_was_killed(
    start: Callable[..., Head],
    kill_all: Callable[[Head], None],
    long_trial: Callable[[str], LongTrial],
    processes_in: Callable[[Path], list[int]],
    s3_environment: dict[str, str],  # noqa: F811
) -> None:
    """A new head knows nothing of the first, so the same id is submitted again; the dead job's lease is waited for.

    That a second job is refused meanwhile is tested above, on a disk; buckets in `tests/hemo/test_output_lock.py`.
    """
    filesystem("s3://resubmitted")[0].mkdir("resubmitted")
    trial = long_trial("s3://resubmitted/records")
    first = start(s3_environment)
    first.submit(*trial.entry_point, job="one", wait=False)
    trial.stop_in_the_middle(lambda: processes_in(first.place))
    kill_all(first)
    again = start(s3_environment).submit(*trial.entry_point, job="one")
    assert again.returncode == 0, again.stdout
    require_resumed(trial)
