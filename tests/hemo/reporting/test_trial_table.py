"""The grid of trials."""

from hemo.reporting.comparison import compared
from hemo.reporting.trial_table import grid_table, notes, same_settings, seed_spreads, summary
from hemo.trials.record import read_records


def comparisons(tmp_path):
    folder = str(tmp_path / "records")
    return compared(read_records(folder), folder, samples=200, seed=0)


def test_only_settings_that_differ_have_a_column(make_record, tmp_path):
    make_record({"model.backbone": "VGG16", "seed": 1})
    make_record({"model.backbone": "ResNet50", "seed": 1})
    comparison = comparisons(tmp_path)[0]
    table = grid_table(comparison)
    assert table.head[:3] == ("trial", "backbone", "train loss / acc")
    assert {row[1] for row in table.rows} == {"VGG16", "ResNet50"}
    assert same_settings(comparison) == (
        "weights none, pooling gap, hidden layers 0, dense 16, dropout 0.5, epochs at most 30, batch 32, "
        "learning rate 0.0001, optimizer adam, schedule constant, loss default, patience 5, seed 1"
    )
    assert "backbone" not in same_settings(comparison)


def test_a_row_in_full(make_record, tmp_path):
    metrics = {"train": {"loss": 0.1, "accuracy": 0.99}, "val": {"loss": 0.2, "accuracy": 0.9}, "test": {"loss": 0.25}}
    make_record({"name": "one"}, quality=2.0, metrics=metrics, seconds=83.0, parameters=1234)
    table = grid_table(comparisons(tmp_path)[0])
    assert dict(zip(table.head, table.rows[0], strict=True)) == {
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
    said = "Latency is the median of one image, throughput is with 8 at once: torch on the trial's own hardware"
    assert table.notes[-1].startswith(said)
    make_record({"name": "large", "seed": 3}, **{**SPEED, "inference_batch_size": 32})
    assert "throughput is with 8 to 32 at once" in notes(comparisons(tmp_path)[0])[-1]


def test_failed_and_pruned_trials_stand_there_with_their_reason(make_record, tmp_path):
    make_record({"name": "a", "seed": 1}, status="failed", reason="loss is not a number in epoch 3")
    make_record({"name": "b", "seed": 2}, status="pruned", reason="stopped after epoch 4", test=False)
    make_record({"name": "c", "seed": 3}, test=False)
    comparison = comparisons(tmp_path)[0]
    table = grid_table(comparison)
    assert table.marks == ("best", "pruned", "failed")
    assert [(row[0], row[-1]) for row in table.rows] == [("c", "complete"), ("b", "pruned"), ("a", "failed")]
    said = notes(comparison)
    assert "a failed: loss is not a number in epoch 3" in said
    assert "b pruned: stopped after epoch 4" in said
    assert "The test split was read for 0 of 1 complete trials; the others show `-`." in said


def test_a_search_that_went_on_says_for_how_many_trials_test_was_read(make_record, tmp_path):
    make_record({"seed": 1}, test=False)
    make_record({"seed": 2}, selected_by="val_loss", selected_among=2)
    make_record({"seed": 3}, selected_by="val_loss", selected_among=3)
    assert notes(comparisons(tmp_path)[0])[1:3] == [
        "The test split was read for 2 of 3 complete trials; the others show `-`.",
        "The search went on and chose 2 times, on validation; test was read once for each of those.",
    ]


def test_any_setting_that_differs_has_a_column(make_record, tmp_path):
    make_record({"training.optimizer": "sgd", "augment.rotate_degrees": 15, "model.dense_width": 8})
    make_record({"training.patience": 2})
    table = grid_table(comparisons(tmp_path)[0])
    assert table.head[1:5] == ("dense", "optimizer", "patience", "rotate degrees")
    assert {row[1:5] for row in table.rows} == {("8", "sgd", "5", "15"), ("16", "adam", "2", "0")}


def test_the_threshold_of_accuracies_is_told(make_record, tmp_path):
    make_record({"seed": 1})
    assert notes(comparisons(tmp_path)[0])[-1].startswith("Accuracies are at each class's threshold of")


def test_a_search_says_that_it_chose_on_validation(make_record, tmp_path):
    make_record({"seed": 1}, test=False)
    make_record({"seed": 2}, selected_by="val_loss", selected_among=2)
    said = notes(comparisons(tmp_path)[0])
    assert "The search chose on validation and read test once, for the trial it chose." in said


def test_summary_needs_no_predictions(make_record):
    record = make_record({"name": "one"}, test=False, metrics={"val": {"loss": 0.25, "accuracy": 0.75}})
    cells = [cell.strip() for cell in summary([record]).splitlines()[2].split("|")[1:5]]
    assert cells == ["one", "0.2500 / 0.7500", "-", "complete"]


def test_the_side_a_network_saw_has_a_column(make_record, tmp_path):
    make_record({"model.side_px": 64, "name": "small"}, image="3 x 224 x 224")
    assert "side (px) 64" in same_settings(comparisons(tmp_path)[0])
    make_record({"name": "large"}, image="3 x 224 x 224")
    table = grid_table(comparisons(tmp_path)[0])
    assert table.head[1] == "side (px)"
    assert {row[:2] for row in table.rows} == {("small", "64"), ("large", "as stored")}


def spreads(tmp_path):
    folder = str(tmp_path / "records")
    return seed_spreads(compared(read_records(folder), folder, samples=10, seed=0)[0])


def test_trials_that_differ_by_seed_alone_have_a_mean_and_ends(make_record, tmp_path):
    """Losses 0.2 and 0.4: mean 0.3, deviation 0.2 / sqrt(2); a backbone alone and a failed seed do not count."""
    for seed, loss in ((1, 0.2), (2, 0.4)):
        make_record({"seed": seed}, metrics={"val": {"loss": loss}, "test": {"accuracy": 1 - loss}})
    make_record({"seed": 3}, status="failed")
    make_record({"seed": 1, "model.backbone": "VGG16"})
    assert spreads(tmp_path) == [
        "resnet18: 2 seeds, mean (standard deviation; least to most): validation loss "
        "0.3000 (0.1414; 0.2000 to 0.4000), test accuracy 0.7000 (0.1414; 0.6000 to 0.8000)"
    ]


def test_nothing_is_said_without_two_seeds(make_record, tmp_path):
    make_record({}, status="failed")
    assert spreads(tmp_path) == []
