"""Which trials share a table, and in which order."""

import pytest

from hemo.config.trial import TrialConfig
from hemo.config.tune import changed, title
from hemo.reporting.comparison import compare_trials
from hemo.reporting.trial_table import grid_table, subject
from hemo.trials.record import metrics_of, read_records, title_of, write_record


def comparisons(tmp_path):
    folder = str(tmp_path / "records")
    return compare_trials(read_records(folder), folder, samples=200, seed=0)


def test_different_training_sets_and_targets_are_never_in_one_table(make_record, tmp_path):
    make_record({"name": "a"})
    make_record({"name": "b"}, training_set="ffff")
    make_record({"name": "c", "target": "epidural"})
    found = comparisons(tmp_path)
    assert sorted(row.record.config.name for part in found for row in part.rows) == ["a", "b", "c"]
    assert len(found) == 3
    assert len({part.key for part in found}) == 3


def test_rows_that_are_studies_are_in_a_table_of_their_own(make_record, tmp_path):
    """Of other images, whose comparison was an error for the whole report."""
    for number, (name, labels) in enumerate((("images", None), ("slices", "slice"), ("studies", "study"))):
        record = make_record({"name": name, "seed": number}, many=name != "studies")
        series = {"backbone": "BiGRU(8)", "series": {"embeddings": "embedded", "labels": labels}} if labels else {}
        config = changed(record.config, {"model": series}, origin="test")
        write_record(str(tmp_path / "records"), record.model_copy(update={"config": config}), None)
    found = comparisons(tmp_path)
    assert sorted([row.record.config.name for row in part.rows] for part in found) == [
        ["images", "slices"],
        ["studies"],
    ]
    assert {subject(part) for part in found} == {
        "Binary, target any: training set 00112233aabbccdd",
        "Binary, target any, of studies: training set 00112233aabbccdd",
    }


def test_trials_with_different_losses_are_ordered_by_auroc(make_record, tmp_path):
    """The loss of `weighted` is lower because it is another one; its AUROC is lower too."""
    metrics = {
        name: {"val": {"loss": loss, "auroc": auroc}} for name, loss, auroc in (("w", 0.1, 0.8), ("p", 0.5, 0.9))
    }
    make_record({"name": "weighted", "training.loss": "class_weighted"}, many=True, metrics=metrics["w"])
    make_record({"name": "plain"}, many=True, metrics=metrics["p"])
    (found,) = comparisons(tmp_path)
    assert [row.record.config.name for row in found.rows] == ["plain", "weighted"]
    assert [cell.name for cell in found.cells] == ["plain", "weighted"]
    assert (found.order, found.chosen_by) == ("val_auroc", "highest val AUROC")
    assert found.choices[0].metric == "val_auroc"
    make_record({"name": "failed", "training.loss": "dice"}, status="failed")
    assert [row.record.config.name for row in comparisons(tmp_path)[0].rows] == ["plain", "weighted", "failed"]


def test_the_loss_of_an_external_model_is_not_compared_with_another_loss(make_record, tmp_path):
    """Focal 0.08 and binary cross entropy 0.20 are no lower and higher loss."""
    make_record({"name": "focal", "training.loss": "focal"}, metrics={"val": {"loss": 0.08, "auroc": 0.8}}, test=False)
    make_record(
        {"name": "external", "seed": 1}, metrics={"val": {"loss": 0.2, "auroc": 0.9}}, test=False, external=True
    )
    (found,) = comparisons(tmp_path)
    assert (found.order, found.best.record.config.name) == ("val_auroc", "external")
    assert (
        "trials have several losses, or class weights, whose values cannot be compared." in grid_table(found).notes[0]
    )


def test_trials_of_one_loss_are_ordered_by_it(make_record, tmp_path):
    for name, loss, auroc in (("low", 0.1, 0.8), ("high", 0.5, 0.9)):
        changes = {"name": name, "training.loss": "focal", "model.backbone": name}
        make_record(changes, metrics={"val": {"loss": loss, "auroc": auroc}})
    (found,) = comparisons(tmp_path)
    assert [row.record.config.name for row in found.rows] == ["low", "high"]
    assert (found.order, found.chosen_by) == ("val_loss", "lowest val loss")


def test_rows_go_by_validation_loss_then_pruned_then_failed(make_record, tmp_path):
    make_record({"name": "failed", "seed": 1}, status="failed")
    make_record({"name": "pruned", "seed": 2}, status="pruned", quality=0.99, test=False)
    make_record({"name": "poor", "seed": 3}, quality=0.2)
    make_record({"name": "good", "seed": 4}, quality=0.8)
    assert [row.record.config.name for row in comparisons(tmp_path)[0].rows] == ["good", "poor", "pruned", "failed"]


def test_intervals_come_from_the_predictions_and_only_where_test_was_evaluated(make_record, tmp_path):
    """Quality 2 predicts all forty images of twenty patients correctly, which counts as 20 of 20."""
    make_record({"name": "read", "seed": 1}, quality=2.0, many=True)
    make_record({"name": "unread", "seed": 2}, test=False, quality=0.1)
    read, unread = comparisons(tmp_path)[0].rows
    assert (read.test.accuracy.value, read.test.auroc.value, read.test.majority_accuracy) == (1.0, 1.0, 0.5)
    assert read.test.accuracy.ends == pytest.approx((20 / (20 + 2.093**2), 1.0), abs=1e-4)
    assert 0.8 < read.test.auroc.ends[0] < 0.95
    assert (read.test.image_count, read.test.patient_count) == (40, 20)
    assert unread.test is None


def test_ten_images_of_eight_patients_have_values_and_no_interval(make_record, tmp_path):
    make_record({"name": "one"}, quality=2.0)
    test = comparisons(tmp_path)[0].rows[0].test
    assert (test.accuracy.value, test.auroc.value, test.majority_accuracy) == (1.0, 1.0, 0.7)
    intervals = (test.accuracy, test.balanced_accuracy, test.auroc, test.recall, test.specificity)
    assert {(each.ends, each.reason) for each in intervals} == {(None, "8 patients, at least 10 are needed")}


def test_a_stopped_trial_shows_its_best_epoch(make_record):
    record = make_record({"seed": 7}, status="pruned", metrics={})
    assert metrics_of(record, "val") == record.epochs[7].val
    assert metrics_of(record, "train") == record.epochs[7].train
    assert metrics_of(record, "test") == {}


def test_a_trial_without_a_name_is_named_by_its_settings(make_record):
    record = make_record({"seed": 8, "model": {"backbone": "resnet18"}, "training": {"epochs": 3}})
    assert title_of(record) == "resnet18, epochs 3, seed 8"
    assert title(TrialConfig(seed=2)) == f"{TrialConfig().model.backbone}, seed 2"
    assert title_of(make_record({"name": "mine"})) == "mine"
