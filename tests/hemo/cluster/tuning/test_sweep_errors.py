"""Errors in a sweep's own process, and trials that the scheduler stopped: what they leave."""

import errno
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from optuna.study import Study
from optuna.trial import TrialState

from hemo.cluster.tuning import sweep as sweep_module
from hemo.cluster.tuning.console import SweepConsole
from hemo.cluster.tuning.searchers import tune_point
from hemo.cluster.tuning.sweep import database_errors, tune_models
from hemo.cluster.tuning.trainable import StoppedTrials, TrialRun
from hemo.config.trial import TrialConfig
from hemo.errors import HemoError, is_disk_full
from hemo.trials.key import TrialKeys
from hemo.trials.record import has_record
from tests.hemo.cluster.tuning.test_searchers import begin, job, states
from tests.hemo.cluster.tuning.test_sweep import SPACE, TINY, sweep

with_ray = pytest.mark.usefixtures("ray_cluster")


def disk_full():
    return OSError(errno.ENOSPC, "No space left on device")


def test_an_error_at_the_end_of_a_trial_is_kept_for_the_end_of_the_step(tmp_path, monkeypatch):
    """Tune would take it for a failure of the trial, and start that again."""

    def fail(*_, **__):
        raise disk_full()

    study, searcher = begin(job(tmp_path))
    searcher.suggest("a")
    searcher.raise_error()
    with monkeypatch.context() as full:
        full.setattr(study, "tell", fail)
        searcher.on_trial_complete("a", {"epoch": 1, "val_loss": 0.5, "status": "complete"})
    searcher.on_trial_complete("unknown")
    with pytest.raises(OSError, match="No space left on device"):
        searcher.raise_error()
    assert states(study) == [TrialState.RUNNING]


def test_an_error_of_the_database_names_it_in_one_line(tmp_path):
    """Its table of trials was removed while the search ran."""
    storage = f"sqlite:///{tmp_path}/study.db"
    _, searcher = begin(job(tmp_path, storage=storage))
    searcher.suggest("a")
    with closing(sqlite3.connect(tmp_path / "study.db")) as database:
        database.execute("DROP TABLE trial_values")
    searcher.on_trial_complete("a", {"epoch": 1, "val_loss": 0.5, "status": "complete"})
    message = rf"^search\.storage: {storage}: no such table: trial_values; run the same command again when the data"
    with pytest.raises(HemoError, match=message) as raised, database_errors(storage):
        searcher.raise_error()
    assert "\n" not in str(raised.value)


@with_ray
@pytest.mark.parametrize(
    "kind",
    [
        {"grid": {"axes": {"seed": [0]}}},
        {"search": {"space": SPACE, "first": [{"model.dense_width": 8}], "trials": 1, "grace_epochs": 4}},
    ],
    ids=["grid", "search"],
)
def test_an_error_of_the_sweep_itself_leaves_running_trials_as_they_are(make_training_set, tmp_path, monkeypatch, kind):
    """The disk is full after the third epoch: the trial has no record, and goes on at the fourth; its CPU is free."""
    trial = {**TINY, "training": {**TINY["training"], "epochs": 6}}
    config = sweep(make_training_set(), tmp_path / "records", trial=trial, concurrent=1, **kind)
    full, epochs = [True], []

    def see(self, iteration, trials, trial, result, **info):
        epochs.append(result["epoch"])
        if full and result["epoch"] == 3:
            raise disk_full()

    monkeypatch.setattr(SweepConsole, "on_trial_result", see)
    with pytest.raises(OSError, match="No space left on device") as raised:
        tune_models(config)
    assert is_disk_full(raised.value)
    files = {path.name for path in (tmp_path / "records").rglob("*")}
    assert ("record.json" in files, "state.pt" in files) == (False, True)
    wait_for(lambda: ray.available_resources().get("CPU") == 2)
    full.clear()
    (record,) = tune_models(config)
    assert (record.status, [metrics.epoch for metrics in record.epochs]) == ("complete", [1, 2, 3, 4, 5, 6])
    assert epochs == [1, 2, 3, 4, 5, 6]


@with_ray
def test_a_study_that_fails_when_a_trial_ends_ends_the_search_with_that_error(
    make_training_set, tmp_path, monkeypatch, capfd
):
    """Once; the trial has its record and is not started again, by the next run neither."""
    search = {"space": SPACE, "trials": 2, "scheduler": "none"}
    config = sweep(make_training_set(), tmp_path / "records", search=search, concurrent=1)
    tell, full = Study.tell, [True]

    def fail_once(*args, **options):
        if full:
            full.clear()
            raise disk_full()
        return tell(*args, **options)

    monkeypatch.setattr(Study, "tell", fail_once)
    with pytest.raises(OSError, match="No space left on device") as raised:
        tune_models(config)
    assert is_disk_full(raised.value)
    assert "goes on after its last whole epoch" not in capfd.readouterr().err
    (first,) = (tmp_path / "records").glob("*/record.json")
    records = tune_models(config)
    assert [record.status for record in records] == ["complete"] * 2
    assert records[0].digest == first.parent.name
    assert "1/2 trials" in capfd.readouterr().err


def wait_for(condition):
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.1)


@ray.remote(num_cpus=0)
class WritingActor:
    """The process of a stopped trial: it writes its record in the end, where it does not fail."""

    def record_as_pruned(self, folder, error):
        time.sleep(1)
        if error:
            raise error
        folder.mkdir()
        (folder / "record.json").touch()


def stopped(key, error=None):
    """Return what Tune hands to a callback when the scheduler has stopped a trial."""
    write = SimpleNamespace(remote=lambda: WritingActor.remote().record_as_pruned.remote(Path(key.folder), error))
    actor = SimpleNamespace(record_as_pruned=write)
    fields = {"config": tune_point(key), "last_result": {"epoch": 1}, "is_finished": lambda: True}
    return SimpleNamespace(**fields, temporary_state=SimpleNamespace(ray_actor=actor))


@with_ray
def test_records_of_stopped_trials_are_waited_for_when_none_runs(tmp_path, capsys):
    """Tune ends the processes of a sweep 10 s after the last trial was stopped, while that one writes its record."""
    keys = TrialKeys(str(tmp_path), "set")
    written, failed = (keys.key(TrialConfig(name=name, seed=seed)) for seed, name in enumerate(("a", "b")))
    callback = StoppedTrials(str(tmp_path))
    trials = [stopped(written), stopped(failed, disk_full())]
    for trial in trials:
        callback.on_trial_complete(1, trials, trial)
    callback.on_step_end(1, [*trials, SimpleNamespace(is_finished=lambda: False)])
    assert not has_record(str(tmp_path), written.digest)
    callback.on_step_end(1, trials)
    assert has_record(str(tmp_path), written.digest)
    callback.print_unrecorded()
    assert capsys.readouterr().err == (
        "b was stopped, but its record was not written (OSError: [Errno 28] No space left on device); run the same "
        "command again: it goes on after its last whole epoch\n"
    )


@with_ray
@pytest.mark.slow
def test_the_last_stopped_trial_has_time_to_write_its_record(make_training_set, tmp_path, monkeypatch):
    """It takes 15 s; Tune alone would end its process after 10 s."""

    class SlowRun(TrialRun):
        def record_as_pruned(self):
            time.sleep(15)
            super().record_as_pruned()

    monkeypatch.setattr(sweep_module, "TrialRun", SlowRun)
    rates = [0.01, 1e-9]
    space = {"training.learning_rate": {"choices": rates}}
    first = [{"training.learning_rate": rate} for rate in rates]
    search = {"space": space, "first": first, "trials": 2, "grace_epochs": 1, "scheduler": "asha"}
    trial = {**TINY, "training": {**TINY["training"], "epochs": 4}}
    config = sweep(make_training_set(), tmp_path / "records", trial=trial, search=search, concurrent=1)
    assert [record.status for record in tune_models(config)] == ["complete", "pruned"]
