"""A trial that stands still after each epoch."""

import pytest

from hemo.cluster.trainable import Steps, epoch_result, record_result, trial_worker
from hemo.config.trial import TrialConfig
from hemo.config.tune import TuneConfig
from hemo.learning.figures import EpochFigures
from hemo.study.record import TrialRecord


def figures(epoch):
    return EpochFigures(epoch, {"loss": 0.5}, {"loss": 1 / epoch, "auroc": 0.75}, 1e-4, 1.0, 10.0)


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
    assert record_result(record("complete", 3)) == {
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
