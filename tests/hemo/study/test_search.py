"""Searches: order, what the settings mattered, and what was spent."""

from dataclasses import replace

import pytest

from hemo.study.comparison import compared
from hemo.study.record import read_records
from hemo.study.search import compute_used, importance, searches_of


@pytest.fixture
def search(make_record, tmp_path):
    """Return a function that makes a search of `count` trials whose learning rate alone decides, some stopped."""

    def make(count, pruned=0, selected_by="val_loss"):
        for number in range(count):
            changes = {
                "name": f"t{number}",
                "training.learning_rate": 10.0 ** -(1 + number % 4),
                "model.hidden_layers": number // 4 % 3,
                "training.epochs": 10,
                "seed": number,
            }
            stopped = number >= count - pruned
            chosen = {"selected_by": selected_by, "selected_among": count} if number == 0 else {}
            make_record(
                changes,
                quality=0.9 - 0.2 * (number % 4),
                status="pruned" if stopped else "complete",
                test=number == 0,
                finished=f"2026-11-20T10:{count - number:02d}:00+00:00",
                **chosen,
            )
        (found,) = searches_of(
            compared(read_records(str(tmp_path / "records")), str(tmp_path / "records"), samples=5, seed=0)[0]
        )
        return found

    return make


def test_trials_stand_in_the_order_in_which_they_ended(search):
    found = search(4)
    assert [trial.record.config.name for trial in found.trials] == ["t3", "t2", "t1", "t0"]
    assert found.ranked()[0].record.config.name == "t0"
    assert found.keys == ["training.learning_rate"]


def test_a_search_of_several_objectives_is_shown_by_the_one_that_chose(search):
    """Quality 0.9 down to 0.3: t0 has the lowest loss and the highest AUROC."""
    found = search(4, selected_by="val_loss on the Pareto front of val_loss, latency_ms")
    assert (found.metric, found.less_is_better) == ("val_loss", True)
    found = search(4, selected_by="val_auroc on the Pareto front of val_auroc, latency_ms")
    assert (found.metric, found.less_is_better) == ("val_auroc", False)
    assert found.metric_in_words == "validation AUROC"
    assert [trial.record.config.name for trial in found.ranked()] == ["t0", "t1", "t2", "t3"]


def test_the_setting_that_decides_is_the_important_one(search):
    found = importance(search(12), seed=0)
    assert next(iter(found.shares)) == "training.learning_rate"
    assert found.shares["training.learning_rate"] > 0.9
    assert (found.trials, found.epoch) == (12, None)
    assert sum(found.shares.values()) == pytest.approx(1)


def test_with_stopped_trials_all_are_compared_at_one_epoch(search):
    found = importance(search(12, pruned=3), seed=0)
    assert (found.trials, found.epoch) == (12, 10)


def test_a_trial_stopped_early_is_compared_where_it_stopped(search):
    """One of 12 stopped after epoch 3: all count with the lowest loss of their first three."""
    found = search(12, pruned=1)
    (stopped,) = [trial for trial in found.trials if trial.record.status == "pruned"]
    short = stopped.record.model_copy(update={"epochs": stopped.record.epochs[:3], "best_epoch": 3})
    trials = tuple(replace(trial, record=short) if trial is stopped else trial for trial in found.trials)
    told = importance(replace(found, trials=trials), seed=0)
    assert (told.trials, told.epoch) == (12, 3)


def test_no_importance_from_a_handful(search):
    assert importance(search(7), seed=0) is None


def test_compute_is_told_against_no_stopping_and_a_grid(search):
    """Eight trials of 10 epochs; learning rates .1 to .0001 are four, hidden layers two: a grid of 80 epochs."""
    assert compute_used(search(8)) == (
        "8 trials ran 80 epochs, 100% of the 80 without stopping, and 100.0% of the 80 of a full grid of the values "
        "tried (hidden layers 2, learning rate 4; of a number with decimals one a factor of ten)"
    )


def test_a_grid_is_no_search(make_record, tmp_path):
    make_record({"seed": 1})
    folder = str(tmp_path / "records")
    assert searches_of(compared(read_records(folder), folder, samples=5, seed=0)[0]) == []
