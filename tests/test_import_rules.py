"""The import rules in pyproject.toml catch what they are there to catch."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for package in ("hemo", "ray_jobs"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint_imports(checkout: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)


def test_the_project_keeps_its_rules(checkout: Path) -> None:
    result = lint_imports(checkout)
    assert result.returncode == 0, result.stdout
    assert "3 kept, 0 broken" in result.stdout


@pytest.mark.parametrize(
    ("room", "planted", "contract"),
    [
        ("hemo/storage.py", "import hemo.digest", "Imports point down BROKEN"),
        ("hemo/training/__init__.py", "import hemo.trials.record", "Imports point down BROKEN"),
        ("hemo/trials/record.py", "import hemo.training", "Imports point down BROKEN"),
        ("hemo/cluster/session.py", "import ray_jobs.door", "Imports point down BROKEN"),
        ("hemo/trials/record.py", "import torch", "torch is known to learning and cluster only BROKEN"),
        (
            "hemo/training/__init__.py",
            "import ray",
            "Ray and W&B are known to the cluster room and the doors only BROKEN",
        ),
    ],
)
def test_a_planted_import_breaks_the_rule(checkout: Path, room: str, planted: str, contract: str) -> None:
    file = checkout / room
    file.write_text(file.read_text() + f"\n{planted}\n")
    result = lint_imports(checkout)
    assert result.returncode == 1
    assert contract in result.stdout
