"""What trials are compared by: their figures by objective, and those that no other trial beats in all of them."""

from collections.abc import Sequence

from hemo.config.tune import MINIMISED, Objective
from hemo.trials.record import TrialRecord


def objective_figures(record: TrialRecord) -> dict[str, float]:
    """Return objective -> figure of a trial, without those that it has not.

    Validation figures are those a search was told: of the epoch with the lowest validation loss, at threshold 0.5.
    """
    figures = {f"val_{name}": value for name, value in record.best_epoch_val.items()}
    return figures if record.latency_ms is None else {**figures, "latency_ms": record.latency_ms}


def cost(figure: float, objective: Objective) -> float:
    """Return a figure so that less is better."""
    return figure if objective in MINIMISED else -figure


def pareto_front(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """Return the complete trials that no other beats, in the order given; of one objective, those with the best figure.

    A trial beats another if it is at least as good in every objective and better in one. Trials that lack an objective
    are left out.
    """
    complete = [record for record in records if record.status == "complete"]
    known = [record for record in complete if set(objectives) <= set(objective_figures(record))]
    costs = [_costs(record, objectives) for record in known]
    return [record for record, own in zip(known, costs, strict=True) if not any(_beats(other, own) for other in costs)]


def _costs(record: TrialRecord, objectives: Sequence[Objective]) -> list[float]:
    figures = objective_figures(record)
    return [cost(figures[objective], objective) for objective in objectives]


def _beats(other: Sequence[float], own: Sequence[float]) -> bool:
    """Tell whether costs are nowhere higher than one's own, and somewhere lower."""
    return list(other) != list(own) and all(theirs <= mine for theirs, mine in zip(other, own, strict=True))
