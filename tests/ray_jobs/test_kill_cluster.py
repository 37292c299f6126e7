"""Jobs whose nodes are killed end by themselves, with the results of undisturbed ones."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(800)
def test_a_node_killed_in_two_jobs_leaves_no_trace():
    """One run each; `python benchmarks/kill_cluster.py --runs 20 --seed 7` does more, and all five jobs.

    Of the others, `convert` loses workers, drivers and nodes in `tests/hemo/cluster/convert/test_kill.py`, `train` a
    node in `tests/hemo/cluster/test_elastic.py`, `tune` its driver in `tests/hemo/cluster/tuning/test_sweep_kill.py`.
    """
    command = [sys.executable, "benchmarks/kill_cluster.py", "--runs", "2", "--seed", "1"]
    command += ["--jobs", "curate", "predict"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=780, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    jobs = re.findall(r"^\| \d \| (\w+) \| node, [\d.]+ s \| as undisturbed.*? \|", ended.stdout, re.MULTILINE)
    assert jobs == ["curate", "predict"]
    assert ended.stdout.endswith("2 of 2 runs were disturbed, 0 ended otherwise than the undisturbed ones\n")
