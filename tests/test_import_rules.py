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
    assert "5 kept, 0 broken" in result.stdout


DOWN = "Imports point down BROKEN"
TORCH = "torch is known to what builds, trains, runs or takes in models only BROKEN"
RAY = "Ray and W&B are known to hemo.cluster and the entry points only BROKEN"
SCIKIT_LEARN = "Trials load no scikit-learn: each of their processes starts sooner without BROKEN"
CORPUS = "A file is decoded without knowing its corpus BROKEN"


@pytest.mark.parametrize(
    ("file", "planted", "contract"),
    [
        ("hemo/storage.py", "import hemo.config.load", DOWN),
        ("hemo/training/__init__.py", "import hemo.trials.record", DOWN),
        ("hemo/sweeps/results.py", "import hemo.reporting.table_format", DOWN),
        ("hemo/cluster/session.py", "import ray_jobs.entry_point", DOWN),
        ("hemo/trials/record.py", "import torch", TORCH),
        ("hemo/reporting/build.py", "import hemo.trials.run", TORCH),
        ("hemo/training/__init__.py", "import ray", RAY),
        ("hemo/imaging/settings.py", "import hemo.corpus.sources", CORPUS),
        ("hemo/imaging/dicom/read.py", "import pyarrow", CORPUS),
        ("hemo/training/loss.py", "import hemo.curation.split", SCIKIT_LEARN),
    ],
)
def test_a_planted_import_breaks_the_rule(checkout: Path, file: str, planted: str, contract: str) -> None:
    place = checkout / file
    place.write_text(place.read_text() + f"\n{planted}\n")
    result = lint_imports(checkout)
    assert result.returncode == 1
    assert contract in result.stdout
