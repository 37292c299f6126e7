"""What a search chose."""

import pytest

from hemo.cluster.chosen import chosen_record
from hemo.config.trial import TrialConfig
from hemo.study.record import TrialRecord


def record(digest, status="complete", **val):
    fields = {"config": TrialConfig(), "classes": ("any",), "training_set": "set", "split": "by_patient"}
    return TrialRecord(digest=digest, status=status, metrics={"val": val}, **fields)


@pytest.mark.parametrize(("metric", "digest"), [("val_loss", "b"), ("val_accuracy", "a"), ("val_auroc", "c")])
def test_the_best_on_validation_among_complete_trials(metric, digest):
    records = [
        record("p", "pruned", loss=0.0, accuracy=1.0, auroc=1.0),
        record("a", loss=0.3, accuracy=0.9, auroc=0.8),
        record("b", loss=0.2, accuracy=0.8, auroc=0.8),
        record("c", loss=0.4, accuracy=0.9, auroc=0.85),
    ]
    assert chosen_record(records, metric).digest == digest
