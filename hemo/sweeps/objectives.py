"""Objectives of a search: each trial's values, the Pareto front, and the trial that is selected.

Imported by trial processes, hence without Optuna.
"""

from collections.abc import Sequence

from hemo.config.tune import MINIMISED, Objective, SearchConfig
from hemo.errors import HemoError
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
    front = on_front([_costs(record, objectives) for record in known])
    return [record for record, kept in zip(known, front, strict=True) if kept]


def on_front(costs: Sequence[Sequence[float]]) -> list[bool]:
    """Return whether no other point dominates each one: is at least as good in every cost and better in one.

    Args:
        costs: Of each point, less is better; equally long.
    """
    return [not any(_dominates(other, own) for other in costs) for own in costs]


def _costs(record: TrialRecord, objectives: Sequence[Objective]) -> list[float]:
    values = objective_values(record)
    return [cost(values[objective], objective) for objective in objectives]


def _dominates(other: Sequence[float], own: Sequence[float]) -> bool:
    """Return whether no cost of `other` is higher than that of `own`, and at least one is lower."""
    return list(other) != list(own) and all(a <= b for a, b in zip(other, own, strict=True))


def selected_record(records: Sequence[TrialRecord], search: SearchConfig) -> TrialRecord:
    """Return the complete trial that a search selects, marked as selected; of equal ones the first.

    It is the one with the best `metric`; of several objectives, the best on the Pareto front.

    Raises:
        HemoError: If no complete trial has these values.
    """
    front = pareto_front(records, search.optimised)
    if not front:
        wanted = " and ".join(search.optimised)
        raise HemoError(f"no complete trial has {wanted}: none can be selected; search on val_loss")
    best = min(front, key=lambda record: cost(objective_values(record)[search.metric], search.metric))
    return best.model_copy(update={"selected_by": selection_rule(search), "selected_among": len(records)})


def ranked(records: Sequence[TrialRecord], search: SearchConfig) -> list[TrialRecord]:
    """Return the trials of a search, the best by its metric first; those that are not complete last, as they were."""

    def rank(record: TrialRecord) -> tuple[bool, float]:
        value = objective_values(record).get(search.metric)
        known = record.status == "complete" and value is not None
        return not known, cost(value, search.metric) if known and value is not None else 0.0

    return sorted(records, key=rank)


def selection_rule(search: SearchConfig) -> str:
    """Return what a search selects by: `val_loss`, or `val_auroc on the Pareto front of val_auroc, latency_ms`."""
    front = f" on the Pareto front of {', '.join(search.objectives)}" if search.objectives else ""
    return search.metric + front


def front_lines(records: Sequence[TrialRecord], search: SearchConfig) -> list[str]:
    """Return a heading and a line for each trial on the Pareto front; nothing for a single objective."""
    if not search.objectives:
        return []
    front = pareto_front(records, search.objectives)
    lines = [f"Pareto front of {', '.join(search.objectives)}: {len(front)} of {len(records)} trials"]
    for record in front:
        values = objective_values(record)
        shown = ", ".join(f"{objective} {values[objective]:.4g}" for objective in search.objectives)
        lines.append(f"  {record.config.name}: {shown}")
    return lines
