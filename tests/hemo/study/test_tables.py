"""The grid as Markdown and CSV."""

import csv
import io

import pytest

from hemo.config.metrics import METRICS
from hemo.study.comparison import compared
from hemo.study.record import read_records
from hemo.study.tables import csv_text, format_table, grid_table, hours, markdown, notes, same_settings


def comparisons(tmp_path):
    folder = str(tmp_path / "records")
    return compared(read_records(folder), folder, samples=200, seed=0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00:00"), (59.6, "0:01:00"), (3610, "1:00:10"), (90000, "25:00:00")]
)
def test_hours(seconds, text):
    assert hours(seconds) == text


def test_only_settings_that_differ_have_a_column(make_record, tmp_path):
    make_record({"model.backbone": "VGG16", "seed": 1})
    make_record({"model.backbone": "ResNet50", "seed": 1})
    comparison = comparisons(tmp_path)[0]
    head, rows = grid_table(comparison)
    assert head[:3] == ["trial", "backbone", "train loss / acc"]
    assert {row[1] for row in rows} == {"VGG16", "ResNet50"}
    assert same_settings(comparison) == (
        "weights none, pooling gap, hidden layers 0, dense 16, dropout 0.5, epochs at most 30, batch 32, "
        "learning rate 0.0001, optimizer adam, schedule constant, loss default, patience 5, seed 1"
    )
    assert "backbone" not in same_settings(comparison)


def test_a_row_in_full(make_record, tmp_path):
    metrics = {"train": {"loss": 0.1, "accuracy": 0.99}, "val": {"loss": 0.2, "accuracy": 0.9}, "test": {"loss": 0.25}}
    make_record({"name": "one"}, quality=2.0, metrics=metrics, seconds=83.0, parameters=1234)
    head, rows = grid_table(comparisons(tmp_path)[0])
    assert dict(zip(head, rows[0], strict=True)) == {
        "trial": "one",
        "train loss / acc": "0.1000 / 0.9900",
        "val loss / acc": "0.2000 / 0.9000",
        "test loss / acc": "0.2500 / -",
        "test acc 95 %": "1.000-1.000",
        "test AUROC": "-",
        "AUROC 95 %": "-",  # with three positive images of two patients too many resamples have none
        "best epoch": "8 of 10",
        "learning time": "0:01:23",
        "parameters": "1,234",
        "status": "complete",
    }


def test_failed_and_pruned_trials_stand_there_with_their_reason(make_record, tmp_path):
    make_record({"name": "a", "seed": 1}, status="failed", reason="loss is not a number in epoch 3")
    make_record({"name": "b", "seed": 2}, status="pruned", reason="stopped after epoch 4", test=False)
    make_record({"name": "c", "seed": 3}, test=False)
    comparison = comparisons(tmp_path)[0]
    _, rows = grid_table(comparison)
    assert [(row[0], row[-1]) for row in rows] == [("c", "complete"), ("b", "pruned"), ("a", "failed")]
    said = notes(comparison)
    assert "a failed: loss is not a number in epoch 3" in said
    assert "b pruned: stopped after epoch 4" in said
    assert "The test split was read for 0 of 1 complete trials; the others show `-`." in said


def test_a_search_that_went_on_says_for_how_many_trials_test_was_read(make_record, tmp_path):
    make_record({"seed": 1}, test=False)
    make_record({"seed": 2}, selected_by="val_loss", selected_among=2)
    make_record({"seed": 3}, selected_by="val_loss", selected_among=3)
    assert notes(comparisons(tmp_path)[0])[1] == (
        "The test split was read for 2 of 3 complete trials; the others show `-`. The search went on and chose 2 times."
    )


def test_any_setting_that_differs_has_a_column(make_record, tmp_path):
    make_record({"training.optimizer": "sgd", "augment.rotate_degrees": 15, "model.dense_width": 8})
    make_record({"training.patience": 2})
    head, rows = grid_table(comparisons(tmp_path)[0])
    assert head[1:5] == ["dense", "optimizer", "patience", "rotate degrees"]
    assert {tuple(row[1:5]) for row in rows} == {("8", "sgd", "5", "15"), ("16", "adam", "2", "0")}


def test_the_best_trials_figures_by_pixel_format(make_record, tmp_path):
    """Formats a: six images, three positive; b: four, none, so that a model may learn the format."""
    make_record({"name": "one"}, quality=2.0, formats="aaabaaabbb")
    comparison = comparisons(tmp_path)[0]
    assert format_table(comparison) == (
        ["pixel format", "test images", "share positive", "test acc", "test AUROC"],
        [["a", "6", "0.5000", "1.0000", "1.0000"], ["b", "4", "0.0000", "1.0000", "-"]],
    )
    assert "one by pixel format" in markdown([comparison], "title")


def test_one_pixel_format_needs_no_table(make_record, tmp_path):
    make_record({})
    assert format_table(comparisons(tmp_path)[0]) is None


def test_markdown_is_aligned_and_names_cannot_break_it(make_record, tmp_path):
    make_record({"name": "a|b\n# <script>", "seed": 1})
    make_record({"name": "short", "seed": 2}, training_set="ffff")
    text = markdown(comparisons(tmp_path), "A title")
    assert text.startswith("# A title\n\n## Binary, target any: training set 00112233aabbccdd\n")
    assert "## Binary, target any: training set ffff" in text
    assert "a\\|b # &lt;script>" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in table[:3]}) == 1


def test_csv_has_full_precision_and_one_row_a_trial(make_record, tmp_path):
    make_record(
        {"name": "x, y", "seed": 1}, quality=2.0, metrics={"test": {"loss": 1 / 3, "accuracy": 1.0, "f1": 0.75}}
    )
    make_record({"name": "z", "seed": 2}, training_set="ffff", status="failed", reason="why")
    first, second = csv.DictReader(io.StringIO(csv_text(comparisons(tmp_path))))
    assert (first["name"], float(first["test_loss"]), first["test_majority_accuracy"]) == ("x, y", 1 / 3, "0.7")
    assert (first["test_accuracy"], first["test_accuracy_low"], first["best_epoch"]) == ("1.0", "1.0", "8")
    assert (first["test_f1"], first["test_recall"], set(METRICS) <= {name.removeprefix("test_") for name in first}) == (
        "0.75",
        "",
        True,
    )
    assert (second["status"], second["reason"], second["test_loss"], second["model.backbone"]) == (
        "failed",
        "why",
        "",
        "resnet18",
    )


def test_the_threshold_of_accuracies_is_told(make_record, tmp_path):
    make_record({"seed": 1})
    assert notes(comparisons(tmp_path)[0])[-1].startswith("Accuracies are at each class's threshold of")
