"""Where a record comes from."""

import re
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from hemo.trials.provenance import commit, now, versions


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
    monkeypatch.setattr("hemo.trials.provenance.hemo.__file__", str(package / "__init__.py"))
    assert commit() == ""
    (package / "__init__.py").write_text("one")
    git = ["git", "-C", str(package), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"], ["tag", "v1"]):
        subprocess.run([*git, *command], check=True)
    clean = commit()
    assert re.fullmatch(r"[0-9a-f]{12}", clean)
    (package / "__init__.py").write_text("two")
    assert commit() == f"{clean}-dirty"


def test_now_is_utc_to_the_second() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", now())
    assert datetime.fromisoformat(now()).tzinfo is not None
