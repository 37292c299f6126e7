"""What `ray job submit --working-dir .` uploads from a checkout."""

import zipfile
from pathlib import Path

import pytest
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package

from tests.checkout import copy_checkout

MOST_BYTES = 2_500_000


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clean checkout, but for what a user may have there."""
    copy_checkout(tmp_path / "checkout")
    for name in ("data/ID_1.dcm", "runs/x/record.json", "labels.csv", "mine.yaml", ".venv/lib/big.so", ".env"):
        file = tmp_path / "checkout" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("of the user")
    return tmp_path / "checkout"


def test_code_and_configs_are_uploaded_and_nothing_else(checkout: Path, tmp_path: Path) -> None:
    package = tmp_path / "package.zip"
    create_package(str(checkout), package, include_gitignore=True, excludes=get_runtime_env_default_excludes())
    with zipfile.ZipFile(package) as content:
        names = [name for name in content.namelist() if not name.endswith("/")]
    assert {name.split("/")[0] for name in names} == {"hemo", "ray_jobs", "conf", "cluster.yaml", "mine.yaml"}
    there = {path.relative_to(checkout).as_posix() for path in (checkout / "hemo").rglob("*") if path.is_file()}
    assert {name for name in names if name.startswith("hemo/")} == there
    assert package.stat().st_size < MOST_BYTES
