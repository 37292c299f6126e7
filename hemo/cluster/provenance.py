"""Where a record comes from: hardware, versions, commit."""

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch

import hemo
from hemo.training.distributed import Worker

RECORDED_PACKAGES = ("torch", "timm", "torchmetrics", "numpy", "ray")


def hardware(worker: Worker) -> str:
    """Return processor and number of workers, such as `1 x NVIDIA H200` or `2 x CPU (1 thread, AMD EPYC 7763)`.

    A GPU is named only by a process that has one: the one that records a lost trial may have none.
    """
    if worker.device.startswith("cuda"):
        if not torch.cuda.is_available():
            return f"{worker.count} x GPU (seen from a process without one)"
        return f"{worker.count} x {torch.cuda.get_device_name(worker.device)}"
    threads = f"{worker.threads} thread{'s' if worker.threads > 1 else ''}"
    return f"{worker.count} x CPU ({threads}, {_processor()})"


def _processor() -> str:
    """Return the processor's name where Linux tells it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions(*more: str) -> dict[str, str]:
    """Return the versions of Python, hemo and what results depend on, and of `more` packages."""
    packages = {name: importlib.metadata.version(name) for name in (*RECORDED_PACKAGES, *more)}
    return {"python": platform.python_version(), "hemo": hemo.__version__, **packages}


def commit() -> str:
    """Return hemo's git commit, 12 digits, with `-dirty` where files differ from it; empty without a checkout."""
    folder = Path(hemo.__file__).parent
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parents[1]), "GIT_OPTIONAL_LOCKS": "0"},
        )
    except FileNotFoundError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def now() -> str:
    """Return the time in UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
