"""How many trials run at once, and who stops them."""

import pytest
import ray
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule

from hemo.cluster.tuning import TrialLines, most_epochs, trial_resources, trial_scheduler, trials_at_once
from hemo.config.tune import TuneConfig

SPACE = {"model.dense_width": {"low": 8, "high": 64}}


def job(search=None, **fields):
    kind = {"search": {"space": SPACE, **search}} if search else {"grid": {"axes": {"seed": [0, 1]}}}
    return TuneConfig.model_validate({"training_set": "/set", "out": "/out", **kind, **fields})


@pytest.mark.parametrize(
    ("workers", "gpus", "count", "expected"),
    [
        ({}, 0.0, 20, 8),  # 8 CPUs, one each
        ({"cpus": 3}, 0.0, 20, 2),
        ({"cpus": 3}, 1.0, 20, 2),
        ({"cpus": 1}, 0.5, 20, 4),  # 2 GPUs, half a GPU each
        ({"cpus": 1}, 0.0, 3, 3),  # no more than there are
        ({"cpus": 16}, 0.0, 3, 1),  # an autoscaling cluster may grow
        ({"cpus": 2, "count": 2}, 0.0, 20, 2),
    ],
)
def test_trials_at_once(monkeypatch, workers, gpus, count, expected):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0})
    assert trials_at_once(job(workers=workers), gpus, count) == expected
    assert trials_at_once(job(workers=workers, concurrent=5), gpus, count) == 5


def test_a_trial_of_several_workers_only_waits_for_them():
    assert trial_resources(job(workers={"cpus": 3}), 0.5) == {"CPU": 3, "GPU": 0.5}
    assert trial_resources(job(workers={"cpus": 3}), 0.0) == {"CPU": 3}
    assert trial_resources(job(workers={"cpus": 3, "count": 4}), 1.0)["CPU"] == 0


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
    assert type(trial_scheduler(job(search))) is kind


def test_most_epochs_of_a_search():
    assert most_epochs(job({"scheduler": "asha"})) == 30
    assert most_epochs(job({"space": {"training.epochs": {"low": 3, "high": 7}}})) == 7
    assert most_epochs(job({"space": {"training.epochs": {"choices": [9, 5]}}})) == 9


class EndedTrial:
    """What Tune hands to a callback."""

    def __init__(self, name, error=None, **result):
        self.config, self.last_result, self._error = {"trial": {"name": name}}, result, error

    def get_error(self):
        return self._error


def test_a_line_for_each_trial_that_ends(capsys):
    lines = TrialLines(4, "val_accuracy")
    lines.on_trial_complete(1, [], EndedTrial("a", status="complete", epoch=3, val_loss=0.5, val_accuracy=0.75))
    lines.on_trial_complete(1, [], EndedTrial("b", status="complete", epoch=3, val_loss=0.25, val_accuracy=0.5))
    lines.on_trial_complete(1, [], EndedTrial("c", epoch=1, val_loss=0.7))
    lines.on_trial_error(1, [], EndedTrial("d", error=RuntimeError("first line\nthe worker died")))
    assert capsys.readouterr().err.splitlines() == [
        "1/4 trials: a: complete after 3 epochs, val_loss 0.5000, val_accuracy 0.7500; best val_accuracy 0.7500: a",
        "2/4 trials: b: complete after 3 epochs, val_loss 0.2500, val_accuracy 0.5000; best val_accuracy 0.7500: a",
        "3/4 trials: c: pruned after 1 epochs, val_loss 0.7000; best val_accuracy 0.7500: a",
        "4/4 trials: d: failed: the worker died; best val_accuracy 0.7500: a",
    ]
    assert lines.lost == [({"name": "d"}, "the worker died")]
