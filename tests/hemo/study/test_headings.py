"""What stands above a table."""

from hemo.study.comparison import compared
from hemo.study.headings import heading, subject
from hemo.study.record import read_records


def lines(tmp_path):
    folder = str(tmp_path / "records")
    comparison = compared(read_records(folder), folder, samples=200, seed=0)[0]
    return subject(comparison), dict(heading(comparison))


def test_heading_says_what_was_compared(make_record, tmp_path):
    make_record({"name": "good", "seed": 1}, quality=2.0)
    make_record({"name": "bad", "seed": 2}, status="failed", finished="2026-11-21T08:00:00+00:00")
    title, heads = lines(tmp_path)
    assert title == "Binary, target any: training set 00112233aabbccdd"
    assert heads["Trials"] == "2 (1 complete, 1 failed)"
    assert heads["Split"] == "by_patient"
    assert heads["Images"] == "train 600, val 120, test 10"
    assert heads["To beat on test"] == "accuracy 0.7000, always giving the commonest answer"
    assert heads["Lowest validation loss"] == (
        "good: test accuracy 1.0000, 95 % interval 1.000 to 1.000, above the accuracy to beat"
    )
    assert heads["Reduced"] == "train limited to 600 of 4,707 images"
    assert heads["Hardware"] == "2 CPU cores, no GPU"
    assert heads["Finished"] == "2026-11-21"


def test_a_leaky_split_is_called_so(make_record, tmp_path):
    make_record({}, split="by_image")
    assert "leaky" in lines(tmp_path)[1]["Split"]


def test_a_best_trial_below_the_majority_is_called_so(make_record, tmp_path):
    make_record({"name": "poor"}, quality=0.0)
    assert "not clearly above the accuracy to beat" in lines(tmp_path)[1]["Lowest validation loss"]


def test_what_holds_for_some_trials_has_its_count(make_record, tmp_path):
    make_record({"seed": 1}, reductions=("side 64 px", "3 epochs"))
    make_record({"seed": 2}, reductions=("side 64 px",), hardware="1 GPU")
    heads = lines(tmp_path)[1]
    assert heads["Reduced"] in ("side 64 px; 3 epochs (1 of 2 trials)", "3 epochs (1 of 2 trials); side 64 px")
    assert "1 GPU (1 of 2 trials)" in heads["Hardware"]


def test_nothing_is_claimed_when_all_failed(make_record, tmp_path):
    make_record({}, status="failed", reason="out of memory")
    heads = lines(tmp_path)[1]
    assert heads["To beat on test"].startswith("unknown")
    assert heads["Images"].startswith("unknown")
    assert "Lowest validation loss" not in heads
