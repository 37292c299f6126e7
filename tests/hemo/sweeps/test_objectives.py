"""Trials compared by one objective or several."""

import pytest

from hemo.config.trial import TrialConfig
from hemo.config.tune import SearchConfig
from hemo.errors import HemoError
from hemo.sweeps.objectives import cost, front_lines, objective_values, pareto_front, ranked, selected_record
from hemo.training.results import EpochMetrics
from hemo.trials.record import TrialRecord


def record(digest, status="complete", **val):
    epochs = [EpochMetrics(epoch=1, train={}, val=val, learning_rate=0.1, seconds=1.0, images_per_second=1.0)]
    return TrialRecord(
        digest=digest,
        status=status,
        config=TrialConfig(name=digest),
        classes=("any",),
        training_set="set",
        split="by_patient",
        epochs=epochs,
        best_epoch=1,
    )


def test_less_loss_and_more_accuracy_cost_less():
    assert (cost(0.25, "val_loss"), cost(0.25, "latency_ms"), cost(0.25, "val_auroc")) == (0.25, 0.25, -0.25)


def test_values_by_objective():
    plain = record("a", loss=0.5, auroc=0.75)
    assert objective_values(plain) == {"val_loss": 0.5, "val_auroc": 0.75}
    timed = plain.model_copy(update={"latency_ms": 4.5})
    assert objective_values(timed) == {"val_loss": 0.5, "val_auroc": 0.75, "latency_ms": 4.5}


@pytest.mark.parametrize(
    ("objectives", "front"),
    [
        (["val_accuracy", "val_auroc"], "acf"),  # b is dominated by a, d by c; f is as good as a
        (["val_accuracy"], "cd"),
        (["val_loss"], "e"),  # the only one that has it
        (["val_loss", "val_auroc"], ""),
    ],
)
def test_the_front_has_the_trials_that_no_other_dominates(objectives, front):
    records = [
        record("a", accuracy=0.8, auroc=0.9),
        record("b", accuracy=0.7, auroc=0.9),
        record("c", accuracy=0.9, auroc=0.7),
        record("d", accuracy=0.9, auroc=0.6),
        record("e", loss=0.5),
        record("f", accuracy=0.8, auroc=0.9),
        record("p", "pruned", accuracy=1.0, auroc=1.0),
    ]
    assert "".join(found.digest for found in pareto_front(records, objectives)) == front


def test_trials_of_a_search_stand_by_its_metric_and_unfinished_ones_last():
    records = [
        record("a", loss=0.5, auroc=0.7),
        record("p", "pruned", loss=0.1, auroc=0.99),
        record("b", loss=0.3, auroc=0.6),
        record("f", "failed"),
        record("c", loss=0.4, auroc=0.9),
    ]
    assert "".join(each.digest for each in ranked(records, search())) == "bcapf"
    assert "".join(each.digest for each in ranked(records, search(metric="val_auroc"))) == "cabpf"


def search(**fields):
    return SearchConfig(space={"seed": {"choices": [0, 1]}}, **fields)


@pytest.mark.parametrize(("metric", "digest"), [("val_loss", "b"), ("val_accuracy", "a"), ("val_auroc", "c")])
def test_the_best_on_validation_among_complete_trials(metric, digest):
    records = [
        record("p", "pruned", loss=0.0, accuracy=1.0, auroc=1.0),
        record("a", loss=0.3, accuracy=0.9, auroc=0.8),
        record("b", loss=0.2, accuracy=0.8, auroc=0.8),
        record("c", loss=0.4, accuracy=0.9, auroc=0.85),
    ]
    selected = selected_record(records, search(metric=metric))
    assert (selected.digest, selected.selected_by, selected.selected_among) == (digest, metric, 4)


def test_nothing_is_selected_by_a_metric_no_trial_has():
    with pytest.raises(HemoError, match="no complete trial has val_auroc"):
        selected_record([record("a", loss=0.5), record("b", "pruned", loss=0.5, auroc=1.0)], search(metric="val_auroc"))


def test_of_several_objectives_one_of_the_front_is_selected():
    """`c` has the best accuracy, as `d` has, which `c` dominates in AUROC; `b` is dominated by `a` in both."""
    records = [
        record("a", loss=0.3, accuracy=0.8, auroc=0.9),
        record("b", loss=0.2, accuracy=0.7, auroc=0.8),
        record("d", loss=0.1, accuracy=0.9, auroc=0.6),
        record("c", loss=0.4, accuracy=0.9, auroc=0.7),
        record("e", "failed"),
    ]
    both = search(objectives=("val_auroc", "val_accuracy"), metric="val_accuracy", scheduler="none")
    selected = selected_record(records, both)
    rule = "val_accuracy on the Pareto front of val_auroc, val_accuracy"
    assert (selected.digest, selected.selected_by, selected.selected_among) == ("c", rule, 5)
    assert front_lines(records, both) == [
        "Pareto front of val_auroc, val_accuracy: 2 of 5 trials",
        "  a: val_auroc 0.9, val_accuracy 0.8",
        "  c: val_auroc 0.7, val_accuracy 0.9",
    ]
    assert front_lines(records, search()) == []
