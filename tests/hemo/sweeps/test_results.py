"""Searches: order, importance of settings, compute used."""

from dataclasses import replace

import pytest

from hemo.config.tune import Choices, Range
from hemo.reporting.comparison import compare_trials
from hemo.reporting.metric_tables import metric_tables
from hemo.reporting.trial_table import heading, notes
from hemo.sweeps.results import compute_used, importance, searches_of
from hemo.trials.progress import PlannedTrial, SweepPlan, read_plans, write_plan, write_selection
from hemo.trials.record import read_records

RATES = {"training.learning_rate": Range(low=1e-5, high=1e-2, log=True)}
WIDTHS = {"model.dense_width": Choices(choices=(8, 16)), "model.dropout": Range(low=0.0, high=0.5)}


@pytest.fixture
def search(make_record, tmp_path):
    """Return a function that makes a search of `count` trials in which only the learning rate matters, some pruned."""

    def make(count, pruned=0, selected_by="val_loss"):
        for number in range(count):
            changes = {
                "name": f"t{number}",
                "training.learning_rate": 10.0 ** -(1 + number % 4),
                "model.hidden_layers": number // 4 % 3,
                "training.epochs": 10,
                "seed": number,
            }
            is_pruned = number >= count - pruned
            chosen = {"selected_by": selected_by, "selected_among": count} if number == 0 else {}
            make_record(
                changes,
                quality=0.9 - 0.2 * (number % 4),
                status="pruned" if is_pruned else "complete",
                test=number == 0,
                finished=f"2026-11-20T10:{count - number:02d}:00+00:00",
                **chosen,
            )
        folder = str(tmp_path / "records")
        (found,) = searches_of(compare_trials(read_records(folder), folder, samples=5, seed=0)[0].searches)
        return found

    return make


def test_trials_are_in_the_order_in_which_they_ended(search):
    found = search(4)
    assert [trial.record.config.name for trial in found.trials] == ["t3", "t2", "t1", "t0"]
    assert found.keys == ["training.learning_rate"]


def test_a_search_of_several_objectives_has_the_metric_that_selected(search):
    found = search(4, selected_by="val_loss on the Pareto front of val_loss, latency_ms")
    assert (found.metric, found.less_is_better) == ("val_loss", True)
    found = search(4, selected_by="val_auroc on the Pareto front of val_auroc, latency_ms")
    assert (found.metric, found.less_is_better) == ("val_auroc", False)
    assert found.metric_name == "validation AUROC"


def test_the_setting_that_determines_results_is_the_important_one(search):
    found = importance(search(12), seed=0)
    assert next(iter(found.fractions)) == "training.learning_rate"
    assert found.fractions["training.learning_rate"] > 0.9
    assert (found.trials, found.epoch) == (12, None)
    assert sum(found.fractions.values()) == pytest.approx(1)
    low, high = found.ends["training.learning_rate"]
    assert 0.5 < low <= high <= 1
    assert found.ends["model.hidden_layers"][1] < low


def test_with_pruned_trials_all_are_compared_at_one_epoch(search):
    found = importance(search(12, pruned=3), seed=0)
    assert (found.trials, found.epoch) == (12, 10)


def test_a_trial_pruned_early_sets_the_epoch_of_comparison(search):
    """One of 12 was pruned after epoch 3: all are compared by the lowest loss of their first three."""
    found = search(12, pruned=1)
    (stopped,) = [trial for trial in found.trials if trial.record.status == "pruned"]
    short = stopped.record.model_copy(update={"epochs": stopped.record.epochs[:3], "best_epoch": 3})
    trials = tuple(replace(trial, record=short) if trial is stopped else trial for trial in found.trials)
    computed = importance(replace(found, trials=trials), seed=0)
    assert (computed.trials, computed.epoch) == (12, 3)


def test_no_importance_from_few_trials(search):
    assert importance(search(7), seed=0) is None


def test_compute_relative_to_no_pruning_and_to_a_grid(search):
    """Eight trials of 10 epochs; learning rates .1 to .0001 are four, hidden layers two: a grid of 80 epochs."""
    assert compute_used(search(8)) == (
        "8 trials ran 80 epochs: 100% of the 80 at most (early stopping and pruning), 100.0% of the 80 of a full grid "
        "of the values tried (hidden layers 2, learning rate 4; real-valued settings with one value for each factor of "
        "ten)"
    )


def test_a_grid_is_no_search(make_record, tmp_path):
    make_record({"seed": 1})
    folder = str(tmp_path / "records")
    assert searches_of(compare_trials(read_records(folder), folder, samples=5, seed=0)[0].searches) == []


def write_sweep(folder, name, records, kind="search", **fields):
    planned = [PlannedTrial(digest=record.digest, name=record.config.name, epochs=30) for record in records]
    began = "2026-11-20T10:00:00+00:00"
    plan = {"kind": kind, "trials": tuple(planned), "count": len(planned), "concurrent": 2, "began": began, **fields}
    write_plan(folder, SweepPlan(name=name, **plan))


def ended(number):
    return f"2026-11-20T10:{number:02d}:00+00:00"


@pytest.fixture
def comparison(make_record, tmp_path):
    """Three trials of a first search, two of a second, one of both, and a cell of a grid with the lowest loss."""
    folder = str(tmp_path / "records")

    def made(number, quality, **fields):
        changes = {"training.learning_rate": 10.0 ** -(2 + number), "model.dropout": 0.05 * number}
        told = {"name": f"t{number}", "model.dense_width": 8 + 8 * (number % 2), **changes}
        return make_record(told, quality=quality, finished=ended(number), **fields)

    first = [
        made(0, 0.3, test=False),
        made(1, 0.7, selected_by="val_loss", selected_among=4),
        made(2, 0.2, status="pruned", test=False),
    ]
    second = [made(3, 0.5, selected_by="val_auroc", selected_among=3), made(4, 0.4, test=False)]
    both = made(5, 0.6, test=False)
    cell = make_record({"name": "cell", "model.hidden_layers": 2}, quality=0.9, finished=ended(30))
    write_sweep(folder, "b", [*second, both], space=WIDTHS, metric="val_auroc", selected=second[0].digest)
    write_sweep(folder, "a", [*first, both], space=RATES, metric="val_loss", selected=first[1].digest)
    write_sweep(folder, "grid-c", [cell], kind="grid")
    (found,) = compare_trials(read_records(folder), folder, samples=20, seed=0)
    return found


def names(search):
    return [trial.record.config.name for trial in search.trials]


def test_each_search_has_its_own_trials_choice_and_metric(comparison):
    first, second = searches_of(comparison.searches)
    assert (names(first), names(second)) == (["t0", "t1", "t2", "t5"], ["t3", "t4", "t5"])
    assert (first.metric, second.metric) == ("val_loss", "val_auroc")
    assert (first.selected.config.name, second.selected.config.name) == ("t1", "t3")
    rule = (
        "2 searches selected on validation; test was evaluated for the trial that each selected, and for 1 trial of no "
        "search."
    )
    assert rule in notes(comparison)


def test_across_searches_and_grids_the_lowest_loss_is_the_best(comparison):
    """Qualities 0.9 of the grid's cell, 0.7 and 0.5 of the selected trials: t1 is the best of its own search only."""
    assert [row.record.config.name for row in comparison.candidates] == ["cell", "t1", "t3"]
    assert comparison.best.record.config.name == "cell"
    assert comparison.chosen_by == "lowest val loss"
    text = dict(heading(comparison))["Highlighted row"]
    assert text.startswith(
        "cell: the lowest validation loss of 3 complete trials, those that searches passed over aside"
    )
    (table,) = [table for table in metric_tables(comparison) if table.caption == "Metrics of each split"]
    assert [row[0] for row in table.rows if row[1] == "test"] == ["cell", "t1", "t3"]
    assert [choice.record.config.name for choice in comparison.choices] == ["t1", "t3"]  # the cell is alone


def test_a_selected_trial_is_the_best_beside_a_worse_grid(make_record, tmp_path):
    folder = str(tmp_path / "records")
    chosen = make_record({"name": "chosen"}, quality=0.6, selected_by="val_auroc", selected_among=2)
    passed_over = make_record({"name": "passed over", "seed": 1}, quality=0.9, test=False)
    make_record({"name": "cell", "seed": 2}, quality=0.3)
    make_record({"name": "broken", "seed": 3}, status="failed")
    write_sweep(folder, "a", [chosen, passed_over], selected=chosen.digest)
    (found,) = compare_trials(read_records(folder), folder, samples=20, seed=0)
    assert (found.best.record.config.name, found.chosen_by) == ("chosen", "selected by val_auroc")
    assert (
        "Of the 2 trials of the search, test was evaluated once for chosen, which it selected on validation; test was "
        "evaluated for 1 trial of no search too." in notes(found)
    )


def test_each_search_has_lines_in_the_heading(comparison):
    heads = dict(heading(comparison))
    assert heads["Search 1 of 2"] == "4 trials over learning rate 1e-05 to 0.01 (log); val_loss selected t1"
    assert heads["Search 2 of 2"] == "3 trials over dense width 8, 16; dropout 0 to 0.5; val_auroc selected t3"
    assert heads["Compute of search 2 of 2"].startswith("3 trials ran 30 epochs")


def test_records_without_a_plan_are_one_search(make_record, tmp_path):
    """A plan may lack the selected trial; then the records have it."""
    folder = str(tmp_path / "records")
    old = make_record({"name": "old", "seed": 1}, selected_by="val_auroc", selected_among=1, finished=ended(1))
    early = make_record({"name": "early", "seed": 2}, selected_by="val_loss", selected_among=1, finished=ended(2))
    late = make_record({"name": "late", "seed": 3}, selected_by="val_loss", selected_among=2, finished=ended(3))
    write_sweep(folder, "a", [early, late])
    (found,) = compare_trials(read_records(folder), folder, samples=20, seed=0)
    first, second = searches_of(found.searches)
    assert (names(first), first.metric, first.selected.digest) == (["old"], "val_auroc", old.digest)
    assert (names(second), second.metric, second.selected.digest) == (["early", "late"], "val_loss", late.digest)


def test_a_selected_trial_is_written_to_the_plan_of_its_search(make_record, tmp_path):
    folder = str(tmp_path / "records")
    record = make_record({})
    for name in ("a", "b"):
        write_sweep(folder, name, [record], space=RATES, metric="val_loss")
    write_selection(folder, "b", record.digest)
    assert {plan.name: plan.selected for plan in read_plans(folder)} == {"a": "", "b": record.digest}
    assert read_plans(folder)[1].space == RATES
