"""Trials compared by one objective or several."""

import pytest

from hemo.config.trial import TrialConfig
from hemo.sweeps.objectives import cost, objective_values, pareto_front
from hemo.trials.record import EpochRecord, TrialRecord


def record(digest, status="complete", **val):
    epochs = [EpochRecord(epoch=1, train={}, val=val, learning_rate=0.1, seconds=1.0, images_per_second=1.0)]
    return TrialRecord(
        digest=digest,
        status=status,
        config=TrialConfig(),
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
