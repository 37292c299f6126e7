"""What stands above a table."""

import pytest

from hemo.reporting.comparison import compared
from hemo.reporting.headings import heading, subject
from hemo.trials.record import read_records


def lines(tmp_path):
    folder = str(tmp_path / "records")
    comparison = compared(read_records(folder), folder, samples=200, seed=0)[0]
    return subject(comparison), dict(heading(comparison))


def test_heading_says_what_was_compared(make_record, tmp_path):
    make_record({"name": "good", "seed": 1}, quality=2.0, image="3 x 64 x 64")
    make_record({"name": "bad", "seed": 2}, status="failed", finished="2026-11-21T08:00:00+00:00")
    title, heads = lines(tmp_path)
    assert title == "Binary, target any: training set 00112233aabbccdd"
    assert heads["Trials"] == "2 (1 complete, 1 failed)"
    assert heads["Split"] == "by_patient"
    assert heads["Images"] == "train 600, val 120, test 10, each 3 x 64 x 64"
    assert heads["Majority class on test"] == "accuracy 0.7000, always giving the commonest answer"
    assert heads["Lowest validation loss"] == (
        "good: test accuracy 1.0000, 95 % interval 1.000 to 1.000, above the majority class"
    )
    assert heads["Reduced"] == "train limited to 600 of 4,707 images"
    assert heads["Hardware"] == "2 CPU cores, no GPU"
    assert heads["Finished"] == "2026-11-21"


def test_the_untrained_model_is_no_majority_class(make_record, tmp_path):
    make_record({"name": "one"}, baseline={"val": {"loss": 0.71}})
    heads = lines(tmp_path)[1]
    assert heads["Before training"] == "validation loss 0.7100, of one"
    assert heads["Majority class on test"].startswith("accuracy 0.7000")


def test_what_a_search_chose_is_said_and_not_the_lowest_loss(make_record, tmp_path):
    """The one it chose last, where it went on."""
    make_record({"name": "lowest", "seed": 1}, quality=0.9, test=False)
    make_record({"name": "earlier", "seed": 2}, quality=0.1, selected_by="val_auroc", selected_among=2)
    make_record({"name": "chosen", "seed": 3}, quality=2.0, selected_by="val_auroc", selected_among=3)
    heads = lines(tmp_path)[1]
    assert heads["Chosen"].startswith("chosen, on val_auroc among 3 trials: test accuracy 1.0000")
    assert "Lowest validation loss" not in heads


def test_another_loss_is_in_the_title(make_record, tmp_path):
    make_record({"training.loss": "class_weighted"})
    assert lines(tmp_path)[0] == "Binary, target any, loss class_weighted: training set 00112233aabbccdd"


@pytest.mark.parametrize(("trials", "said"), [(2, False), (3, True)])
def test_intervals_of_many_trials_are_said_to_be_uncorrected(make_record, tmp_path, trials, said):
    for seed in range(trials):
        make_record({"seed": seed})
    text = lines(tmp_path)[1]["Lowest validation loss"]
    assert ("not corrected for the 3 trials compared" in text) is said


def test_a_leaky_split_is_called_so(make_record, tmp_path):
    make_record({}, split="by_image")
    assert "leaky" in lines(tmp_path)[1]["Split"]


def test_a_best_trial_below_the_majority_is_called_so(make_record, tmp_path):
    make_record({"name": "poor"}, quality=0.0)
    assert "not clearly above the majority class" in lines(tmp_path)[1]["Lowest validation loss"]


def test_what_holds_for_some_trials_has_its_count(make_record, tmp_path):
    make_record({"seed": 1}, reductions=("side 64 px", "3 epochs"))
    make_record({"seed": 2}, reductions=("side 64 px",), hardware="1 GPU")
    heads = lines(tmp_path)[1]
    assert heads["Reduced"] in ("side 64 px; 3 epochs (1 of 2 trials)", "3 epochs (1 of 2 trials); side 64 px")
    assert "1 GPU (1 of 2 trials)" in heads["Hardware"]


def test_nothing_is_claimed_when_all_failed(make_record, tmp_path):
    make_record({}, status="failed", reason="out of memory")
    heads = lines(tmp_path)[1]
    assert heads["Majority class on test"].startswith("unknown")
    assert heads["Images"].startswith("unknown")
    assert "Lowest validation loss" not in heads


def test_shrunk_images_are_told_as_the_network_saw_them(make_record, tmp_path):
    make_record({"model.side_px": 64, "seed": 1}, image="3 x 224 x 224")
    assert lines(tmp_path)[1]["Images"].endswith("test 10, each 3 x 64 x 64 (shrunk from 3 x 224 x 224)")
    make_record({"seed": 2}, image="3 x 224 x 224")
    told = lines(tmp_path)[1]["Images"]
    assert "3 x 64 x 64 (shrunk from 3 x 224 x 224) (1 of 2 trials)" in told
    assert "3 x 224 x 224 (1 of 2 trials)" in told
