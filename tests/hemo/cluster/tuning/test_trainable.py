"""A trial that stands still after each epoch."""

from types import SimpleNamespace

import pytest

from hemo.cluster.tuning import trainable
from hemo.cluster.tuning.trainable import Steps, TrialRun, epoch_result, record_result, trial_worker
from hemo.config.trial import TrialConfig
from hemo.config.tune import TuneConfig
from hemo.errors import ConfigError, TrialError
from hemo.training.data.dataset import TrialData
from hemo.training.reporting import EpochMetrics
from hemo.trials.record import TrialRecord, record_digest, write_record


def figures(epoch):
    return EpochMetrics(epoch, {"loss": 0.5}, {"loss": 1 / epoch, "auroc": 0.75}, 1e-4, 1.0, 10.0)


def record(status, epochs):
    done = [vars(figures(epoch)) for epoch in range(1, epochs + 1)]
    fields = {"config": TrialConfig(), "classes": ("any",), "training_set": "set", "split": "by_patient"}
    fields |= {"epochs": done, "best_epoch": epochs, "metrics": {"val": {"loss": 0.25, "auroc": 0.75}}}
    return TrialRecord(digest="d", status=status, **fields)


def trial(epochs, log):
    """Return a trial that notes how far it came."""

    def body(reporter):
        for epoch in range(1, epochs + 1):
            log.append(epoch)
            if not reporter.epoch(figures(epoch)):
                return record("pruned", epoch)
        return record("complete", epochs)

    return body


def test_epochs_come_one_by_one_and_the_record_last():
    log = []
    steps = Steps(trial(3, log), epochs=3)
    assert (steps.next().epoch, log) == (1, [1])
    assert (steps.next().epoch, log) == (2, [1, 2])
    last = steps.next()  # nobody may stop the trial after its last epoch
    assert (last.status, log) == ("complete", [1, 2, 3])
    steps.stop()


def test_a_stopped_trial_writes_its_record_before_stop_returns():
    log = []
    ended = []

    def body(reporter):
        ended.append(trial(3, log)(reporter))
        return ended[0]

    steps = Steps(body, epochs=3)
    steps.next()
    steps.stop()
    assert (ended[0].status, log) == ("pruned", [1])


def test_what_a_trial_dies_of_is_raised_where_it_is_asked():
    def body(reporter):
        raise RuntimeError("no such device")

    with pytest.raises(RuntimeError, match="no such device"):
        Steps(body, epochs=3).next()


def test_what_tune_is_told():
    """In the end the best epoch's own figures, not those at the threshold that validation chose: 1/3, not 0.25."""
    assert epoch_result(figures(2)) == {"epoch": 2, "val_loss": 0.5, "val_auroc": 0.75}
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


def test_a_trial_gets_its_share_of_the_machine():
    job = TuneConfig(training_set="/set", out="/out", grid={"axes": {"seed": [1]}}, workers={"cpus": 3.5})
    assert (trial_worker(job, 0.0).threads, trial_worker(job, 0.0).device, trial_worker(job, 0.5).device) == (
        3,
        "cpu",
        "cuda",
    )


def trial_run(out, **kind):
    """Return a trainable that began no trial."""
    run = TrialRun.__new__(TrialRun)
    run._job = TuneConfig(training_set="/set", out=str(out), **kind)
    run._shared, run._gpus = SimpleNamespace(card=SimpleNamespace(digest="set")), 0.0
    return run


def test_a_failure_that_is_recorded_is_left_as_it_is(monkeypatch, tmp_path):
    """Where the workers had a GPU, the process that waits for them could not even name it."""

    def build(*_):
        raise RuntimeError("no GPU here")

    monkeypatch.setattr(trainable, "failed_record", build)
    known = record("failed", 0).model_copy(update={"digest": record_digest(TrialConfig(), "set"), "reason": "diverged"})
    write_record(str(tmp_path), known, None)
    run = trial_run(tmp_path, grid={"axes": {"seed": [1]}})
    assert run._failed(TrialConfig(), TrialError("the trial failed: diverged")).reason == "diverged"


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
        return record(end, 1)

    monkeypatch.setattr(trainable, "failed_record", lambda *_: record("failed", 0))
    run = trial_run(tmp_path, grid={"axes": {"seed": [1]}}, retries=retries)
    assert (run._retried(TrialConfig(), attempt).status, len(ends) - len(left)) == (status, runs)


@pytest.mark.parametrize(("scheduler", "expected"), [("asha", "pruned"), ("none", "run again")])
def test_a_stopped_trial_is_over_only_where_trials_are_stopped(monkeypatch, tmp_path, scheduler, expected):
    pruned = record("pruned", 1).model_copy(update={"digest": record_digest(TrialConfig(), "set")})
    write_record(str(tmp_path), pruned, None)
    run = trial_run(tmp_path, search={"space": {"seed": {"choices": [0, 1]}}, "scheduler": scheduler})
    data = TrialData(run._shared.card, None, None, None)
    monkeypatch.setattr(trainable, "get_training_set", lambda _: data)
    monkeypatch.setattr(trainable, "run_trial", lambda *_, **__: SimpleNamespace(status="run again"))
    assert run._alone(TrialConfig(), None).status == expected
