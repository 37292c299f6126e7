"""Where a record comes from."""

import re
import subprocess
from datetime import datetime
from pathlib import Path

import pytest
import torch

from hemo.cluster.provenance import commit, hardware, now, versions
from hemo.training.distributed import Worker


def test_hardware_tells_workers_and_threads() -> None:
    assert re.fullmatch(r"2 x CPU \(3 threads, .+\)", hardware(Worker(count=2, threads=3)))
    assert re.fullmatch(r"1 x CPU \(1 thread, .+\)", hardware(Worker()))


def test_versions_of_what_results_depend_on() -> None:
    found = versions()
    assert re.match(r"3\.1[12]\.", found["python"])
    assert found["torch"].startswith("2.14")
    assert found["ray"].startswith("2.60")


def test_commit_is_a_hash_or_nothing() -> None:
    assert re.fullmatch(r"([0-9a-f]{12}(-dirty)?)?", commit())


def test_a_changed_checkout_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "repo" / "hemo"
    package.mkdir(parents=True)
    monkeypatch.setattr("hemo.cluster.provenance.hemo.__file__", str(package / "__init__.py"))
    assert commit() == ""
    (package / "__init__.py").write_text("one")
    git = ["git", "-C", str(package), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"], ["tag", "v1"]):
        subprocess.run([*git, *command], check=True)
    clean = commit()
    assert re.fullmatch(r"[0-9a-f]{12}", clean)
    (package / "__init__.py").write_text("two")
    assert commit() == f"{clean}-dirty"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this process has a GPU")
def test_a_gpu_is_not_asked_for_its_name_where_there_is_none() -> None:
    assert hardware(Worker(count=2, device="cuda")) == "2 x GPU (seen from a process without one)"


def test_now_is_utc_to_the_second() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", now())
    assert datetime.fromisoformat(now()).tzinfo is not None
