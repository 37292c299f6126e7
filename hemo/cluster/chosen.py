"""What a search chose: the trial with the best validation figure, and its test figures, read once."""

from collections.abc import Sequence

import pyarrow as pa
import torch

from hemo.config.tune import SearchConfig
from hemo.errors import HemoError, SourceError, TrialError
from hemo.models.checkpoint import load_checkpoint
from hemo.sweeps.objectives import cost, objective_figures, pareto_front
from hemo.training.data.dataset import TrialData
from hemo.training.data.task_rows import select_splits
from hemo.training.distributed import Worker
from hemo.training.evaluate import evaluate
from hemo.training.loss import build_loss
from hemo.training.metrics import judge
from hemo.training.reporting import memory_told
from hemo.trials.record import TrialRecord, read_predictions, write_record
from hemo.trials.run import checkpoint_folder, judged_fields, one_sided, split_predictions


def chosen_record(records: Sequence[TrialRecord], search: SearchConfig) -> TrialRecord:
    """Return the complete trial that a search chooses, marked as selected; of equal ones the first.

    It is the one with the best `metric`; of several objectives, the best of those that no other trial beats in all.

    Raises:
        HemoError: If no complete trial has these figures.
    """
    front = pareto_front(records, search.optimised)
    if not front:
        wanted = " and ".join(search.optimised)
        raise HemoError(f"no complete trial has {wanted}: nothing can be chosen; search on val_loss")
    best = min(front, key=lambda record: cost(objective_figures(record)[search.metric], search.metric))
    return best.model_copy(update={"selected_by": selection_rule(search), "selected_among": len(records)})


def selection_rule(search: SearchConfig) -> str:
    """Return what a search chooses by: `val_loss`, or `val_auroc on the Pareto front of val_auroc, latency_ms`."""
    front = f" on the Pareto front of {', '.join(search.objectives)}" if search.objectives else ""
    return search.metric + front


def front_lines(records: Sequence[TrialRecord], search: SearchConfig) -> list[str]:
    """Return a line for each trial on the Pareto front of several objectives, below one that says what that is."""
    if not search.objectives:
        return []
    front = pareto_front(records, search.objectives)
    lines = [f"Pareto front of {', '.join(search.objectives)}: {len(front)} of {len(records)} trials"]
    for record in front:
        figures = objective_figures(record)
        told = ", ".join(f"{objective} {figures[objective]:.4g}" for objective in search.objectives)
        lines.append(f"  {record.config.name}: {told}")
    return lines


def with_test(record: TrialRecord, out: str, data: TrialData, worker: Worker) -> TrialRecord:
    """Measure a complete trial's checkpoint on test, and write that into its record.

    Args:
        record: Of a complete trial.
        out: Folder of records.
        data: The training set, with its test split.
        worker: This process.

    Raises:
        SourceError: If the set's test split is held back, or the checkpoint is gone.
        TrialError: If the memory does not hold a batch.
    """
    splits = select_splits(data, record.config)
    if splits.test is None:
        raise SourceError(f"record {record.digest} cannot be tested: the test split is held back")
    module, card = load_checkpoint(checkpoint_folder(out, record.digest))
    device = torch.device(worker.device)
    batch_size = record.config.training.batch_size
    with memory_told(batch_size, TrialError):
        logits = evaluate(module.to(device), splits.test, card.normalisation, batch_size, worker)
    loss = build_loss(record.config, splits.classes, torch.from_numpy(splits.train.labels).to(device, torch.float32))
    figures = judge(record.config.task, splits.classes, logits, splits.test, loss, record.thresholds)
    fields = judged_fields({"test": figures})
    told = {name: {**getattr(record, name), **by_split} for name, by_split in fields.items()}
    new = [sentence for sentence in one_sided(splits, record.config.task) if sentence not in record.reductions]
    rows, reductions = {**record.rows, "test": len(splits.test)}, (*record.reductions, *new)
    tested = record.model_copy(update={**told, "rows": rows, "reductions": reductions})
    known = read_predictions(out, record.digest)
    write_record(out, tested, pa.concat_tables([known, split_predictions("test", splits.test, logits.cpu().numpy())]))
    return tested
