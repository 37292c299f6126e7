"""A search whose study is in a PostgreSQL server, which listens on loopback."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from hemo.cluster.tuning.searchers import queue_points
from hemo.errors import ConfigError
from tests.hemo.cluster.tuning.test_searchers import begin, job, recorded

INITDB = shutil.which("initdb") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default="")
"""Of Debian's package `postgresql`."""
SERVER_USER = "postgres" if os.getuid() == 0 else None  # it refuses to run as root


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """Start a server with an empty database; its URL."""
    if not INITDB:
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory(prefix="hemo-postgresql-") as data:  # pytest's folders are closed to other users
        if SERVER_USER:
            shutil.chown(data, SERVER_USER)
        with server(Path(INITDB).resolve().parent, data) as url:
            yield url


@contextmanager
def server(binaries: Path, data: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    make = [binaries / "initdb", "-D", data, "-A", "trust", "-U", "hemo", "-N"]
    subprocess.run(make, user=SERVER_USER, cwd=data, check=True, capture_output=True)
    serve = [binaries / "postgres", "-D", data, "-p", port, "-h", "127.0.0.1", "-k", data, "-F"]
    process = subprocess.Popen(serve, user=SERVER_USER, cwd=data, stderr=subprocess.DEVNULL)
    try:
        ready = f"until {binaries}/pg_isready -q -h 127.0.0.1 -p {port}; do sleep 0.1; done"
        subprocess.run(["timeout", "30", "sh", "-c", ready], check=True)
        yield f"postgresql://hemo@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGINT)  # at SIGTERM it waits for its clients
        process.wait(30)


def test_a_search_goes_on_in_the_database(database: str, tmp_path: Path) -> None:
    """Two runs of two trials each are one study of four, with the points of both."""
    config = job(tmp_path, storage=database)
    before, first = begin(config)
    points = [first.suggest(name) for name in "ab"]
    for name in "ab":
        first.on_trial_complete(name, {"epoch": 1, "val_loss": 0.5, "status": "complete"})
    study, second = begin(config)
    assert queue_points(study, config, recorded) == 2
    points += [second.suggest(name) for name in "cd"]
    widths = [point["trial"]["model"]["dense_width"] for point in points]
    assert [trial.params["model.dense_width"] for trial in study.get_trials()] == widths
    for each in (before, study):
        each._storage._backend.engine.dispose()  # psycopg warns of connections that are still open


def test_a_search_outlives_connections_that_the_server_cuts(database: str, tmp_path: Path) -> None:
    config = job(tmp_path, storage=database).model_copy(update={"out": str(tmp_path / "other")})
    study, searcher = begin(config)
    searcher.suggest("a")
    with psycopg.connect(database) as connection:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        assert connection.execute(f"{cut} AND pid <> pg_backend_pid()").fetchall()
    searcher.on_trial_complete("a", {"epoch": 1, "val_loss": 0.5, "status": "complete"})
    assert [trial.value for trial in study.get_trials() if trial.value is not None][-1] == 0.5
    study._storage._backend.engine.dispose()


def test_a_server_that_is_not_there_and_a_driver_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = job(tmp_path, storage="postgresql://user@127.0.0.1:9/studies")
    with pytest.raises(ConfigError, match=r"search\.storage: postgresql://.* cannot be opened .*refused"):
        begin(config)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^postgres needs psycopg, not installed here; `pip install"):
        begin(config)
