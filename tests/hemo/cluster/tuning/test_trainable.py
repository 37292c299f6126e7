"""One trial, an epoch a step."""

from types import SimpleNamespace

import pytest

from hemo.cluster.tuning import trainable
from hemo.cluster.tuning.searchers import tune_point
from hemo.cluster.tuning.trainable import TrialRun, epoch_result, record_result, trial_worker
from hemo.config.trial import TrainingConfig, TrialConfig
from hemo.config.tune import TuneConfig
from hemo.errors import ConfigError, TrialError
from hemo.models.checkpoint import write_state
from hemo.training.data.dataset import TrialData
from hemo.training.reporting import run_to_end
from hemo.training.results import EpochMetrics
from hemo.trials.key import TrialKeys
from hemo.trials.record import TrialRecord, write_record


def metrics(epoch):
    return EpochMetrics(
        epoch=epoch,
        train={"loss": 0.5},
        val={"loss": 1 / epoch, "auroc": 0.75},
        learning_rate=1e-4,
        seconds=1.0,
        images_per_second=10.0,
    )


def record(status, epochs):
    done = tuple(metrics(epoch) for epoch in range(1, epochs + 1))
    fields = {"config": TrialConfig(), "classes": ("any",), "training_set": "set", "split": "by_patient"}
    fields |= {"epochs": done, "best_epoch": epochs, "metrics": {"val": {"loss": 0.25, "auroc": 0.75}}}
    return TrialRecord(digest="d", status=status, **fields)


def trial_run(out, *, epochs=30, **kind):
    """Return a trainable that began no trial; `_key` is that of a trial of this many epochs."""
    run = TrialRun.__new__(TrialRun)
    run._job = TuneConfig(training_set="/set", out=str(out), **kind)
    run._shared, run._gpus = SimpleNamespace(card=SimpleNamespace(digest="set")), 0.0
    run._key, run._reported = TrialKeys(str(out), "set").key(TrialConfig(training=TrainingConfig(epochs=epochs))), 0
    return run


def stepping(tmp_path, log, *, epochs=3, error=None):
    """Return a trainable whose trial logs its epochs, or raises in the second."""

    def body():
        for epoch in range(1, epochs + 1):
            if error and epoch == 2:
                raise error
            log.append(epoch)
            if (yield metrics(epoch)):
                log.append("stopped")
                return record("pruned", epoch)
        return record("complete", epochs)

    run = trial_run(tmp_path, epochs=epochs, grid={"axes": {"seed": [1]}})
    run._epochs = body()
    return run


def test_epochs_come_one_by_one_and_the_record_with_the_last(tmp_path):
    """No scheduler may stop the trial between its last epoch and its evaluation."""
    log = []
    run = stepping(tmp_path, log)
    assert ([run.step()["epoch"], run.step()["epoch"]], log) == ([1, 2], [1, 2])
    last = run.step()
    assert (last["status"], last["done"], log) == ("complete", True, [1, 2, 3])
    run.record_as_pruned()
    assert log == [1, 2, 3]


def test_a_trial_that_ends_before_its_last_epoch_is_done_at_the_next_step(tmp_path):
    run = stepping(tmp_path, [], epochs=1)
    run._key = trial_run(tmp_path, epochs=9, grid={"axes": {"seed": [1]}})._key  # its patience ends it after one
    assert run.step()["epoch"] == 1
    assert run.step()["status"] == "complete"


def test_a_resumed_trial_reports_the_epochs_before_once(tmp_path):
    """Killed after its second epoch it goes on at the third; the fourth follows without them."""
    run = trial_run(tmp_path, search={"space": {"seed": {"choices": [0, 1]}}})
    run._epochs = iter([metrics(3), metrics(4)])
    saved = [metrics(epoch).model_dump() for epoch in (1, 2, 3)]
    write_state(run._key.state_path, {"progress": {"epochs": saved}})
    earlier = [{"epoch": 1, "val_loss": 1.0, "val_auroc": 0.75}, {"epoch": 2, "val_loss": 0.5, "val_auroc": 0.75}]
    assert run.step() == {"epoch": 3, "val_loss": 1 / 3, "val_auroc": 0.75, "earlier": earlier}
    assert run.step() == {"epoch": 4, "val_loss": 0.25, "val_auroc": 0.75}


def test_a_trial_that_the_scheduler_stops_writes_its_record(tmp_path):
    log = []
    run = stepping(tmp_path, log)
    run.record_as_pruned()  # not begun: there is nothing to stop
    run.step()
    run.record_as_pruned()
    run.record_as_pruned()
    assert log == [1, "stopped"]


def test_a_process_that_tune_ends_leaves_its_trial_to_be_resumed(tmp_path):
    """So it is when the sweep ends by an error of its own."""
    log = []
    run = stepping(tmp_path, log)
    run.step()
    run.cleanup()
    assert log == [1]


def test_the_next_trial_of_a_process_begins_where_the_last_was_stopped(tmp_path, monkeypatch):
    log = []
    run = stepping(tmp_path, log)
    run.step()
    run.record_as_pruned()
    monkeypatch.setattr(TrialRun, "_run", lambda self: iter(["next"]))
    key = TrialKeys(str(tmp_path), "set").key(TrialConfig(seed=7))
    assert run.reset_config(tune_point(key))
    assert (log, run._key, next(run._epochs)) == ([1, "stopped"], key, "next")


def test_the_error_of_a_trial_is_raised_by_its_step(tmp_path):
    run = stepping(tmp_path, [], error=RuntimeError("no such device"))
    run.step()
    with pytest.raises(RuntimeError, match="no such device"):
        run.step()


def test_results_for_tune():
    """In the end the best epoch's own metrics, not those at the threshold that validation chose: 1/3, not 0.25."""
    assert epoch_result(metrics(2)) == {"epoch": 2, "val_loss": 0.5, "val_auroc": 0.75}
    ended = record("complete", 3).model_copy(update={"latency_ms": 4.5})
    assert record_result(ended) == {
        "latency_ms": 4.5,
        "done": True,
        "epoch": 3,
        "status": "complete",
        "digest": "d",
        "val_loss": 1 / 3,
        "val_auroc": 0.75,
    }


def test_a_trial_gets_its_part_of_the_machine():
    job = TuneConfig(training_set="/set", out="/out", grid={"axes": {"seed": [1]}}, workers={"cpus": 3.5})
    assert (trial_worker(job, 0.0).threads, trial_worker(job, 0.0).device, trial_worker(job, 0.5).device) == (
        3,
        "cpu",
        "cuda",
    )


def test_a_failure_that_is_recorded_is_left_as_it_is(monkeypatch, tmp_path):
    """Where the workers had a GPU, the process that waits for them could not even name it."""

    def build(*_):
        raise RuntimeError("no GPU here")

    monkeypatch.setattr(trainable, "failed_record", build)
    run = trial_run(tmp_path, grid={"axes": {"seed": [1]}})
    known = record("failed", 0).model_copy(update={"digest": run._key.digest, "reason": "diverged"})
    write_record(str(tmp_path), known, None)
    assert run._failed(TrialError("the trial failed: diverged")).reason == "diverged"


@pytest.mark.parametrize(
    ("ends", "retries", "status", "runs"),
    [
        (["failed", "complete"], 1, "complete", 2),
        (["failed", "failed", "complete"], 1, "failed", 2),
        (["failed", "complete"], 0, "failed", 1),
        ([TrialError("lost"), TrialError("lost"), "complete"], 2, "complete", 3),
        ([TrialError("lost")], 0, "failed", 1),
        ([ConfigError("no such weights")], 3, "failed", 1),  # nobody but the user can mend it
    ],
)
def test_a_failed_trial_is_run_again_as_often_as_configured(monkeypatch, tmp_path, ends, retries, status, runs):
    left = list(ends)

    def attempt():
        end = left.pop(0)
        if isinstance(end, Exception):
            raise end
        yield metrics(1)
        return record(end, 1)

    monkeypatch.setattr(trainable, "failed_record", lambda *_: record("failed", 0))
    run = trial_run(tmp_path, grid={"axes": {"seed": [1]}}, retries=retries)
    assert (run_to_end(run._retried(attempt)).status, len(ends) - len(left)) == (status, runs)


@pytest.mark.parametrize(("scheduler", "expected"), [("asha", "pruned"), ("none", "run again")])
def test_a_stopped_trial_is_over_only_where_trials_are_stopped(monkeypatch, tmp_path, scheduler, expected):
    run = trial_run(tmp_path, search={"space": {"seed": {"choices": [0, 1]}}, "scheduler": scheduler})
    pruned = record("pruned", 1).model_copy(update={"digest": run._key.digest})
    write_record(str(tmp_path), pruned, None)
    data = TrialData(run._shared.card, None, None, None)

    def run_again(*_, **__):
        yield metrics(1)
        return SimpleNamespace(status="run again")

    monkeypatch.setattr(trainable, "get_training_set", lambda _: data)
    monkeypatch.setattr(trainable, "run_trial", run_again)
    assert run_to_end(run._run()).status == expected
