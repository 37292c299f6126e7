"""Jobs on a cluster whose nodes come when tasks wait, and leave when idle."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1400)
def test_nodes_come_for_what_a_job_needs_and_leave() -> None:
    """Two nodes or more for a conversion and none with a GPU; for a training on a GPU it comes, and no CPU does.

    For images that nobody takes one node reads until its memory is full, and no other comes meanwhile (ray#45331). The
    script ends with code 1 otherwise, and where a node stays.
    """
    command = [sys.executable, "benchmarks/autoscale_jobs.py", "--units", "48"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1380, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    convert, held, train = re.split("## (?:held|train)", ended.stdout)
    assert re.search(r"^\| [\d.]+ \| 0 \| 0 \|$", convert, re.MULTILINE)
    assert re.search(r"^\| [\d.]+ \| [23] \| 0 \|$", convert, re.MULTILINE)
    assert re.search(r"^\| [\d.]+ \| 1 \| 0 \|$", held, re.MULTILINE)
    assert re.search(r"^\| [\d.]+ \| \d \| 1 \|$", train, re.MULTILINE)
    assert "the trial failed: " in train
    assert "epoch 1" not in ended.stderr
