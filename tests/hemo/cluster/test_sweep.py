"""Grids and searches on a tiny training set."""

import json
import shutil
from pathlib import Path

import pytest

from hemo.cluster.fit import RAY_FOLDER
from hemo.cluster.sweep import tune_models
from hemo.config.tune import TuneConfig
from hemo.errors import ConfigError, HemoError
from hemo.study.record import read_predictions

pytestmark = pytest.mark.usefixtures("ray_cluster")

TINY = {"model": {"backbone": "test_resnet"}, "training": {"epochs": 2, "batch_size": 16, "learning_rate": 0.01}}


def sweep(training_set, out, **fields):
    return TuneConfig.model_validate({"training_set": training_set, "out": str(out), "trial": TINY, **fields})


def test_a_grid_records_each_cell_and_leaves_finished_ones_alone(make_training_set, tmp_path, capfd):
    config = sweep(
        make_training_set(),
        tmp_path / "records",
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
    more = tune_models(config.model_copy(update={"search": config.search.model_copy(update={"trials": 4})}))
    assert [record.digest for record in more[:3]] == [record.digest for record in records]
    assert len(more) == 4


def test_a_search_holds_test_back_from_all_but_the_chosen(make_training_set, tmp_path):
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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"grid": {"cells": [{}, {"model.backbone": "resnet5O"}]}}, "resnet5O"),
        ({"search": {"space": {"model.backbone": {"choices": ["test_resnet", "resnet5O"]}}}}, "resnet5O"),
        ({"grid": {"axes": {"training.batch_size": [16, 1]}}, "workers": {"count": 2}}, "2 workers"),
        ({"search": {"space": {"seed": {"choices": [1]}}}, "workers": {"count": 2}}, "a search runs each trial on one"),
    ],
)
def test_what_cannot_work_is_refused_before_any_trial(make_training_set, tmp_path, fields, message):
    with pytest.raises(ConfigError, match=message):
        tune_models(sweep(make_training_set(), tmp_path / "records", **fields))
    assert not (tmp_path / "records").exists()


def test_a_metric_that_the_target_cannot_have_is_refused(make_training_set, tmp_path):
    """Another class of the set has both labels in validation; the trial's target has not."""
    folder = make_training_set(
        classes=("any", "epidural"), label=lambda number, name: int(name == "any" and number % 2)
    )
    card = json.loads((Path(folder) / "card.json").read_text())
    card["splits"]["train"]["positives"]["epidural"] = 5
    (Path(folder) / "card.json").write_text(json.dumps(card))
    search = {"space": {"seed": {"choices": [1, 2]}}, "metric": "val_auroc"}
    with pytest.raises(ConfigError, match="val_auroc needs both labels of epidural in the validation split"):
        tune_models(sweep(folder, tmp_path / "records", trial={**TINY, "target": "epidural"}, search=search))


def test_a_grid_whose_cells_all_failed_is_an_error(make_training_set, tmp_path):
    diverging = {"model": TINY["model"], "training": {**TINY["training"], "learning_rate": 1e30, "optimizer": "sgd"}}
    config = sweep(make_training_set(), tmp_path / "records", trial=diverging, grid={"axes": {"seed": [0]}})
    with pytest.raises(HemoError, match="all 1 trials failed; the first: loss is"):
        tune_models(config)
