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
from hemo.training.distributed import Worker
from hemo.training.reporting import EpochFigures, QuietReporter, Reporter
from hemo.trials.record import TrialRecord, read_predictions, record_digest
from hemo.trials.run import run_trial
from tests.s3 import s3_environment  # noqa: F401 (a fixture)

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
from hemo.training.reporting import QuietReporter
from hemo.training.distributed import Worker

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
run_trial(trial, folder, out, reporter=QuietReporter(), worker=Worker())
"""


class Interruption:
    """Someone presses Ctrl+C after the second epoch."""

    def epoch(self, figures: EpochFigures) -> bool:
        if figures.epoch == 2:
            raise KeyboardInterrupt
        return True


def _run(config: TrialConfig, folder: str, out: str, reporter: Reporter | None = None) -> TrialRecord:
    return run_trial(config, folder, out, reporter=reporter or QuietReporter(), worker=Worker())


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
    with pytest.raises(KeyboardInterrupt):
        _run(tiny_trial, folder, out, Interruption())
    digest = record_digest(tiny_trial, "feedfacefeedface")
    assert _files(out, digest) == RUNNING
    assert read_state(f"{out}/{digest}/checkpoint/state.pt")["progress"]["best_epoch"] in (1, 2)
    resumed = _run(tiny_trial, folder, out)
    _require_alike(resumed, out, _run(tiny_trial, folder, str(tmp_path)), str(tmp_path))
    assert load_checkpoint(f"{out}/{digest}/checkpoint")[1].thresholds == resumed.thresholds


@pytest.mark.slow
@pytest.mark.parametrize("where", ["step", "state"])
def test_a_trial_killed_in_mid_epoch_or_while_it_saves_goes_on_from_the_epoch_before(
    make_training_set: Maker, tiny_trial: TrialConfig, tmp_path: Path, where: str
) -> None:
    folder, out = make_training_set(), str(tmp_path / "killed")
    command = [sys.executable, "-c", KILLED, tiny_trial.model_dump_json(), folder, out, where]
    assert subprocess.run(command, check=False, timeout=120).returncode == -signal.SIGKILL
    digest = record_digest(tiny_trial, "feedfacefeedface")
    left = _files(out, digest)
    assert left >= RUNNING
    assert len(left - RUNNING) == (1 if where == "state" else 0)  # the file that was being written
    assert len(read_state(f"{out}/{digest}/checkpoint/state.pt")["progress"]["epochs"]) == 1
    resumed = _run(tiny_trial, folder, out)
    _require_alike(resumed, out, _run(tiny_trial, folder, str(tmp_path / "whole")), str(tmp_path / "whole"))
