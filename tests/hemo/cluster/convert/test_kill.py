"""Conversions that are killed at random and run again end with the bytes of an undisturbed one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_a_killed_worker_driver_or_node_leaves_no_trace():
    """One run each; `python benchmarks/kill_convert.py --runs 20` does more."""
    few = ["--runs", "3", "--kills", "1", "--slices", "600"]
    command = [sys.executable, "benchmarks/kill_convert.py", *few]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1180, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    runs = re.findall(r"^run \d: killed (.*); \d starts?, .*: same bytes$", ended.stdout, re.MULTILINE)
    kinds = {kind for run in runs for kind in re.findall(r"(worker|driver|node) at [1-9]", run)}
    assert len(runs) == 3
    assert kinds == {"worker", "driver", "node"}
    assert ended.stdout.endswith("3 of 3 runs ended with the bytes of the undisturbed one\n")
