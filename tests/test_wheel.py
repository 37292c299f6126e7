"""hemo from a wheel, without the clone: package data, entry points, extras."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.checkout import ROOT, copy_checkout

USE = """
import hemo
print(hemo.__file__)
hemo.Shards, hemo.convert, hemo.read_image
from hemo.reporting.published.source import published_table
print(len(published_table("head_ct").rows))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_wheel_has_all_that_the_package_needs(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    source = tmp_path / "source"
    copy_checkout(source)
    wheels = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run([*pip, *wheels], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("hemo-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    data = {"hemo/py.typed", "hemo/reporting/page/study.js", "hemo/reporting/published/head_ct.yaml"}
    assert data <= names
    assert not [name for name in names if name.startswith(("tests/", "conf/", "benchmarks/", "examples/"))]
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    (entry_points,) = (tmp_path / "site").glob("*.dist-info/entry_points.txt")
    assert "hemo = ray_jobs.__main__:main" in entry_points.read_text()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"}
    ran = subprocess.run([sys.executable, "-c", USE], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    place, rows = ran.stdout.splitlines()
    assert Path(place) == tmp_path / "site/hemo/__init__.py"
    assert int(rows) > 2


def test_the_extras_are_those_of_the_documents() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    assert extras == {
        *("all", "codecs", "dev", "explain", "export", "notebooks", "optuna-dashboard", "postgres", "s3", "tensorboard")
    }
    page = (ROOT / "docs/how-to/install.md").read_text()
    assert all(f"`{name}`" in page for name in extras - {"codecs", "dev", "s3"})
