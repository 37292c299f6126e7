"""A sweep whose driver is killed goes on from its records and ends with the same table."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from hemo.curation.card import read_card
from hemo.trials.record import read_records

ROOT = Path(__file__).parents[4]
TINY = {"model": {"backbone": "test_resnet"}, "training": {"epochs": 2, "batch_size": 16}}


def begin(conf):
    command = [sys.executable, "-m", "ray_jobs.tune", "--config", str(conf)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.timeout(600)
def test_a_killed_driver_loses_no_cell_and_repeats_none(make_training_set, tmp_path, make_ray_folder):
    folder, out = make_training_set(), tmp_path / "records"
    sweep = {"training_set": folder, "out": str(out), "trial": TINY, "grid": {"axes": {"seed": [0, 1, 2]}}}
    cluster = {"address": "local", "cpus": 1, "temp_dir": str(make_ray_folder())}
    conf = tmp_path / "grid.yaml"
    conf.write_text(yaml.safe_dump({**sweep, "cluster": cluster}))
    killed = begin(conf)
    while not list(out.glob("*/record.json")):
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    written = {file: file.stat().st_mtime_ns for file in out.glob("*/record.json")}
    said, told = begin(conf).communicate(timeout=500)
    assert f"3 trials, {len(written)} of them finished already" in told
    records = read_records(str(out))
    assert sorted(record.config.seed for record in records) == [0, 1, 2]
    assert {(record.status, record.training_set) for record in records} == {("complete", read_card(folder).digest)}
    assert all(file.stat().st_mtime_ns == at for file, at in written.items())
    assert said.splitlines()[-1] == str(out)
