"""What a search chose."""

import pytest

from hemo.cluster.chosen import chosen_record
from hemo.config.trial import TrialConfig
from hemo.errors import HemoError
from hemo.study.record import EpochRecord, TrialRecord


def record(digest, status="complete", **val):
    fields = {"config": TrialConfig(), "classes": ("any",), "training_set": "set", "split": "by_patient"}
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
    chosen = chosen_record(records, metric)
    assert (chosen.digest, chosen.selected_by, chosen.selected_among) == (digest, metric, 4)


def test_nothing_is_chosen_by_a_figure_no_trial_has():
    with pytest.raises(HemoError, match="no complete trial has val_auroc"):
        chosen_record([record("a", loss=0.5), record("b", "pruned", loss=0.5, auroc=1.0)], "val_auroc")
