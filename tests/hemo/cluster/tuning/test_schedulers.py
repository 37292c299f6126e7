"""Early stopping of poor trials, the scheduler alone: trials of which this run has not seen every epoch."""

import pytest
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule

from hemo.cluster.tuning.schedulers import most_epochs, trial_scheduler
from hemo.config.trial import TrialConfig
from hemo.config.tune import TuneConfig
from hemo.training.results import EpochMetrics
from hemo.trials.record import TrialRecord

SPACE = {"model.dense_width": {"low": 8, "high": 64}}


def job(search=None):
    kind = {"search": {"space": SPACE, **search}} if search else {"grid": {"axes": {"seed": [0, 1]}}}
    return TuneConfig.model_validate({"training_set": "/set", "out": "/out", **kind})


class TuneTrial:
    """What Tune hands to a scheduler."""

    def __init__(self, name):
        self.trial_id = name


def result(quality, epoch):
    """Return what Tune gets after an epoch: the loss falls to `quality`."""
    return {"epoch": epoch, "val_loss": quality + 1 / epoch}


def begun(scheduler, name):
    trial = TuneTrial(name)
    scheduler.on_trial_add(None, trial)
    return trial


def resumed(scheduler, name, quality, epoch):
    """Report the first two epochs of a trial that goes on at `epoch`; return what becomes of it."""
    trial = begun(scheduler, name)
    first = {**result(quality, epoch), "earlier": [result(quality, done) for done in range(1, epoch)]}
    return [scheduler.on_trial_result(None, trial, each) for each in (first, result(quality, epoch + 1))]


def pruned(digest, quality, epochs):
    fields = {"train": {}, "learning_rate": 1e-4, "seconds": 1.0, "images_per_second": 1.0}
    done = [EpochMetrics(epoch=n, val={"loss": quality + 1 / n}, **fields) for n in range(1, epochs + 1)]
    kept = {"classes": ("any",), "training_set": "set", "split": "by_patient", "epochs": tuple(done)}
    return TrialRecord(digest=digest, status="pruned", config=TrialConfig(), **kept)


@pytest.mark.parametrize(
    ("search", "kind"),
    [
        (None, FIFOScheduler),
        ({"scheduler": "none"}, FIFOScheduler),
        ({"scheduler": "asha"}, ASHAScheduler),
        ({"scheduler": "asha", "grace_epochs": 50}, ASHAScheduler),  # longer than any trial: nobody is stopped
        ({"scheduler": "median"}, MedianStoppingRule),
    ],
)
def test_schedulers(search, kind):
    assert isinstance(trial_scheduler(job(search)), kind)


def test_most_epochs_of_a_search():
    assert most_epochs(job({"scheduler": "asha"})) == 30
    assert most_epochs(job({"space": {"training.epochs": {"low": 3, "high": 7}}})) == 7
    assert most_epochs(job({"space": {"training.epochs": {"choices": [9, 5]}}})) == 9


def test_a_resumed_trial_is_in_the_rung_of_an_epoch_with_the_loss_of_that_epoch():
    """Losses of .3 + 1 / epoch: .8 at the rung of epoch 2, .425 at that of 8. At 11 it was .391, at 12 .383."""
    asha = trial_scheduler(job({"scheduler": "asha"}))
    assert resumed(asha, "resumed", 0.3, 11) == ["CONTINUE"] * 2
    rungs = {milestone: dict(recorded) for milestone, recorded in asha._brackets[0]._rungs}
    assert rungs == {8: {"resumed": -0.425}, 2: {"resumed": -0.8}}
    better = begun(asha, "fresh")
    assert asha.on_trial_result(None, better, {"epoch": 2, "val_loss": 0.52}) == "CONTINUE"
    worse = begun(asha, "worse")
    assert asha.on_trial_result(None, worse, {"epoch": 2, "val_loss": 0.81}) == "STOP"


def test_an_earlier_epoch_does_not_stop_a_resumed_trial():
    """At epoch 2 the second one had a loss of .9, the first .8; this was decided when it was trained."""
    asha = trial_scheduler(job({"scheduler": "asha"}))
    resumed(asha, "first", 0.3, 11)
    assert resumed(asha, "second", 0.4, 11) == ["CONTINUE"] * 2


def test_trials_that_ended_in_an_earlier_run_are_compared_with():
    """Without them the best of all, which runs on, would stop every other one: losses of .85 and .8 at epoch 2."""
    config = job({"scheduler": "asha"})
    ended = [pruned(f"p{number}", 0.5, 2) for number in range(4)]
    for earlier, action in (([], "STOP"), (ended, "CONTINUE")):
        asha = trial_scheduler(config, earlier)
        resumed(asha, "best", 0.3, 11)
        assert asha.on_trial_result(None, begun(asha, "fresh"), result(0.35, 2)) == action


def test_the_metrics_of_a_best_epoch_are_in_no_rung():
    """A point that was drawn again ends at once, with the record that it has."""
    asha = trial_scheduler(job({"scheduler": "asha"}))
    again = begun(asha, "again")
    asha.on_trial_complete(None, again, {"epoch": 30, "val_loss": 0.3, "status": "complete"})
    assert [recorded for _, recorded in asha._brackets[0]._rungs] == [{}, {}]


def test_the_median_rule_takes_the_mean_of_all_epochs():
    """Of epochs 2 to 12 a loss of .3 + 1 / epoch has a mean of .491, of 11 and 12 alone .387."""
    median = trial_scheduler(job({"scheduler": "median"}), [pruned("p", 0.3, 12)])
    for name in "ab":
        assert resumed(median, name, 0.3, 11) == ["CONTINUE"] * 2
    for name, val_loss, action in (("fresh", 0.49, "CONTINUE"), ("poor", 0.492, "STOP")):
        assert median.on_trial_result(None, begun(median, name), {"epoch": 12, "val_loss": val_loss}) == action
