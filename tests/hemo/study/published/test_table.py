"""Published tables with ours beside them."""

from pathlib import Path
from typing import get_args

import pytest

from hemo.config.load import read_yaml
from hemo.config.report import Published
from hemo.config.trial import TrialConfig
from hemo.study.overrides import flattened
from hemo.study.published.source import published_table
from hemo.study.published.table import beside
from hemo.study.rows import Row

BACKBONES = {"target": "PNEUMONIA", "model.head": "F-D(16)-D", "training.learning_rate": 1e-5}
METRICS = {
    "train": {"loss": 0.2, "accuracy": 0.9},
    "val": {"loss": 0.3, "accuracy": 0.8},
    "test": {"loss": 0.5, "accuracy": 0.9},
}


def lines(found, name):
    return [row[1:] for row in found.table.rows if row[0] == name]


@pytest.mark.parametrize("name", get_args(Published))
def test_every_table_is_whole(name):
    """Settings are fields of a trial, and each column has a figure somewhere."""
    table, fields = published_table(name), dict(flattened(TrialConfig().deciding()))
    for row in table.rows:
        assert {**table.recipe, **row.settings}.keys() <= fields.keys()
    figures = {figure for row in table.rows for figure in row.figures}
    assert figures == {figure for column in table.columns for figure in column.figures}
    assert table.worth


def test_rows_are_the_cells_of_the_grids():
    for name, grids in {
        "chest_xray_backbones": ["chest_xray_backbones"],
        "chest_xray_resnet50": ["chest_xray_resnet50"],
        "head_ct": ["head_ct_before", "head_ct_after", "head_ct_three_windows"],
    }.items():
        cells = [cell["name"] for grid in grids for cell in read_yaml(f"conf/grid/{grid}.yaml")["grid"]["cells"]]
        assert [row.name for row in published_table(name).rows] == cells
    assert Path("conf/grid").is_dir()


def test_ours_stands_under_the_published_figures_with_the_difference(make_record):
    """MobileNet was published with train 0.4888 / 0.9880 in 33 minutes 43 seconds."""
    record = make_record(
        {**BACKBONES, "name": "MobileNet", "model.backbone": "MobileNet"}, metrics=METRICS, seconds=23.0
    )
    (found,) = beside(published_table("chest_xray_backbones"), [Row(record)])
    assert found.table.head == (
        *("backbone", "figures", "train loss / acc", "val loss / acc", "test loss / acc"),
        "learning time",
    )
    assert lines(found, "MobileNet") == [
        ("published", "0.4888 / 0.9880", "0.4954 / 0.9744", "0.4937 / 0.9769", "0:33:43"),
        ("ours", "0.2000 / 0.9000", "0.3000 / 0.8000", "0.5000 / 0.9000", "0:00:23"),
        ("difference", "-0.2888 / -0.0880", "-0.1954 / -0.1744", "+0.0063 / -0.0769", "-0:33:20"),
    ]
    assert lines(found, "VGG16")[1][0] == "ours: no record"
    heading = dict(found.heading)
    assert heading["Not as published"] == "weights none for imagenet"
    assert heading["Reduced"] == "train limited to 600 of 4,707 images"
    pair = next(pair for pair in found.pairs if pair.figure == "test.accuracy" and pair.row == "MobileNet")
    assert (pair.published, pair.ours, pair.seeds) == (0.9769, 0.9, 1)
    assert pair.difference == pytest.approx(-0.0769)


def test_seeds_are_averaged_and_failures_told(make_record):
    mobile = {**BACKBONES, "model.backbone": "MobileNet"}
    records = [
        make_record({**mobile, "name": "MobileNet, seed 1", "seed": 1}, metrics={"test": {"accuracy": 0.8}}),
        make_record({**mobile, "name": "MobileNet, seed 2", "seed": 2}, metrics={"test": {"accuracy": 0.9}}),
        make_record({**BACKBONES, "name": "VGG16", "model.backbone": "VGG16"}, status="failed", reason="out of memory"),
    ]
    (found,) = beside(published_table("chest_xray_backbones"), [Row(record) for record in records])
    assert lines(found, "MobileNet")[1][0] == "ours, mean of 2 seeds"
    assert lines(found, "MobileNet")[1][3] == "- / 0.8500"
    assert lines(found, "VGG16")[1] == ("ours: failed", "-", "-", "-", "-")
    assert "VGG16 failed: out of memory" in found.table.notes


def test_a_trial_of_the_other_table_with_the_same_settings_counts(make_record):
    """ResNet50 with one hidden layer of 16 at 1e-5 is a row of both tables, and has one record."""
    named = make_record({**BACKBONES, "name": "VGG16", "model.backbone": "VGG16"})
    shared = make_record({**BACKBONES, "name": "mn_resultset2", "model.backbone": "ResNet50"}, metrics=METRICS)
    other = make_record({**BACKBONES, "name": "x", "model.backbone": "ResNet50", "model.dropout": 0.1}, quality=0.2)
    (found,) = beside(published_table("chest_xray_backbones"), [Row(named), Row(shared), Row(other)])
    assert [line[0] for line in lines(found, "ResNet50")] == ["published", "ours", "difference"]
    assert "ResNet50: ours is mn_resultset2, whose settings are the same" in found.table.notes


def test_each_training_set_has_its_table_unless_the_rows_are_of_several(make_record):
    rows = [
        Row(make_record({**BACKBONES, "name": "VGG16", "model.backbone": "VGG16"}, training_set=digest))
        for digest in ("aaaa", "bbbb")
    ]
    assert len(beside(published_table("chest_xray_backbones"), rows)) == 2
    head = [
        Row(make_record({"name": f"ResNet50V2 {when} cleaning", "seed": 3}, training_set=when, metrics=METRICS))
        for when in ("before", "after")
    ]
    (found,) = beside(published_table("head_ct"), head)
    assert [row[0] for row in found.table.rows].count("ResNet50V2 after cleaning") == 3


def test_a_learning_time_in_milliseconds(make_record):
    record = make_record({"name": "mn_resultset1", "model.backbone": "ResNet50"}, seconds=2.5)
    (found,) = beside(published_table("chest_xray_resnet50"), [Row(record)])
    assert [line[-1] for line in lines(found, "mn_resultset1")] == ["2715677", "2500", "-2713177"]
