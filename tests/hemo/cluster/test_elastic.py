"""Training with fewer workers than configured, on a cluster that loses a node."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(800)
def test_training_begins_with_two_of_three_workers_and_goes_on_with_one() -> None:
    """The batch stays: every epoch's loss is that of one worker who stays, and no epoch is trained twice."""
    command = [sys.executable, "benchmarks/elastic_train.py"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=780, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = re.findall(r"^\| (\d+) \| (\d) \| [\d.]+ \| [\d.]+ \|$", ended.stdout, re.MULTILINE)
    assert [int(epoch) for epoch, _ in rows] == [1, 2, 3, 4, 5, 6, 7, 8]
    workers = [int(count) for _, count in rows]
    assert workers[:2] == [2, 2]
    assert workers[-1] == 1
    assert workers == sorted(workers, reverse=True)
    assert f"workers: 2 from epoch 1, 1 from epoch {workers.index(1) + 1}" in ended.stdout
    assert "each epoch printed once: True" in ended.stdout
