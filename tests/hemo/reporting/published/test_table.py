"""Published tables compared with our trials."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from hemo.config.load import read_yaml
from hemo.config.report import Published
from hemo.config.trial import TrialConfig
from hemo.config.tune import TuneConfig, flattened
from hemo.config.validation import validated
from hemo.reporting.published.source import published_table
from hemo.reporting.published.table import compare_with_published
from hemo.reporting.trial_row import ResultOnTest, Row
from hemo.stats.intervals import Interval
from hemo.sweeps.grid import grid_trials

BACKBONES_TABLE = published_table("chest_xray_backbones")
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
    """Settings are fields of a trial, and each column has a metric in some row."""
    table, fields = published_table(name), dict(flattened(TrialConfig().deciding()))
    for row in table.rows:
        assert {**table.recipe, **row.settings}.keys() <= fields.keys()
    metrics = {metric for row in table.rows for metric in row.metrics}
    assert metrics == {metric for column in table.columns for metric in column.metrics}
    assert table.limitations


def test_rows_are_the_cells_of_the_grids():
    for name, grids in {
        "chest_xray_backbones": ["chest_xray_backbones"],
        "chest_xray_resnet50": ["chest_xray_resnet50"],
        "head_ct": ["head_ct_before", "head_ct_after", "head_ct_three_windows"],
    }.items():
        cells = [cell["name"] for grid in grids for cell in read_yaml(f"conf/grid/{grid}.yaml")["grid"]["cells"]]
        assert [row.name for row in published_table(name).rows] == cells
    assert Path("conf/grid").is_dir()


@pytest.mark.parametrize("name", get_args(Published))
def test_the_grids_have_the_published_settings(make_record, name):
    """No cell of conf/grid differs from its published row in any setting."""
    grids = sorted(Path("conf/grid").glob("head_ct_*.yaml" if name == "head_ct" else f"{name}.yaml"))
    plain = [validated(TuneConfig, read_yaml(str(grid))) for grid in grids]
    trials = [trial for config in plain for trial in grid_trials(config.trial, config.grid)]
    rows = [Row(make_record(trial.model_dump())) for trial in trials]
    (found,) = compare_with_published(published_table(name), rows)
    assert dict(found.heading)["Not as published"] == "nothing"
    assert [line[1] for line in found.table.rows].count("ours") == len(published_table(name).rows) == len(trials)


def test_ours_is_below_the_published_metrics_with_the_difference(make_record):
    """MobileNet was published with train 0.4888 / 0.9880 in 33 minutes 43 seconds."""
    record = make_record(
        {**BACKBONES, "name": "MobileNet", "model.backbone": "MobileNet"}, metrics=METRICS, seconds=23.0
    )
    (found,) = compare_with_published(BACKBONES_TABLE, [Row(record)])
    assert found.table.head == (
        *("backbone", "result", "train loss / acc", "val loss / acc", "test loss / acc"),
        "learning time",
    )
    assert lines(found, "MobileNet") == [
        ("published", "0.4888 / 0.9880", "0.4954 / 0.9744", "0.4937 / 0.9769", "0:33:43"),
        ("ours", "0.2000 / 0.9000", "0.3000 / 0.8000", "0.5000 / 0.9000", "0:00:23"),
        ("difference", "-0.2888 / -0.0880", "-0.1954 / -0.1744", "+0.0063 / -0.0769", "-0:33:20"),
    ]
    assert lines(found, "VGG16")[1][0] == "ours: no record"
    heading = dict(found.heading)
    assert heading["Not as published"] == "weights none instead of imagenet"
    assert heading["Reductions"] == "train limited to 600 of 4,707 images"
    pair = next(pair for pair in found.pairs if pair.metric == "test.accuracy" and pair.row == "MobileNet")
    assert (pair.published, pair.ours, pair.seeds) == (0.9769, 0.9, 1)
    assert pair.difference == pytest.approx(-0.0769)


def test_a_difference_that_rounds_to_zero_has_no_minus(make_record):
    """MobileNet's 0.4888 / 0.9880 in 2023 s, missed by less than the last place."""
    metrics = {"train": {"loss": 0.48877, "accuracy": 0.98797}}
    record = make_record(
        {**BACKBONES, "name": "MobileNet", "model.backbone": "MobileNet"}, metrics=metrics, seconds=2022.7
    )
    (found,) = compare_with_published(BACKBONES_TABLE, [Row(record)])
    assert lines(found, "MobileNet")[2] == ("difference", "+0.0000 / +0.0000", "-", "-", "+0:00:00")


def test_seeds_are_averaged_and_failures_are_noted(make_record):
    mobile = {**BACKBONES, "model.backbone": "MobileNet"}
    records = [
        make_record({**mobile, "name": "MobileNet, seed 1", "seed": 1}, metrics={"test": {"accuracy": 0.8}}),
        make_record({**mobile, "name": "MobileNet, seed 2", "seed": 2}, metrics={"test": {"accuracy": 0.9}}),
        make_record({**BACKBONES, "name": "VGG16", "model.backbone": "VGG16"}, status="failed", reason="out of memory"),
    ]
    (found,) = compare_with_published(BACKBONES_TABLE, [Row(record) for record in records])
    assert lines(found, "MobileNet")[1][0] == "ours, mean of 2 seeds"
    assert lines(found, "MobileNet")[1][3] == "- / 0.8500"
    assert lines(found, "VGG16")[1] == ("ours: failed", "-", "-", "-", "-")
    assert "VGG16 failed: out of memory" in found.table.notes


def test_a_trial_of_the_other_table_with_the_same_settings_counts(make_record):
    """ResNet50 with one hidden layer of 16 at 1e-5 is a row of both tables, and has one record."""
    named = make_record({**BACKBONES, "name": "VGG16", "model.backbone": "VGG16"})
    shared = make_record({**BACKBONES, "name": "mn_resultset2", "model.backbone": "ResNet50"}, metrics=METRICS)
    other = make_record({**BACKBONES, "name": "x", "model.backbone": "ResNet50", "model.dropout": 0.1}, quality=0.2)
    (found,) = compare_with_published(BACKBONES_TABLE, [Row(named), Row(shared), Row(other)])
    assert [line[0] for line in lines(found, "ResNet50")] == ["published", "ours", "difference"]
    assert "ResNet50: ours is mn_resultset2, which has the same settings" in found.table.notes


def of_set(make_record, name, training_set, **fields):
    changes = {**BACKBONES, "name": name, "model.backbone": name}
    return Row(make_record(changes, training_set=training_set, metrics=METRICS, **fields))


def with_test(row, images):
    """Return a row tested on images with this digest."""
    evaluated = ResultOnTest(images, 40, 20, Interval(0.9, (0.8, 0.95)), None, None, None, 0.5, None, 0.3, np.zeros(2))
    return replace(row, test=evaluated)


def test_a_row_of_larger_images_is_in_the_same_table(make_record):
    """InceptionV3 does not take 64 px: its row is of another set with the same split and classes, and has its size."""
    rows = [
        of_set(make_record, "MobileNet", "aaaa", image="3 x 64 x 64"),
        of_set(make_record, "InceptionV3", "bbbb", image="3 x 96 x 96"),
        of_set(make_record, "VGG16", "aaaa", image="3 x 64 x 64"),
    ]
    (found,) = compare_with_published(BACKBONES_TABLE, [with_test(row, "same") for row in rows])
    assert [lines(found, name)[1][0] for name in ("MobileNet", "InceptionV3", "VGG16")] == [
        "ours, 3 x 64 x 64",
        "ours, 3 x 96 x 96",
        "ours, 3 x 64 x 64",
    ]
    assert found.table.notes[-3:] == (
        "MobileNet, VGG16: training set aaaa, split by_patient, images of 3 x 64 x 64: train 600, val 120, test 10",
        "InceptionV3: training set bbbb, split by_patient, images of 3 x 96 x 96: train 600, val 120, test 10",
        "All rows were tested on the same images",
    )
    assert {pair.row: pair.training_set for pair in found.pairs if pair.ours}["InceptionV3"] == "bbbb"


def test_rows_tested_on_other_images_are_noted(make_record):
    mobile, inception = of_set(make_record, "MobileNet", "aaaa"), of_set(make_record, "InceptionV3", "bbbb")
    for other, note in (
        (with_test(inception, "other"), "were tested on different images"),
        (inception, "Not all of these training sets were evaluated on test"),
    ):
        (found,) = compare_with_published(BACKBONES_TABLE, [with_test(mobile, "same"), other])
        assert note in found.table.notes[-1]


@pytest.mark.parametrize("fields", [{"split": "by_image"}, {"classes": ("NORMAL",)}])
def test_another_split_or_class_has_its_own_table(make_record, fields):
    mobile, inception = of_set(make_record, "MobileNet", "aaaa"), of_set(make_record, "InceptionV3", "bbbb")
    other = Row(inception.record.model_copy(update=fields))
    assert len(compare_with_published(BACKBONES_TABLE, [mobile, inception])) == 1
    assert len(compare_with_published(BACKBONES_TABLE, [mobile, other])) == 2


def test_two_training_sets_with_the_same_row_have_their_own_tables(make_record):
    rows = [
        of_set(make_record, "VGG16", "aaaa"),
        of_set(make_record, "VGG16", "bbbb"),
        of_set(make_record, "MobileNet", "bbbb"),
    ]
    first, second = compare_with_published(BACKBONES_TABLE, rows)
    assert lines(first, "MobileNet")[1][0] == "ours: no record"
    assert lines(second, "MobileNet")[1][0] == "ours"


def test_a_cell_that_failed_on_one_training_set_does_not_split_the_table(make_record):
    rows = [
        of_set(make_record, "MobileNet", "aaaa"),
        of_set(make_record, "InceptionV3", "aaaa", status="failed", reason="too small"),
        of_set(make_record, "InceptionV3", "bbbb"),
    ]
    (found,) = compare_with_published(BACKBONES_TABLE, rows)
    assert [line[0] for line in lines(found, "InceptionV3")] == ["published", "ours", "difference"]
    assert "InceptionV3 failed: too small" in found.table.notes


def test_trials_of_several_training_sets_are_never_averaged(make_record):
    """The head-CT table is across training sets: the same cell on two of them is two lines, not two seeds."""
    rows = [
        Row(
            make_record(
                {"name": "ResNet50V2 after cleaning"},
                training_set=digest,
                metrics={"val": {"loss": 0.3, "accuracy": accuracy}},
            )
        )
        for digest, accuracy in (("aaaa", 0.8), ("bbbb", 0.9))
    ]
    (found,) = compare_with_published(published_table("head_ct"), rows)
    cells = [line for line in lines(found, "ResNet50V2 after cleaning") if line[0].startswith("ours")]
    assert [cell[2] for cell in cells] == ["0.8000", "0.9000"]
    assert {pair.seeds for pair in found.pairs if pair.ours} == {1}
    assert any("training set bbbb" in note for note in found.table.notes)


def test_a_searched_trial_that_begins_with_a_row_s_name_is_not_of_that_row(make_record):
    """A search names a trial by its backbone first: one with other settings is no repeat of the cell."""
    rows = [
        of_set(make_record, "VGG16", "aaaa"),
        Row(make_record({**BACKBONES, "name": "ResNet50, dropout 0.1", "model.dropout": 0.1}, training_set="aaaa")),
    ]
    (found,) = compare_with_published(BACKBONES_TABLE, rows)
    assert lines(found, "ResNet50")[1][0] == "ours: no record"


def test_settings_alone_are_enough(make_record):
    """A folder with the other table's trials only still gives this one its row."""
    shared = make_record({**BACKBONES, "name": "mn_resultset2", "model.backbone": "ResNet50"}, metrics=METRICS)
    (found,) = compare_with_published(BACKBONES_TABLE, [Row(shared)])
    assert lines(found, "ResNet50")[1][0] == "ours"


def test_another_target_is_noted(make_record):
    record = make_record({**BACKBONES, "name": "VGG16", "model.backbone": "VGG16", "target": "NORMAL"})
    (found,) = compare_with_published(BACKBONES_TABLE, [Row(record)])
    assert "target NORMAL instead of PNEUMONIA" in dict(found.heading)["Not as published"]


def test_training_time_in_milliseconds(make_record):
    record = make_record({"name": "mn_resultset1", "model.backbone": "ResNet50"}, seconds=2.5)
    (found,) = compare_with_published(published_table("chest_xray_resnet50"), [Row(record)])
    assert [line[-1] for line in lines(found, "mn_resultset1")] == ["2715677", "2500", "-2713177"]


def test_resized_images_have_the_size_that_the_network_received(make_record):
    """Of one set of 224 px: a trial as it is stored, and one resized to 64 px."""
    resized = make_record(
        {**BACKBONES, "name": "VGG16", "model.backbone": "VGG16", "model.side_px": 64}, image="3 x 224 x 224"
    )
    whole = make_record({**BACKBONES, "name": "MobileNet", "model.backbone": "MobileNet"}, image="3 x 224 x 224")
    (found,) = compare_with_published(BACKBONES_TABLE, [Row(resized), Row(whole)])
    assert lines(found, "VGG16")[1][0] == "ours, 3 x 64 x 64 (resized from 3 x 224 x 224)"
    assert lines(found, "MobileNet")[1][0] == "ours, 3 x 224 x 224"
    assert "each 3 x 64 x 64 (resized from 3 x 224 x 224) (1 of 2 trials)" in dict(found.heading)["Images"]


@pytest.mark.parametrize(("ends", "note"), [((0.8, 0.95), "outside"), ((0.8, 0.98), "inside"), (None, "")])
def test_a_published_accuracy_is_compared_with_the_interval_of_ours(make_record, ends, note):
    """MobileNet was published with 0.9769; without an interval there is nothing to compare."""
    row = with_test(of_set(make_record, "MobileNet", "aaaa"), "same")
    row = replace(row, test=replace(row.test, accuracy=Interval(0.9, ends)))
    (found,) = compare_with_published(BACKBONES_TABLE, [row])
    notes = [each for each in found.table.notes if "95 % interval" in each]
    assert [note in each for each in notes] == ([True] if note else [])
