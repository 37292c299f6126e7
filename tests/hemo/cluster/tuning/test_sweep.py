"""Grids and searches on a tiny training set."""

import errno
import json
import shutil
import threading
import time
import traceback
from contextlib import nullcontext
from pathlib import Path

import pytest
from ray.tune import TuneError

from hemo.cluster.feed import put_training_set
from hemo.cluster.ray_train import RAY_FOLDER
from hemo.cluster.tuning import sweep as sweep_module
from hemo.cluster.tuning import sweep as tuning
from hemo.cluster.tuning.searchers import open_study
from hemo.cluster.tuning.sweep import errors_as_raised, record_lost_trials, trial_resources, tune_models
from hemo.config.trial import TrialConfig
from hemo.config.tune import TuneConfig
from hemo.curation.card import read_card
from hemo.errors import ConfigError, HemoError, OutputError, is_disk_full
from hemo.output_lock import output_lock
from hemo.sweeps.grid import grid_trials
from hemo.sweeps.space import point_trial
from hemo.training.data.dataset import read_training_set, with_target
from hemo.training.distributed import Worker
from hemo.trials.key import TrialKeys
from hemo.trials.progress import read_plans
from hemo.trials.record import read_predictions
from hemo.trials.run import run_trial
from tests.trial_runs import run_to_record, trial_key

pytestmark = pytest.mark.usefixtures("ray_cluster")

TINY = {"model": {"backbone": "test_resnet"}, "training": {"epochs": 2, "batch_size": 16, "learning_rate": 0.01}}

SPACE = {"model.dense_width": {"low": 8, "high": 64}}


def sweep(training_set, out, **fields):
    return TuneConfig.model_validate({"training_set": training_set, "out": str(out), "trial": TINY, **fields})


def test_a_grid_records_each_cell_and_leaves_finished_ones_alone(make_training_set, tmp_path, capfd):
    config = sweep(
        make_training_set(),
        tmp_path / "records",
        concurrent=1,
        grid={
            "cells": [
                {"name": "works"},
                {"name": "diverges", "training.learning_rate": 1e30, "training.optimizer": "sgd"},
            ]
        },
    )
    works, diverges = tune_models(config)
    assert (works.config.name, works.status, set(works.metrics)) == ("works", "complete", {"train", "val", "test"})
    assert (diverges.status, len(diverges.epochs)) == ("failed", 0)
    assert "loss is" in diverges.reason
    assert set(read_predictions(config.out, works.digest)["split"].to_pylist()) == {"val", "test"}
    assert not (tmp_path / "records" / RAY_FOLDER).exists()
    again = tune_models(config)
    assert again[0] == works
    assert again[1].status == "failed"
    said = capfd.readouterr().err
    assert "2 trials, 1 of them finished already" in said
    assert "1/1 trials: diverges: failed" in said


def test_a_search_prunes_reads_test_once_and_goes_on_from_its_study(make_training_set, tmp_path, capfd):
    space = {"training.learning_rate": {"choices": [0.01, 1e-9]}, "model.dense_width": {"low": 8, "high": 16}}
    first = [{"training.learning_rate": rate, "model.dense_width": 8} for rate in (0.01, 1e-9)]
    search = {"space": space, "first": first, "trials": 3, "grace_epochs": 1, "scheduler": "asha"}
    trial = {**TINY, "training": {**TINY["training"], "epochs": 4}}
    config = sweep(make_training_set(), tmp_path / "records", trial=trial, search=search, concurrent=1)
    records = tune_models(config)
    assert len(records) == 3
    good, hopeless = records[:2]
    assert [record.config.name for record in (good, hopeless)] == ["dense 8, lr 0.01", "dense 8, lr 1e-09"]
    assert (good.status, hopeless.status, len(hopeless.epochs)) == ("complete", "pruned", 1)
    assert hopeless.reason == "stopped by the scheduler after epoch 1"
    best = min((r for r in records if r.status == "complete"), key=lambda record: record.metrics["val"]["loss"])
    assert [record.digest for record in records if "test" in record.metrics] == [best.digest]
    assert set(read_predictions(config.out, best.digest)["split"].to_pylist()) == {"val", "test"}
    assert (best.selected_by, best.selected_among) == ("val_loss", 3)
    assert set(best.confusion) == set(best.by_pixel_format) == {"train", "val", "test"}
    (plan,) = read_plans(config.out)
    assert (plan.selected, plan.metric, plan.space) == (best.digest, "val_loss", config.search.space)
    assert {trial.digest for trial in plan.trials} == {record.digest for record in records}
    more = tune_models(config.model_copy(update={"search": config.search.model_copy(update={"trials": 4})}))
    assert [record.digest for record in more[:3]] == [record.digest for record in records]
    assert len(more) == 4


def test_a_search_goes_on_with_all_epochs_of_an_interrupted_trial(make_training_set, tmp_path):
    """It was killed after two of four; the last epoch ends the trial and is not reported by itself."""
    search = {"space": SPACE, "first": [{"model.dense_width": 8}], "trials": 1, "grace_epochs": 1}
    trial = {**TINY, "training": {**TINY["training"], "epochs": 4}}
    config = sweep(make_training_set(), tmp_path / "records", trial=trial, search=search, concurrent=1)
    card = read_card(config.training_set)
    config = config.model_copy(update={"trial": with_target(config.trial, card)})
    key = trial_key(point_trial(config.trial, config.search.first[0]), config.training_set, config.out)
    data = read_training_set(config.training_set)
    interrupted = run_trial(key, config.training_set, worker=Worker(), data=data)
    losses = [next(interrupted).val["loss"] for _ in range(2)]
    interrupted.close()
    (record,) = tune_models(config)
    (known,) = open_study(config, config.search, card.digest).trials
    after = {metrics.epoch: metrics.val["loss"] for metrics in record.epochs}
    assert [after[1], after[2]] == losses
    assert known.intermediate_values == {epoch: after[epoch] for epoch in (1, 2, 3)}


def test_a_search_draws_around_points_that_make_no_trial_and_goes_on(make_training_set, tmp_path):
    """Of four points two are trials; where none is, the search ends with the rule that they break."""
    space = {"augment.strength": {"choices": [0.5, 2]}, "augment.shift_fraction": {"choices": [0.6, 0.7]}}
    search = {"space": space, "trials": 2, "seed": 1, "scheduler": "none"}
    trial = {**TINY, "training": {**TINY["training"], "epochs": 1}}
    config = sweep(make_training_set(), tmp_path / "records", trial=trial, search=search, concurrent=1)
    for _ in range(2):
        assert {record.config.augment.strength for record in tune_models(config)} == {0.5}
    none = {**search, "space": {**space, "augment.strength": {"choices": [1.7, 2]}}}
    with pytest.raises(ConfigError, match=r"x shift_fraction 0\.[67] must be less than 1; .*100 points drawn"):
        tune_models(sweep(config.training_set, tmp_path / "none", trial=trial, search=none, concurrent=1))


def test_a_finished_grid_is_returned_without_ray_and_a_wrong_one_refused(make_training_set, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_module, "connected", lambda _: pytest.fail("Ray was connected to"))
    config = sweep(make_training_set(), tmp_path, grid={"cells": [{"name": "one"}]})
    (trial,) = grid_trials(config.trial, config.grid)
    record = run_to_record(trial, config.training_set, config.out)
    assert tune_models(config) == [record]
    wrong = sweep(config.training_set, tmp_path, grid={"cells": [{"name": "two", "target": "sdh"}]})
    with pytest.raises(ConfigError, match="'sdh' is no class"):
        tune_models(wrong)


def test_a_disk_that_is_full_when_the_study_is_written_is_reported_as_such():
    """Tune puts the text of a traceback in the place of its searcher's error."""

    def fit():
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise TuneError(traceback.format_exc())  # noqa: B904  (as `TuneController` does)

    with pytest.raises(OSError, match="No space left on device") as raised, errors_as_raised():
        fit()
    assert is_disk_full(raised.value)


def test_a_second_sweep_in_the_same_folder_is_refused_while_one_writes(make_training_set, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_module, "connected", lambda _: pytest.fail("Ray was connected to"))
    folder, out = make_training_set(), tmp_path / "records"
    for kind in ({"grid": {"axes": {"seed": [0]}}}, {"search": {"space": SPACE, "trials": 1}}):
        with output_lock(str(out)), pytest.raises(OutputError, match=r"another run is writing in .*records"):
            tune_models(sweep(folder, out, **kind))


def test_a_cell_that_another_run_trains_is_left_to_it(make_training_set, tmp_path, capfd):
    """As `train` does it, from before the sweep until the other cell has its record: it is trained once."""
    config = sweep(make_training_set(), tmp_path / "records", concurrent=1, grid={"axes": {"seed": [0, 1]}})
    first, _ = grid_trials(config.trial, config.grid)
    key = TrialKeys(config.out, read_card(config.training_set).digest).key(first)
    locked, written = threading.Event(), []

    def train():
        with output_lock(key.folder):
            locked.set()
            while not list((tmp_path / "records").glob("*/record.json")):
                time.sleep(0.05)
            run_to_record(first, config.training_set, config.out)
            written.append(Path(key.folder, "record.json").stat().st_mtime_ns)

    other = threading.Thread(target=train)
    other.start()
    locked.wait()
    records = tune_models(config)
    other.join()
    assert [(record.config.seed, record.status) for record in records] == [(0, "complete"), (1, "complete")]
    assert written == [Path(key.folder, "record.json").stat().st_mtime_ns]
    assert records[1].finished <= records[0].finished
    assert [plan.count for plan in read_plans(config.out)] == [2]
    assert f"seed 0 waits: out: another run is writing in {key.folder} (" in capfd.readouterr().err


def test_a_search_holds_test_back_from_all_but_the_chosen(make_training_set, tmp_path, monkeypatch):
    """Three trials run to the end, for the median rule looks at three; the fourth learns nothing and is stopped."""
    rates = [0.01, 0.02, 0.005, 1e-9]
    search = {
        "space": {"training.learning_rate": {"choices": rates}},
        "first": [{"training.learning_rate": rate} for rate in rates],
        **{"trials": 4, "grace_epochs": 1, "scheduler": "median"},
    }
    config = sweep(make_training_set(), tmp_path / "records", search=search, concurrent=1)
    records = tune_models(config)
    assert [record.status for record in records] == ["complete"] * 3 + ["pruned"]
    chosen = min(records[:3], key=lambda record: record.metrics["val"]["loss"])
    unread = [record for record in records[:3] if record is not chosen]
    assert len(unread) == 2
    assert all(set(read_predictions(config.out, r.digest)["split"].to_pylist()) == {"val"} for r in unread)
    assert set(read_predictions(config.out, chosen.digest)["split"].to_pylist()) == {"val", "test"}
    shutil.rmtree(tmp_path / "records" / unread[0].digest)  # its record was lost: it is run again
    assert [record.digest for record in tune_models(config)] == [record.digest for record in records]
    monkeypatch.setattr(sweep_module, "connected", lambda _: pytest.fail("Ray was connected to"))
    assert [record.digest for record in tune_models(config)] == [record.digest for record in records]


def test_more_trials_than_cores_share_one_copy_of_the_set(make_training_set, tmp_path, monkeypatch):
    loads = []

    def load(*told):
        loads.append(told)
        return put_training_set(*told)

    monkeypatch.setattr(sweep_module, "put_training_set", load)
    short = {**TINY, "training": {"epochs": 1, "batch_size": 48}}
    config = sweep(make_training_set(), tmp_path / "records", trial=short, grid={"cells": [{}], "repeats": 5})
    records = tune_models(config)
    assert [(record.config.seed, record.status) for record in records] == [(seed, "complete") for seed in range(5)]
    assert [told[0] for told in loads] == [config.training_set]
    (plan,) = read_plans(config.out)
    assert (plan.kind, plan.count, plan.concurrent) == ("grid", 5, 2)
    assert [trial.digest for trial in plan.trials] == [record.digest for record in records]
    assert not list((tmp_path / "records").glob("*/progress.json"))


@pytest.mark.slow
def test_trials_of_several_workers_wait_for_each_other(make_training_set, tmp_path):
    """Two trials at once, each of which takes both CPUs."""
    short = {**TINY, "training": {"epochs": 1, "batch_size": 48}}
    fields = {"trial": short, "grid": {"axes": {"seed": [0, 1]}}, "workers": {"count": 2}, "concurrent": 2}
    records = tune_models(sweep(make_training_set(), tmp_path / "records", **fields))
    assert [(record.status, record.workers) for record in records] == [("complete", 2)] * 2


def test_hours_end_a_grid_that_the_next_run_finishes(make_training_set, tmp_path, capfd):
    """The first cell takes longer than the hours there are: the second is not begun before it has ended."""
    short = {**TINY, "training": {"epochs": 1, "batch_size": 48}}
    fields = {"trial": short, "grid": {"axes": {"seed": [0, 1]}}, "concurrent": 1}
    config = sweep(make_training_set(), tmp_path / "records", hours=1e-4, **fields)
    (first,) = tune_models(config)
    assert first.config.seed == 0
    told = "hours: 0.0001 h are over, 1 of 2 trials were not begun; run the same command again to go on"
    assert told in capfd.readouterr().err
    records = tune_models(config.model_copy(update={"hours": "unlimited"}))
    assert records[0] == first
    assert [record.config.seed for record in records] == [0, 1]


def test_a_grid_of_which_no_trial_ended_says_so(make_training_set, tmp_path, monkeypatch):
    """The hours were over while another run trained its only cell."""
    monkeypatch.setattr(sweep_module, "connected", lambda _: nullcontext())
    monkeypatch.setattr(sweep_module, "_run_trials", lambda *_: None)
    config = sweep(make_training_set(), tmp_path / "records", grid={"axes": {"seed": [0]}})
    with pytest.raises(HemoError, match=r"^no trial has a record in .*records yet; run the same command"):
        tune_models(config)


def test_several_objectives_end_with_a_front_and_one_chosen(make_training_set, tmp_path, capfd):
    search = {
        "space": {"training.learning_rate": {"choices": [0.01, 0.02]}},
        "first": [{"training.learning_rate": rate} for rate in (0.01, 0.02)],
        "objectives": ["val_accuracy", "latency_ms"],
        **{"metric": "val_accuracy", "scheduler": "none", "trials": 2},
    }
    records = tune_models(sweep(make_training_set(), tmp_path / "records", search=search, concurrent=1))
    assert all(record.latency_ms > 0 for record in records)
    (chosen,) = [record for record in records if record.selected_by]
    assert chosen.selected_by == "val_accuracy on the Pareto front of val_accuracy, latency_ms"
    assert [record.digest for record in records if "test" in record.metrics] == [chosen.digest]
    assert "Pareto front of val_accuracy, latency_ms: " in capfd.readouterr().err


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"grid": {"cells": [{}, {"model.backbone": "resnet5O"}]}}, "resnet5O"),
        ({"search": {"space": {"model.backbone": {"choices": ["test_resnet", "resnet5O"]}}}}, "resnet5O"),
        ({"search": {"space": {"model.side_px": {"choices": [8, 17]}}}}, "16 x 16 px cannot be shrunk to 17 px"),
        ({"search": {"space": {"model.side_px": {"low": 8, "high": 17}}}}, "16 x 16 px cannot be shrunk to 17 px"),
        (
            {
                "search": {
                    "space": {
                        "model.backbone": {"choices": ["test_resnet", "CNN(4,8)"]},
                        "model.side_px": {"choices": [16, 9]},
                    }
                }
            },
            r"CNN\(4,8\) cannot take images of 9 x 9 px, it wants at least 10 px",
        ),
        ({"grid": {"axes": {"training.batch_size": [16, 1]}}, "workers": {"count": 2}}, "2 workers"),
        ({"search": {"space": {"training.batch_size": {"choices": [16, 1]}}}}, "batch_size: 1 images a step"),
        ({"search": {"space": {"seed": {"choices": [1]}}}, "workers": {"count": 2}}, "a search runs each trial on one"),
    ],
)
def test_what_cannot_work_is_refused_before_any_trial(make_training_set, tmp_path, fields, message):
    with pytest.raises(ConfigError, match=message):
        tune_models(sweep(make_training_set(), tmp_path / "records", **fields))
    assert not (tmp_path / "records").exists()


@pytest.mark.parametrize(
    "wanted",
    [
        {"metric": "val_auroc"},
        {"metric": "val_loss", "objectives": ["val_loss", "val_auroc"], "scheduler": "none"},
    ],
)
def test_a_metric_that_the_target_cannot_have_is_refused(make_training_set, tmp_path, wanted):
    """Another class of the set has both labels in validation; the trial's target has not."""
    folder = make_training_set(
        classes=("any", "epidural"), label=lambda number, name: int(name == "any" and number % 2)
    )
    card = json.loads((Path(folder) / "card.json").read_text())
    card["splits"]["train"]["positives"]["epidural"] = 5
    (Path(folder) / "card.json").write_text(json.dumps(card))
    search = {"space": {"seed": {"choices": [1, 2]}}, **wanted}
    with pytest.raises(ConfigError, match="val_auroc needs both labels of epidural in the validation split"):
        tune_models(sweep(folder, tmp_path / "records", trial={**TINY, "target": "epidural"}, search=search))


def test_latency_of_sequence_models_is_refused(make_series_set, tmp_path):
    """It is not measured, so no trial could be selected."""
    made = make_series_set()
    objectives = {"metric": "val_loss", "objectives": ["val_loss", "latency_ms"], "scheduler": "none"}
    search = {"space": {"model.dropout": {"choices": [0.0, 0.1]}}, **objectives}
    trial = made.trial(epochs=1).model_dump()
    with pytest.raises(ConfigError, match="objectives: latency_ms is not measured of sequence models; give metric"):
        tune_models(sweep(made.training_set, tmp_path / "records", trial=trial, search=search))
    assert not (tmp_path / "records").exists()


def test_a_grid_whose_cells_all_failed_is_an_error(make_training_set, tmp_path):
    diverging = {"model": TINY["model"], "training": {**TINY["training"], "learning_rate": 1e30, "optimizer": "sgd"}}
    config = sweep(make_training_set(), tmp_path / "records", trial=diverging, grid={"axes": {"seed": [0]}})
    with pytest.raises(HemoError, match="all 1 trials failed; the first: loss is"):
        tune_models(config)


def job(search=None, **fields):
    kind = {"search": {"space": SPACE, **search}} if search else {"grid": {"axes": {"seed": [0, 1]}}}
    return TuneConfig.model_validate({"training_set": "/set", "out": "/out", **kind, **fields})


def test_a_trial_of_several_workers_only_waits_for_them():
    assert trial_resources(job(workers={"cpus": 3}), 0.5) == {"CPU": 3, "GPU": 0.5}
    assert trial_resources(job(workers={"cpus": 3}), 0.0) == {"CPU": 3}
    assert trial_resources(job(workers={"cpus": 3, "count": 4}), 1.0)["CPU"] == 0


def test_one_loss_that_cannot_be_recorded_does_not_hide_the_others(monkeypatch, tmp_path):
    written = []

    def write(folder, record, predictions):
        if record == "a":
            raise OutputError("disk full")
        written.append(record)

    monkeypatch.setattr(tuning, "write_record", write)
    monkeypatch.setattr(tuning, "failed_record", lambda key, card, worker, reason: key.config.name)
    lost = [(TrialKeys(str(tmp_path), "feed").key(TrialConfig(name=name)), "killed") for name in "abc"]
    with pytest.raises(OutputError, match="disk full") as fault:
        record_lost_trials(lost, job(out=str(tmp_path)), None, 0.0)
    assert written == ["b", "c"]
    assert fault.value.__notes__ == ["a failed (killed) and could not be recorded"]
