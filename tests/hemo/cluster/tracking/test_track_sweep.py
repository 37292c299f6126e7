"""Trials side by side, each with a W&B run of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hemo.cluster.tuning.sweep import tune_models, with_group
from hemo.config.trial import TrialConfig
from hemo.config.tune import GridConfig, TuneConfig
from tests.training_sets import Maker
from tests.wandb_runs import read_runs

TINY = {"model": {"backbone": "test_resnet"}, "training": {"epochs": 2, "batch_size": 16, "learning_rate": 0.01}}


def search(training_set: str, out: Path, **fields) -> TuneConfig:
    rates = [0.01, 0.001]
    points = [{"training.learning_rate": rate} for rate in rates]
    wanted = {"space": {"training.learning_rate": {"choices": rates}}, "first": points, "trials": 2}
    told = {"search": {**wanted, "scheduler": "none"}, "tracking": {"backend": "wandb"}, "concurrent": 2, **fields}
    return TuneConfig.model_validate({"training_set": training_set, "out": str(out), "trial": TINY, **told})


def test_trials_at_once_have_runs_of_their_own_and_the_chosen_ones_test_figures_join_it(
    ray_cluster: None,
    make_training_set: Maker,
    tmp_path: Path,
    processes_in: Callable[[Path], list[int]],
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "records"
    config = search(make_training_set(), out)
    records = tune_models(config)
    assert "tracking: W&B, offline" in capfd.readouterr().err
    runs = {record.digest: read_runs(out / record.digest / "wandb") for record in records}
    trials = [runs[record.digest][0] for record in records]
    for record, logged in zip(records, trials, strict=True):
        assert (logged.run.run_id, logged.summary["status"], logged.exit_code) == (record.digest, "complete", 0)
        assert [row["val_loss"] for row in logged.history] == pytest.approx([it.val["loss"] for it in record.epochs])
        assert "final/test_loss" not in logged.summary
    assert {logged.run.run_group for logged in trials} == {with_group(config, "feedfacefeedface").tracking.group}

    (chosen,) = (record for record in records if record.selected_by)
    (other,) = (record for record in records if not record.selected_by)
    assert (len(runs[chosen.digest]), len(runs[other.digest])) == (2, 1)
    later = runs[chosen.digest][1]
    assert later.run.run_id == chosen.digest
    assert later.summary["final/test_loss"] == pytest.approx(chosen.metrics["test"]["loss"])
    assert {"best", "selected"} <= set(later.artifacts["any-feedfacefeedface"].aliases)
    assert processes_in(out) == []


def test_a_grid_that_grows_keeps_its_group_and_another_target_has_another(tmp_path: Path) -> None:
    def group(digest: str = "feed", target: str = "any", **grid: Any) -> str:
        trial = TrialConfig(target=target)
        config = TuneConfig(training_set="set", out=str(tmp_path), trial=trial, grid=GridConfig(**grid))
        return with_group(config, digest).tracking.group

    first = group(axes={"training.learning_rate": (1e-3,)})
    assert first.startswith("grid-")
    assert group(axes={"training.learning_rate": (1e-3, 1e-4)}, repeats=3) == first
    assert group(cells=({"model.backbone": "VGG16"},)) == first
    others = {group("beef", cells=({"seed": 1},)), group(target="epidural", cells=({"seed": 1},))}
    assert len(others | {first}) == 3


def test_a_search_that_grows_keeps_its_group_and_another_has_another(tmp_path: Path) -> None:
    config = search("set", tmp_path)
    group = with_group(config, "feed").tracking.group
    assert group.startswith("search-")
    assert config.search is not None
    grown = config.model_copy(update={"search": config.search.model_copy(update={"trials": 40})})
    assert with_group(grown, "feed").tracking.group == group
    assert with_group(config, "beef").tracking.group != group
    mine = config.model_copy(update={"tracking": config.tracking.model_copy(update={"group": "mine"})})
    assert with_group(mine, "feed").tracking.group == "mine"
