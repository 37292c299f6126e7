"""Provenance of a record: library versions, git commit, time."""

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import hemo

RECORDED_PACKAGES = ("torch", "timm", "torchmetrics", "numpy", "ray")


def versions(*more: str) -> dict[str, str]:
    """Return the versions of Python, hemo and the packages that results depend on, and of `more` packages."""
    packages = {name: importlib.metadata.version(name) for name in (*RECORDED_PACKAGES, *more)}
    return {"python": platform.python_version(), "hemo": hemo.__version__, **packages}


def commit() -> str:
    """Return hemo's git commit, 12 digits, with `-dirty` where files differ from it; empty without a checkout."""
    folder = Path(hemo.__file__).parent
    try:
        described = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parents[1]), "GIT_OPTIONAL_LOCKS": "0"},
        )
    except FileNotFoundError:
        return ""
    return described.stdout.strip() if described.returncode == 0 else ""


def now() -> str:
    """Return the time in UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
