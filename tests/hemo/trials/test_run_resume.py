"""Trials that are killed, or interrupted on an object store, and run again."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from hemo.config.trial import TrialConfig
from hemo.models.checkpoint import load_checkpoint, read_state
from hemo.storage import list_files
from hemo.training.data.dataset import read_training_set
from hemo.training.distributed import Worker
from hemo.trials.record import TrialRecord, read_predictions
from hemo.trials.run import run_trial
from tests.records import trial_digest
from tests.s3 import s3_environment  # noqa: F401 (a fixture)
from tests.trial_runs import run_to_record, trial_key

Maker = Callable[..., str]

RUNNING = {"checkpoint/state.pt", "progress.json"}
"""Last and best weights of a running trial lie in one file."""
ENDED = {"record.json", "predictions.parquet", "checkpoint/weights.safetensors", "checkpoint/checkpoint.json"}

KILLED = """
import os, signal, sys
from hemo import storage
from hemo.trials.run import run_trial
from hemo.config.trial import TrialConfig
from hemo.training import loop
from hemo.training.data.dataset import read_training_set
from hemo.training.reporting import run_to_end
from hemo.training.distributed import Worker
from hemo.trials.key import TrialKeys

def dying(function, *, call):
    calls = iter(range(1, call))
    def wrapped(*given, **named):
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*given, **named)
    return wrapped

config, folder, out, where = sys.argv[1:]
if where == "step":
    loop._take_step = dying(loop._take_step, call=9)  # of 6 an epoch: in the middle of the second
else:
    write_state = loop.write_state
    def half_written(*given):
        storage.os.fsync = dying(os.fsync, call=1)
        write_state(*given)
    calls = iter((write_state, half_written))
    loop.write_state = lambda *given: next(calls)(*given)
trial = TrialConfig.model_validate_json(config)
key, data = TrialKeys(out, "feedfacefeedface").key(trial), read_training_set(folder)
run_to_end(run_trial(key, folder, worker=Worker(), data=data))
"""


def _files(out: str, digest: str) -> set[str]:
    return set(list_files(f"{out}/{digest}"))


def _require_alike(found: TrialRecord, out: str, expected: TrialRecord, there: str) -> None:
    """Compare what does not depend on the clock."""
    assert [(epoch.train, epoch.val) for epoch in found.epochs] == [
        (epoch.train, epoch.val) for epoch in expected.epochs
    ]
    assert (found.metrics, found.thresholds) == (expected.metrics, expected.thresholds)
    assert read_predictions(out, found.digest).equals(read_predictions(there, expected.digest))
    assert _files(out, found.digest) == _files(there, expected.digest) == ENDED


@pytest.mark.usefixtures("s3_environment")
def test_a_trial_on_a_bucket_goes_on_after_an_interruption(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path
) -> None:
    folder, out = make_training_set(), "s3://trial-records/records"
    fsspec.filesystem("s3").mkdir("trial-records")
    key, data = trial_key(tiny_trial, folder, out), read_training_set(folder)
    killed = run_trial(key, folder, worker=Worker(), data=data)
    for _ in range(2):
        next(killed)
    killed.close()
    digest = trial_digest(tiny_trial, "feedfacefeedface")
    assert _files(out, digest) == RUNNING
    assert read_state(f"{out}/{digest}/checkpoint/state.pt")["progress"]["best_epoch"] in (1, 2)
    resumed = run_to_record(tiny_trial, folder, out)
    _require_alike(resumed, out, run_to_record(tiny_trial, folder, str(tmp_path)), str(tmp_path))
    assert load_checkpoint(f"{out}/{digest}/checkpoint")[1].thresholds == resumed.thresholds


@pytest.mark.slow
@pytest.mark.parametrize("where", ["step", "state"])
def test_a_trial_killed_in_mid_epoch_or_while_it_saves_goes_on_from_the_epoch_before(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path, where: str
) -> None:
    folder, out = make_training_set(), str(tmp_path / "killed")
    command = [sys.executable, "-c", KILLED, tiny_trial.model_dump_json(), folder, out, where]
    assert subprocess.run(command, check=False, timeout=300).returncode == -signal.SIGKILL
    digest = trial_digest(tiny_trial, "feedfacefeedface")
    left = _files(out, digest)
    assert left >= RUNNING
    assert len(left - RUNNING) == (1 if where == "state" else 0)  # the file that was being written
    assert len(read_state(f"{out}/{digest}/checkpoint/state.pt")["progress"]["epochs"]) == 1
    resumed = run_to_record(tiny_trial, folder, out)
    _require_alike(resumed, out, run_to_record(tiny_trial, folder, str(tmp_path / "whole")), str(tmp_path / "whole"))
