"""What a search chose: the trial with the best validation figure, and its test figures, read once."""

from collections.abc import Sequence
from typing import Literal

import pyarrow as pa
import torch

from hemo.cluster.trial import checkpoint_folder, split_predictions
from hemo.errors import SourceError
from hemo.learning.checkpoint import load_checkpoint
from hemo.learning.evaluate import evaluate
from hemo.learning.examples import select_splits
from hemo.learning.images import TrialData
from hemo.learning.loss import build_loss
from hemo.learning.metrics import measure
from hemo.learning.worker import Worker
from hemo.study.record import TrialRecord, read_predictions, write_record


def chosen_record(
    records: Sequence[TrialRecord], metric: Literal["val_loss", "val_accuracy", "val_auroc"]
) -> TrialRecord:
    """Return the complete trial with the best validation figure; of equal ones the first."""
    name = metric.removeprefix("val_")
    sign = 1 if name == "loss" else -1
    complete = [record for record in records if record.status == "complete"]
    return min(complete, key=lambda record: sign * record.metrics["val"][name])


def with_test(record: TrialRecord, out: str, data: TrialData, worker: Worker) -> TrialRecord:
    """Measure a complete trial's checkpoint on test, and write that into its record; at once if it is there.

    Args:
        record: Of a complete trial.
        out: Folder of records.
        data: The training set, with its test split.
        worker: This process.

    Raises:
        SourceError: If the set's test split is held back, or the checkpoint is gone.
    """
    if "test" in record.metrics:
        return record
    splits = select_splits(data, record.config)
    if splits.test is None:
        raise SourceError(f"record {record.digest} cannot be tested: the test split is held back")
    module, card = load_checkpoint(checkpoint_folder(out, record.digest))
    device = torch.device(worker.device)
    logits = evaluate(module.to(device), splits.test, card.normalisation, record.config.training.batch_size, worker)
    labels = {
        name: torch.from_numpy(examples.labels).to(device, torch.float32) for name, examples in splits.by_name.items()
    }
    loss = build_loss(record.config, splits.classes, labels["train"])
    figures = measure(record.config.task, logits, labels["test"], loss, record.threshold)
    tested = record.model_copy(
        update={
            "metrics": {**record.metrics, "test": figures},
            "rows": {**record.rows, "test": len(splits.test)},
        }
    )
    known = read_predictions(out, record.digest)
    write_record(out, tested, pa.concat_tables([known, split_predictions("test", splits.test, logits.cpu().numpy())]))
    return tested
