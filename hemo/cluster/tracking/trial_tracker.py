"""Metrics of a running trial to TensorBoard or Weights & Biases. Settings and metrics only: never patient data."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hemo.cluster.tracking.tensorboard import TensorBoardTracker
from hemo.cluster.tracking.wandb import WandbTracker, check_wandb, remove_import_folders
from hemo.config.tune import TrackingConfig, flattened
from hemo.console import print_line
from hemo.curation.card import TrainingSetCard
from hemo.errors import ConfigError, require_extra
from hemo.inference.export import ONNX
from hemo.storage import is_local
from hemo.training.distributed import Worker, hardware
from hemo.training.reporting import Epochs, observed
from hemo.training.results import EpochMetrics
from hemo.trials.key import TrialKey, embeddings_fingerprint
from hemo.trials.record import TrialRecord, commit, versions

FINAL = "final/"
"""Prefix of the metrics of the best epoch's weights, at the chosen thresholds."""


TENSORBOARD = "tensorboard"
"""Below the folder of records: a folder a trial."""

DIGEST_SHOWN = 6
"""Digits of a trial's digest after its name, which other trials may share."""

NAME_BYTES = 200
"""Of a trial's name in that of its folder, which has at most 255 on Linux."""


class Tracker(Protocol):
    """Where a trial's metrics are logged."""

    def log(self, values: dict[str, float], epoch: int) -> None:
        """Log one epoch's values."""
        ...

    def conclude(self, record: TrialRecord, summary: dict[str, float | str]) -> None:
        """Log how the trial ended."""
        ...

    def close(self, *, failed: bool) -> None:
        """Write what is left."""
        ...


@dataclass(frozen=True)
class TrackedTrial:
    """A trial, where it is tracked, and what its metrics depend on."""

    tracking: TrackingConfig
    key: TrialKey  # W&B writes below the trial's folder, TensorBoard below `tensorboard` beside it
    card: TrainingSetCard
    worker: Worker
    print_line: Callable[[str], object] = print_line

    @property
    def settings(self) -> dict[str, Any]:
        """The trial's settings by dotted names: no path, no data."""
        config = self.key.config
        trial = dict(flattened(config.model_dump(mode="json")))
        trial["model.weights"] = self.key.weights
        if config.model.is_sequence:
            trial["model.series.embeddings"] = embeddings_fingerprint(config.model.series.embeddings)
        card = self.card
        return {
            **trial,
            "digest": self.key.digest,
            "training_set": card.digest,
            "split": card.split,
            "image": card.image_size,
            **{f"rows.{split}": count.rows for split, count in card.splits.items()},
            "workers": self.worker.count,
            "hardware": hardware(self.worker),
            "commit": commit(),
            **{f"versions.{name}": version for name, version in versions("wandb").items()},
        }


def check_tracking(tracking: TrackingConfig, out: str) -> None:
    """Refuse a tracker that cannot work, as far as that is known without a network; print where W&B will write.

    Raises:
        ConfigError: If `out` is not on a mounted disk, W&B's key has not a key's form, or an extra is not installed.
    """
    if tracking.backend == "none":
        return
    if not is_local(out):
        raise ConfigError(
            f"tracking.backend: {tracking.backend} writes to mounted disks only, not to {out}; use `none`"
        )
    if tracking.backend == "tensorboard":
        require_extra("tensorboard", "tensorboard")
    else:
        check_wandb()
        require_extra("export", *(ONNX if tracking.onnx else ()))


def tracked(trial: TrackedTrial, epochs: Epochs[TrialRecord]) -> Epochs[TrialRecord]:
    """Log each epoch of a trial, and in the end its record, and pass them on. Of several workers rank 0 does this."""
    remove_import_folders()
    if trial.tracking.backend == "none":
        return (yield from epochs)
    tracker, failed = TolerantTracker(trial), True
    try:
        record = yield from observed(epochs, lambda metrics: tracker.log(flat_metrics(metrics), metrics.epoch))
        tracker.conclude(record, summary_of(record))
        failed = record.status == "failed"
        return record
    finally:
        tracker.close(failed=failed)


def track_test(trial: TrackedTrial, record: TrialRecord) -> None:
    """Add to a trial's run what was measured after it had ended: the test metrics of the trial a search selected."""
    if trial.tracking.backend != "none":
        tracker = TolerantTracker(trial)
        tracker.conclude(record, summary_of(record))
        tracker.close(failed=False)


def open_tracker(trial: TrackedTrial) -> Tracker:
    """Start or continue the trial's run."""
    if trial.tracking.backend == "tensorboard":
        return TensorBoardTracker(tensorboard_folder(trial.key), trial.settings, trial.worker.device)
    folder = Path(trial.key.folder)
    folder.mkdir(parents=True, exist_ok=True)
    return WandbTracker(trial.tracking, folder, trial.settings, trial.card, trial.print_line)


def tensorboard_folder(key: TrialKey) -> Path:
    """Return the folder of a trial's event files: TensorBoard shows a folder's path as the name of the run.

    A trial that was renamed since continues in the folder it had.
    """
    runs, digest = Path(key.records, TENSORBOARD), key.digest[:DIGEST_SHOWN]
    name = re.sub(r"[^\w ,.()=+-]", "_", key.config.name or key.config.model.backbone)
    name = name.encode()[:NAME_BYTES].decode(errors="ignore")  # a letter may be cut in the middle
    return next(runs.glob(f"* {digest}"), runs / f"{name} {digest}")


class TolerantTracker:
    """A tracker whose errors end the tracking and never the trial, whose record has all metrics anyway."""

    def __init__(self, trial: TrackedTrial) -> None:
        """Open the trial's tracker; the first error is printed as a line."""
        self._print_line = trial.print_line
        self._works = True
        self._tracker: Tracker | None = None
        self._attempt("could not start", lambda: setattr(self, "_tracker", open_tracker(trial)))

    def log(self, values: dict[str, float], epoch: int) -> None:
        """Log one epoch's values."""
        if self._works and (tracker := self._tracker):
            self._attempt(f"ended at epoch {epoch}", lambda: tracker.log(values, epoch))

    def conclude(self, record: TrialRecord, summary: dict[str, float | str]) -> None:
        """Log how the trial ended."""
        if self._works and (tracker := self._tracker):
            self._attempt("lacks the trial's end", lambda: tracker.conclude(record, summary))

    def close(self, *, failed: bool) -> None:
        """Write what is left, also after an error."""
        if tracker := self._tracker:
            self._attempt("could not write all", lambda: tracker.close(failed=failed))

    def _attempt(self, what: str, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:  # of whatever kind: hours of training are worth more than their curves
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            self._print_line(f"tracking {what} ({reason}); the trial goes on, and its record has all metrics")
            self._works = False


def flat_metrics(metrics: EpochMetrics) -> dict[str, float]:
    """Return one epoch's numbers by name: `train_loss`, `val_auroc`, `learning_rate`, `epoch_seconds` and so on."""
    renamed = {"seconds": "epoch_seconds", "timestamp": "_timestamp", "runtime_seconds": "_runtime"}
    return {renamed.get(name, name): float(value) for name, value in metrics.flat().items()}


def summary_of(record: TrialRecord) -> dict[str, float | str]:
    """Return how a trial ended by name: `status`, `best_epoch`, `final/test_auroc`, `baseline/val_loss` and so on.

    The reason of a failure is in the record only: an exception's message may name files.
    """
    summary: dict[str, float | str] = {
        "status": record.status,
        "best_epoch": record.best_epoch,
        "training_seconds": record.seconds,
        "parameters": record.parameters,
    }
    for prefix, splits in (("baseline/", record.baseline), (FINAL, record.metrics)):
        summary |= {
            f"{prefix}{split}_{name}": value for split, values in splits.items() for name, value in values.items()
        }
    thresholds = zip(record.classes, record.thresholds, strict=False)  # multi_class has none
    return summary | {f"{FINAL}threshold_{name}": value for name, value in thresholds if value is not None}
