"""How many trials run at once, and who stops them."""

from types import SimpleNamespace

import pytest
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule

from hemo.cluster import tuning
from hemo.cluster.tuning import TrialLines, most_epochs, record_losses, trial_resources, trial_scheduler
from hemo.config.trial import TrialConfig
from hemo.config.tune import TuneConfig
from hemo.errors import OutputError

SPACE = {"model.dense_width": {"low": 8, "high": 64}}


def job(search=None, **fields):
    kind = {"search": {"space": SPACE, **search}} if search else {"grid": {"axes": {"seed": [0, 1]}}}
    return TuneConfig.model_validate({"training_set": "/set", "out": "/out", **kind, **fields})


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


def test_one_loss_that_cannot_be_recorded_does_not_hide_the_others(monkeypatch, tmp_path):
    written = []

    def write(folder, record, predictions):
        if record == "a":
            raise OutputError("disk full")
        written.append(record)

    monkeypatch.setattr(tuning, "write_record", write)
    monkeypatch.setattr(tuning, "failed_record", lambda trial, card, worker, reason: trial.name)
    lost = [(TrialConfig(name=name).model_dump(mode="json"), "killed") for name in "abc"]
    resident = SimpleNamespace(card=SimpleNamespace(digest="feed"))
    with pytest.raises(OutputError, match="disk full") as fault:
        record_losses(lost, job(out=str(tmp_path)), resident, 0.0)
    assert written == ["b", "c"]
    assert fault.value.__notes__ == ["a failed (killed) and could not be recorded"]


def test_a_trial_without_the_metric_is_no_best_one(capsys):
    TrialLines(1, "val_auroc").on_trial_complete(1, [], EndedTrial("a", status="complete", epoch=3, val_loss=0.5))
    assert capsys.readouterr().err == "1/1 trials: a: complete after 3 epochs, val_loss 0.5000\n"
