"""Objectives of a sweep: their values from a record, and the Pareto front of trials.

Imported by trial processes, hence without Optuna.
"""

from collections.abc import Sequence

from hemo.config.tune import MINIMISED, Objective
from hemo.trials.record import TrialRecord


def objective_values(record: TrialRecord) -> dict[str, float]:
    """Return objective -> value of a trial, without objectives that it does not have.

    Validation metrics are those reported to the search: of the epoch with the lowest validation loss, at threshold 0.5.
    """
    values = {f"val_{name}": value for name, value in record.best_epoch_val.items()}
    return values if record.latency_ms is None else {**values, "latency_ms": record.latency_ms}


def cost(value: float, objective: Objective) -> float:
    """Return a value with the sign at which less is better."""
    return value if objective in MINIMISED else -value


def pareto_front(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """Return the complete trials that no other dominates, in the order of `records`; of one objective, the best ones.

    A trial dominates another if it is at least as good in every objective and better in one. Trials without a value of
    an objective are left out.
    """
    complete = [record for record in records if record.status == "complete"]
    known = [record for record in complete if set(objectives) <= set(objective_values(record))]
    costs = [_costs(record, objectives) for record in known]
    return [
        record for record, own in zip(known, costs, strict=True) if not any(_dominates(other, own) for other in costs)
    ]


def _costs(record: TrialRecord, objectives: Sequence[Objective]) -> list[float]:
    values = objective_values(record)
    return [cost(values[objective], objective) for objective in objectives]


def _dominates(other: Sequence[float], own: Sequence[float]) -> bool:
    """Tell whether no cost of `other` is higher than that of `own`, and at least one is lower."""
    return list(other) != list(own) and all(a <= b for a, b in zip(other, own, strict=True))
