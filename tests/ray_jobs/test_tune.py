"""The entry point of `tune`."""

from pathlib import Path

import pytest
import ray

from hemo.config.load import load_config
from hemo.config.report import ReportConfig
from hemo.config.trial import TrialConfig
from hemo.config.tune import TuneConfig
from hemo.sweeps.grid import grid_trials
from hemo.sweeps.space import search_space
from hemo.trials.record import TrialRecord
from ray_jobs import tune

CONF = Path(__file__).parents[2] / "conf"


def test_a_short_table_and_then_the_folder(monkeypatch, tmp_path, capsys):
    config = {"classes": ("any",), "training_set": "set", "split": "by_patient"}
    metrics = {"val": {"loss": 0.5, "accuracy": 0.75}}
    records = [
        TrialRecord(digest="a", status="complete", config=TrialConfig(name="one"), metrics=metrics, **config),
        TrialRecord(digest="b", status="failed", config=TrialConfig(name="two"), **config),
    ]
    monkeypatch.setattr("hemo.cluster.tuning.sweep.tune_models", lambda config: records)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    tune.main(["--training_set", str(tmp_path), "--out", str(tmp_path / "out"), "--grid.axes", "{seed: [0, 1]}"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == [
        "| one   | 0.50 / 0.75    | -               | complete |",
        "| two   | -               | -               | failed   |",
        str(tmp_path / "out"),
    ]


ROWS = {
    "chest_xray_backbones": ["MobileNet", "InceptionV3", "Xception", "ResNet50", "VGG16"],
    "chest_xray_resnet50": [f"mn_resultset{number}" for number in range(1, 8)],
    "head_ct_after": ["ResNet50V2 after cleaning"],
    "head_ct_before": ["ResNet50V2 before cleaning"],
    "head_ct_three_windows": ["InceptionV3 three windows"],
}
"""Grid -> its rows by the names their sources gave them."""


@pytest.mark.parametrize("file", sorted((CONF / "grid").glob("*.yaml")), ids=lambda file: file.stem)
def test_each_grid_can_be_planned_and_keeps_the_names_of_its_source(file):
    config = load_config(TuneConfig, ["--config", str(file)], job="tune")
    names = [trial.name for trial in grid_trials(config.trial, config.grid)]
    assert names == ROWS.get(file.stem, names)
    assert len(names) >= 3 or file.stem in ROWS


@pytest.mark.parametrize("file", sorted((CONF / "search").glob("*.yaml")), ids=lambda file: file.stem)
def test_each_search_can_be_planned(file):
    config = load_config(TuneConfig, ["--config", str(file)], job="tune")
    assert set(search_space(config.trial, config.search)) == set(config.search.space)


def test_the_report_conf_loads():
    assert load_config(ReportConfig, ["--config", str(CONF / "report" / "compare.yaml")], job="report").out.endswith(
        "report"
    )


def test_a_grid_and_a_search_at_once_are_refused(tmp_path, capsys):
    flags = ["--training_set", str(tmp_path), "--out", str(tmp_path), "--grid.axes", "{seed: [0]}"]
    with pytest.raises(SystemExit) as leaving:
        tune.main([*flags, "--search.space", "{seed: {choices: [1]}}"])
    assert leaving.value.code == 2
    assert "give either `grid` or `search`" in capsys.readouterr().err


def test_a_missing_training_set_is_the_users_fault(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    flags = ["--training_set", str(tmp_path / "none"), "--out", str(tmp_path), "--grid.axes", "{seed: [0]}"]
    with pytest.raises(SystemExit) as leaving:
        tune.main(flags)
    assert leaving.value.code == 2
    assert "is no finished training set" in capsys.readouterr().err
