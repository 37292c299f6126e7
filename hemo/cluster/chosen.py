"""What a search chose: the trial with the best validation figure, and its test figures, read once."""

from collections.abc import Sequence
from typing import Literal

import pyarrow as pa
import torch

from hemo.cluster.trial import checkpoint_folder, judged_fields, split_predictions
from hemo.errors import HemoError, SourceError, TrialError
from hemo.learning.checkpoint import load_checkpoint
from hemo.learning.evaluate import evaluate
from hemo.learning.examples import select_splits
from hemo.learning.images import TrialData
from hemo.learning.judge import judge
from hemo.learning.loss import build_loss
from hemo.learning.memory import memory_told
from hemo.learning.worker import Worker
from hemo.study.record import TrialRecord, read_predictions, write_record


def chosen_record(
    records: Sequence[TrialRecord], metric: Literal["val_loss", "val_accuracy", "val_auroc"]
) -> TrialRecord:
    """Return the complete trial whose best epoch has the best figure, marked as selected; of equal ones the first.

    The figure is the one the search was told: of the epoch with the lowest validation loss, at threshold 0.5.

    Raises:
        HemoError: If no complete trial has that figure.
    """
    name = metric.removeprefix("val_")
    sign = 1 if name == "loss" else -1
    complete = [record for record in records if record.status == "complete" and name in record.best_epoch_val]
    if not complete:
        raise HemoError(f"no complete trial has {metric}: nothing can be chosen; search on val_loss")
    best = min(complete, key=lambda record: sign * record.best_epoch_val[name])
    return best.model_copy(update={"selected_by": metric, "selected_among": len(records)})


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
    tested = record.model_copy(update={**told, "rows": {**record.rows, "test": len(splits.test)}})
    known = read_predictions(out, record.digest)
    write_record(out, tested, pa.concat_tables([known, split_predictions("test", splits.test, logits.cpu().numpy())]))
    return tested
