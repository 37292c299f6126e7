"""The grid of trials, the heading above it and the notes below."""

import pyarrow as pa
import pytest

from hemo.reporting.comparison import compare_trials
from hemo.reporting.status_table import summary
from hemo.reporting.trial_table import common_settings, grid_table, heading, notes, subject
from hemo.trials.record import PREDICTION_SCHEMA, read_records, write_record

COUNTS = {
    "rows": {"train": 600, "val": 120, "test": 40},
    "patients": {"train": 90, "val": 12, "test": 20},
    "positives": {"train": (250,), "val": (50,), "test": (20,)},
}


def comparisons(tmp_path):
    folder = str(tmp_path / "records")
    return compare_trials(read_records(folder), folder, samples=200, seed=0)


def lines(tmp_path):
    comparison = comparisons(tmp_path)[0]
    return subject(comparison), dict(heading(comparison))


def test_heading_in_full(make_record, tmp_path):
    make_record({"name": "good", "seed": 1}, quality=2.0, many=True, image="3 x 64 x 64", **COUNTS)
    make_record({"name": "bad", "seed": 2}, status="failed", finished="2026-11-21T08:00:00+00:00")
    title, heads = lines(tmp_path)
    assert title == "Binary, target any: training set 00112233aabbccdd"
    assert heads["Trials"] == "2 (1 complete, 1 failed)"
    assert heads["Split"] == "by_patient"
    assert heads["Images"] == "3 x 64 x 64"
    assert heads["Train"] == "600 images of 90 patients, 250 positive"
    assert heads["Validation"] == "120 images of 12 patients, 50 positive"
    assert heads["Test"] == "40 images of 20 patients, 20 positive"
    assert heads["Highlighted row"] == (
        "good: the only complete trial, on 120 images of 12 patients, 50 positive. Test had no part in the choice"
    )
    assert heads["Highlighted row on test"] == (
        "AUROC 1.000 (0.899-1.000), above 0.5, the AUROC of always predicting the majority class; balanced accuracy "
        "1.000 (0.873-1.000); accuracy 1.000 (0.820-1.000), always predicting the most frequent class reaches 0.50"
    )
    assert heads["Reductions"] == "train limited to 600 of 4,707 images"
    assert heads["Hardware"] == "2 CPU cores, no GPU"
    assert heads["Finished"] == "2026-11-21"


def test_the_untrained_model_is_not_the_majority_class(make_record, tmp_path):
    make_record({"name": "one"}, baseline={"val": {"loss": 0.71}})
    heads = lines(tmp_path)[1]
    assert heads["Before training"] == "validation loss 0.710 (one)"
    assert heads["Highlighted row on test"].endswith("always predicting the most frequent class reaches 0.70")


def test_the_trial_that_a_search_selected_is_named_and_not_the_lowest_loss(make_record, tmp_path):
    """The one it selected last, after it was continued."""
    make_record({"name": "lowest", "seed": 1}, quality=0.9, test=False)
    make_record({"name": "earlier", "seed": 2}, quality=0.1, selected_by="val_auroc", selected_among=2)
    make_record({"name": "chosen", "seed": 3}, quality=2.0, selected_by="val_auroc", selected_among=3)
    heads = lines(tmp_path)[1]
    assert heads["Highlighted row"] == (
        "chosen: selected by val_auroc among 3 trials of a search, on 120 images. Test had no part in the choice"
    )


def test_another_loss_is_in_the_title(make_record, tmp_path):
    make_record({"training.loss": "class_weighted"})
    assert lines(tmp_path)[0] == "Binary, target any, loss class_weighted: training set 00112233aabbccdd"


@pytest.mark.parametrize(("trials", "cautioned"), [(2, False), (3, True)])
def test_intervals_of_many_trials_are_not_adjusted(make_record, tmp_path, trials, cautioned):
    for seed in range(trials):
        make_record({"seed": seed})
    text = lines(tmp_path)[1]["Highlighted row on test"]
    assert ("not adjusted for the 3 trials compared" in text) is cautioned


def test_a_leaky_split_has_a_warning(make_record, tmp_path):
    make_record({}, split="by_image")
    assert "leaky" in lines(tmp_path)[1]["Split"]


@pytest.mark.parametrize(("quality", "relation"), [(0.0, "not clearly above 0.5"), (0.5, "above 0.5")])
def test_a_best_trial_is_compared_with_the_majority_class_by_auroc(make_record, tmp_path, quality, relation):
    make_record({"name": "one"}, quality=quality, many=True)
    assert f", {relation}, the AUROC of always" in lines(tmp_path)[1]["Highlighted row on test"]


def test_a_good_model_with_a_poor_threshold_is_above_the_majority_class(make_record, tmp_path):
    """The issue's case: by accuracy, 0.5 as the majority class, it was `not clearly above`; AUROC is 1."""
    make_record({"name": "one"}, quality=2.0, many=True, thresholds=(1.0,))
    text = lines(tmp_path)[1]["Highlighted row on test"]
    assert text.startswith("AUROC 1.000 (0.899-1.000), above 0.5")
    assert "accuracy 0.50 (0.34-0.66), always predicting the most frequent class reaches 0.50" in text


def test_accuracy_of_several_labels_is_that_of_decisions(of_classes, tmp_path):
    """See `of_classes`: 114 of 120 decisions are right, 80 of 120 by never predicting a class."""
    of_classes("multi_label", ["epidural", "subdural", "any"])
    text = lines(tmp_path)[1]["Highlighted row on test"]
    assert "; accuracy of decisions, one an image and class, 0.95" in text
    assert text.endswith(", always predicting the most frequent answer reaches 0.67")


def test_few_patients_have_no_relation_to_the_majority_class(make_record, tmp_path):
    make_record({"name": "one"}, quality=2.0)
    text = lines(tmp_path)[1]["Highlighted row on test"]
    assert text.startswith("AUROC 1.00, no interval: 8 patients, at least 10 are needed; ")
    reason = "No interval of AUROC, balanced accuracy, accuracy on test: 8 patients, at least 10 are needed."
    assert reason in notes(comparisons(tmp_path)[0])


def test_the_choice_among_trials_is_corrected_in_the_heading(make_record, tmp_path):
    """Two trials on twenty patients of validation; records of the issue's demo had no such line."""
    make_record({"name": "a"}, quality=0.3, many=True)
    make_record({"name": "b", "model.dense_width": 8}, quality=0.25, many=True)
    text = lines(tmp_path)[1]["Corrected for the choice"]
    assert text.startswith("validation loss 0.")
    assert ", for a is the best of 2 trials on these 20 patients (bootstrap bias-corrected" in text
    assert "200 resamples of patients" in text


def test_splits_of_several_classes_have_the_positives_of_each(make_record, tmp_path):
    counts = {"patients": {"train": 90}, "positives": {"train": (200, 1000)}}
    record = make_record({"name": "one", "task": "multi_label"}, status="pruned", test=False, **counts)
    write_record(str(tmp_path / "records"), record.model_copy(update={"classes": ("any", "subdural")}), None)
    assert lines(tmp_path)[1]["Train"] == "600 images of 90 patients, any 200, subdural 1,000"


def test_a_text_of_some_trials_has_its_count(make_record, tmp_path):
    make_record({"seed": 1}, reductions=("side 64 px", "3 epochs"))
    make_record({"seed": 2}, reductions=("side 64 px",), hardware="1 GPU")
    heads = lines(tmp_path)[1]
    assert heads["Reductions"] in ("side 64 px; 3 epochs (1 of 2 trials)", "3 epochs (1 of 2 trials); side 64 px")
    assert "1 GPU (1 of 2 trials)" in heads["Hardware"]


def test_a_heading_when_all_trials_failed(make_record, tmp_path):
    make_record({}, status="failed", reason="out of memory")
    heads = lines(tmp_path)[1]
    assert heads["Images"].startswith("unknown")
    assert not {"Highlighted row", "Train", "Test", "Corrected for the choice"} & heads.keys()


def test_resized_images_have_the_size_that_the_network_received(make_record, tmp_path):
    make_record({"model.side_px": 64, "seed": 1}, image="3 x 224 x 224")
    assert lines(tmp_path)[1]["Images"] == "3 x 64 x 64 (resized from 3 x 224 x 224)"
    make_record({"seed": 2}, image="3 x 224 x 224")
    images = lines(tmp_path)[1]["Images"]
    assert "3 x 64 x 64 (resized from 3 x 224 x 224) (1 of 2 trials)" in images
    assert "3 x 224 x 224 (1 of 2 trials)" in images


def test_only_settings_that_differ_have_a_column(make_record, tmp_path):
    make_record({"model.backbone": "VGG16", "seed": 1})
    make_record({"model.backbone": "ResNet50", "seed": 1})
    comparison = comparisons(tmp_path)[0]
    table = grid_table(comparison)
    assert table.head[:3] == ("trial", "backbone", "train loss / acc")
    assert {row[1] for row in table.rows} == {"VGG16", "ResNet50"}
    assert common_settings(comparison) == (
        "weights none, pooling gap, hidden layers 0, dense 16, dropout 0.5, max epochs 30, batch 32, "
        "learning rate 0.0001, optimizer adam, schedule constant, loss default, patience 5, seed 1"
    )
    assert "backbone" not in common_settings(comparison)


def test_a_row_in_full(make_record, tmp_path):
    metrics = {"train": {"loss": 0.1, "accuracy": 0.99}, "val": {"loss": 0.2, "accuracy": 0.9}, "test": {"loss": 0.25}}
    make_record({"name": "one"}, quality=2.0, many=True, metrics=metrics, seconds=83.0, parameters=1234)
    table = grid_table(comparisons(tmp_path)[0])
    assert dict(zip(table.head, table.rows[0], strict=True)) == {
        "trial": "one",
        "train loss / acc": "0.100 / 0.990",
        "val loss / acc": "0.200 / 0.900",
        "test loss / acc": "0.25 / -",
        "test AUROC (95 %)": "1.000 (0.899-1.000)",
        "test balanced acc (95 %)": "1.000 (0.873-1.000)",
        "test acc (95 %)": "1.000 (0.820-1.000)",
        "best epoch": "8 of 10",
        "training time": "0:01:23",
        "parameters": "1,234",
        "status": "complete",
    }


SPEED = {
    "megabytes": 44.71,
    "latency_ms": 12.34,
    "inference_images_per_second": 150.4,
    "inference_batch_size": 8,
}


def test_size_and_speed_have_columns_where_a_record_has_them(make_record, tmp_path):
    make_record({"name": "old", "seed": 1})
    assert "size (MB)" not in grid_table(comparisons(tmp_path)[0]).head
    make_record({"name": "new", "seed": 2}, **SPEED)
    table = grid_table(comparisons(tmp_path)[0])
    assert table.head[-4:] == ("size (MB)", "latency (ms)", "throughput (images/s)", "status")
    found = {row[0]: row[-4:-1] for row in table.rows}
    assert found == {"old": ("-", "-", "-"), "new": ("44.7", "12.3", "150")}
    note = "Latency: median time for one image. Throughput: in batches of 8 images. Both with torch on the"
    assert table.notes[-1].startswith(note)
    make_record({"name": "large", "seed": 3}, **{**SPEED, "inference_batch_size": 32})
    assert "Throughput: in batches of 8 to 32 images" in notes(comparisons(tmp_path)[0])[-1]


def test_failed_and_pruned_trials_are_listed_with_their_reason(make_record, tmp_path):
    make_record({"name": "a", "seed": 1}, status="failed", reason="loss is NaN or infinite in epoch 3")
    make_record({"name": "b", "seed": 2}, status="pruned", reason="stopped after epoch 4", test=False)
    make_record({"name": "c", "seed": 3}, test=False)
    comparison = comparisons(tmp_path)[0]
    table = grid_table(comparison)
    assert table.marks == ("best", "pruned", "failed")
    assert [(row[0], row[-1]) for row in table.rows] == [("c", "complete"), ("b", "pruned"), ("a", "failed")]
    texts = notes(comparison)
    assert "a failed: loss is NaN or infinite in epoch 3" in texts
    assert "b pruned: stopped after epoch 4" in texts
    assert "Test was evaluated for 0 of 1 complete trials; the others have `-`." in texts


def test_a_continued_search_has_the_number_of_trials_evaluated_on_test(make_record, tmp_path):
    make_record({"seed": 1}, test=False)
    make_record({"seed": 2}, selected_by="val_loss", selected_among=2)
    make_record({"seed": 3}, selected_by="val_loss", selected_among=3)
    assert notes(comparisons(tmp_path)[0])[1:3] == [
        "Test was evaluated for 2 of 3 complete trials; the others have `-`.",
        "The search was continued and selected 2 times, on validation; test was evaluated once for each selected "
        "trial.",
    ]


def test_any_setting_that_differs_has_a_column(make_record, tmp_path):
    make_record({"training.optimizer": "sgd", "augment.rotate_degrees": 15, "model.dense_width": 8})
    make_record({"training.patience": 2})
    table = grid_table(comparisons(tmp_path)[0])
    assert table.head[1:5] == ("dense", "optimizer", "patience", "rotate degrees")
    assert {row[1:5] for row in table.rows} == {("8", "sgd", "5", "15"), ("16", "adam", "2", "0")}


def test_the_threshold_of_accuracies_is_noted(make_record, tmp_path):
    make_record({"seed": 1})
    assert notes(comparisons(tmp_path)[0])[-1].startswith("Accuracies are at the threshold with")


def test_a_search_selects_on_validation(make_record, tmp_path):
    make_record({"seed": 1}, test=False)
    make_record({"seed": 2}, selected_by="val_loss", selected_among=2)
    texts = notes(comparisons(tmp_path)[0])
    assert "The search selected on validation; test was evaluated once, for the selected trial." in texts


def test_summary_needs_no_predictions(make_record):
    record = make_record({"name": "one"}, test=False, metrics={"val": {"loss": 0.25, "accuracy": 0.75}})
    cells = [cell.strip() for cell in summary([record]).splitlines()[2].split("|")[1:5]]
    assert cells == ["one", "0.250 / 0.750", "-", "complete"]


def test_the_side_of_the_resized_images_has_a_column(make_record, tmp_path):
    make_record({"model.side_px": 64, "name": "small"}, image="3 x 224 x 224")
    assert "side (px) 64" in common_settings(comparisons(tmp_path)[0])
    make_record({"name": "large"}, image="3 x 224 x 224")
    table = grid_table(comparisons(tmp_path)[0])
    assert table.head[1] == "side (px)"
    assert {row[:2] for row in table.rows} == {("small", "64"), ("large", "as stored")}


def spreads(tmp_path):
    folder = str(tmp_path / "records")
    comparison = compare_trials(read_records(folder), folder, samples=10, seed=0)[0]
    return [note for note in notes(comparison) if "seeds" in note]


def test_trials_that_differ_by_seed_alone_have_a_mean_and_ends(make_record, tmp_path):
    """Losses 0.2 and 0.4: mean 0.3, deviation 0.2 / sqrt(2); another backbone and a failed seed are left out."""
    for seed, loss in ((1, 0.2), (2, 0.4)):
        make_record({"seed": seed}, metrics={"val": {"loss": loss}, "test": {"accuracy": 1 - loss}})
    make_record({"seed": 3}, status="failed")
    make_record({"seed": 1, "model.backbone": "VGG16"})
    assert spreads(tmp_path) == [
        "resnet18: 2 seeds, mean (standard deviation; range): validation loss "
        "0.30 (0.14; 0.20 to 0.40), test accuracy 0.70 (0.14; 0.60 to 0.80)"
    ]


def test_there_is_no_spread_without_two_seeds(make_record, tmp_path):
    make_record({}, status="failed")
    assert spreads(tmp_path) == []


def test_a_test_split_with_one_label_has_neither_auroc_nor_accuracy(make_record, tmp_path):
    record = make_record({"name": "one"}, many=True)
    images = [f"i{row:02d}" for row in range(40)]
    columns = (["test"] * 40, images, images, ["u12"] * 40, [[0]] * 40, [[-1.0]] * 40)
    table = pa.table(dict(zip(PREDICTION_SCHEMA.names, columns, strict=True)), schema=PREDICTION_SCHEMA)
    write_record(str(tmp_path / "records"), record, table)
    assert lines(tmp_path)[1]["Highlighted row on test"] == (
        "neither AUROC nor accuracy is defined: all images have the same label"
    )


@pytest.mark.parametrize("many", [True, False])
def test_intervals_come_with_what_they_are_worth(make_record, tmp_path, many):
    make_record({"name": "one"}, many=many)
    assert any("93 to 98 %" in note for note in notes(comparisons(tmp_path)[0])) is many


def test_trials_have_the_group_of_their_cell_where_there_are_two(make_record, tmp_path):
    """Beside AUROC on test; one cell has none."""
    make_record({"name": "good"}, quality=1.2, many=True)
    assert "group" not in grid_table(comparisons(tmp_path)[0]).head
    make_record({"name": "poor", "model.dense_width": 32}, quality=0.0, many=True)
    table = grid_table(comparisons(tmp_path)[0])
    column = table.head.index("group")
    assert table.head[column - 1] == "test AUROC (95 %)"
    assert {row[0]: row[column] for row in table.rows} == {"good": "a", "poor": "b"}
    assert "the AUROC of good is higher by" in lines(tmp_path)[1]["Two best cells"]
