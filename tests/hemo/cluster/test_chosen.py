"""What a search chose."""

import pytest

from hemo.cluster.chosen import chosen_record, front_lines
from hemo.config.trial import TrialConfig
from hemo.config.tune import SearchConfig
from hemo.errors import HemoError
from hemo.trials.record import EpochRecord, TrialRecord


def search(**fields):
    return SearchConfig(space={"seed": {"choices": [0, 1]}}, **fields)


def record(digest, status="complete", **val):
    fields = {"config": TrialConfig(name=digest), "classes": ("any",), "training_set": "set", "split": "by_patient"}
    epochs = [EpochRecord(epoch=1, train={}, val=val, learning_rate=0.1, seconds=1.0, images_per_second=1.0)]
    fields |= {"epochs": epochs, "best_epoch": 1, "metrics": {"val": {"loss": 0.5, "accuracy": 0.5, "auroc": 0.5}}}
    return TrialRecord(digest=digest, status=status, **fields)


@pytest.mark.parametrize(("metric", "digest"), [("val_loss", "b"), ("val_accuracy", "a"), ("val_auroc", "c")])
def test_the_best_on_validation_among_complete_trials(metric, digest):
    records = [
        record("p", "pruned", loss=0.0, accuracy=1.0, auroc=1.0),
        record("a", loss=0.3, accuracy=0.9, auroc=0.8),
        record("b", loss=0.2, accuracy=0.8, auroc=0.8),
        record("c", loss=0.4, accuracy=0.9, auroc=0.85),
    ]
    chosen = chosen_record(records, search(metric=metric))
    assert (chosen.digest, chosen.selected_by, chosen.selected_among) == (digest, metric, 4)


def test_nothing_is_chosen_by_a_figure_no_trial_has():
    with pytest.raises(HemoError, match="no complete trial has val_auroc"):
        chosen_record([record("a", loss=0.5), record("b", "pruned", loss=0.5, auroc=1.0)], search(metric="val_auroc"))


def test_of_several_objectives_one_of_the_front_is_chosen():
    """`c` has the best accuracy, as `d` has, which `c` beats in AUROC; `b` is beaten by `a` in both."""
    records = [
        record("a", loss=0.3, accuracy=0.8, auroc=0.9),
        record("b", loss=0.2, accuracy=0.7, auroc=0.8),
        record("d", loss=0.1, accuracy=0.9, auroc=0.6),
        record("c", loss=0.4, accuracy=0.9, auroc=0.7),
        record("e", "failed"),
    ]
    both = search(objectives=("val_auroc", "val_accuracy"), metric="val_accuracy", scheduler="none")
    chosen = chosen_record(records, both)
    rule = "val_accuracy on the Pareto front of val_auroc, val_accuracy"
    assert (chosen.digest, chosen.selected_by, chosen.selected_among) == ("c", rule, 5)
    assert front_lines(records, both) == [
        "Pareto front of val_auroc, val_accuracy: 2 of 5 trials",
        "  a: val_auroc 0.9, val_accuracy 0.8",
        "  c: val_auroc 0.7, val_accuracy 0.9",
    ]
    assert front_lines(records, search()) == []
