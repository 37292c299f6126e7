"""How many trials run at once, and who stops them."""

from types import SimpleNamespace

import pytest
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule

from hemo.cluster import tuning
from hemo.cluster.tuning import most_epochs, record_losses, trial_resources, trial_scheduler
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


def test_one_loss_that_cannot_be_recorded_does_not_hide_the_others(monkeypatch, tmp_path):
    written = []

    def write(folder, record, predictions):
        if record == "a":
            raise OutputError("disk full")
        written.append(record)

    monkeypatch.setattr(tuning, "write_record", write)
    monkeypatch.setattr(tuning, "failed_record", lambda trial, card, worker, reason: trial.name)
    lost = [(TrialConfig(name=name).model_dump(mode="json"), "killed") for name in "abc"]
    shared = SimpleNamespace(card=SimpleNamespace(digest="feed"))
    with pytest.raises(OutputError, match="disk full") as fault:
        record_losses(lost, job(out=str(tmp_path)), shared, 0.0)
    assert written == ["b", "c"]
    assert fault.value.__notes__ == ["a failed (killed) and could not be recorded"]
