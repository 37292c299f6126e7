"""Metrics to TensorBoard or Weights & Biases while a trial runs. Settings and figures only: never patient data."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hemo.cluster.tracking.tensorboard import TensorBoardTracker
from hemo.cluster.tracking.wandb import WandbTracker, check_wandb, unplaced_weights
from hemo.config.trial import TrialConfig
from hemo.config.tune import TrackingConfig
from hemo.curation.card import TrainingSetCard
from hemo.errors import ConfigError
from hemo.storage import is_local
from hemo.training.distributed import Worker, hardware
from hemo.training.reporting import EpochFigures, Reporter, to_stderr
from hemo.trials.provenance import commit, versions
from hemo.trials.record import TrialRecord

FINAL = "final/"
"""Stands before the figures of the best epoch's weights, at the chosen thresholds."""


TENSORBOARD = "tensorboard"
"""Below the folder of records: a folder a trial."""

DIGEST_SHOWN = 6
"""Digits of a trial's digest behind its name, which other trials may share."""


class Tracker(Protocol):
    """Takes what a trial says of itself."""

    def log(self, values: dict[str, float], epoch: int) -> None:
        """Keep one epoch's values."""
        ...

    def conclude(self, record: TrialRecord, summary: dict[str, float | str]) -> None:
        """Keep how the trial ended."""
        ...

    def close(self, *, failed: bool) -> None:
        """Write what is left."""
        ...


@dataclass(frozen=True)
class TrackedTrial:
    """A trial, where it is tracked, and what its figures depend on."""

    tracking: TrackingConfig
    out: str  # folder of records; W&B writes below `OUT/DIGEST`, TensorBoard below `OUT/tensorboard`
    digest: str  # of the trial; the same trial run again continues its W&B run
    trial: TrialConfig
    card: TrainingSetCard
    worker: Worker
    say: Callable[[str], object] = to_stderr

    @property
    def settings(self) -> dict[str, Any]:
        """What a tracker shows as the trial's settings, by dotted names: no path, no data."""
        trial = flat_settings(self.trial.model_dump(mode="json"))
        trial["model.weights"] = unplaced_weights(self.trial.model.weights)
        card = self.card
        return {
            **trial,
            "digest": self.digest,
            "training_set": card.digest,
            "split": card.split,
            "image": f"{len(card.channels)} x {card.height_px} x {card.width_px}",
            **{f"rows.{split}": count.rows for split, count in card.splits.items()},
            "workers": self.worker.count,
            "hardware": hardware(self.worker),
            "commit": commit(),
            **{f"versions.{name}": version for name, version in versions("wandb").items()},
        }


def check_tracking(tracking: TrackingConfig, out: str) -> None:
    """Refuse a tracker that cannot work, as far as that is known without a network; say where W&B will write.

    Raises:
        ConfigError: If `out` is not on a mounted disk, or W&B's key has not a key's form.
    """
    if tracking.backend == "none":
        return
    if not is_local(out):
        raise ConfigError(
            f"tracking.backend: {tracking.backend} writes to mounted disks only, not to {out}; use `none`"
        )
    if tracking.backend == "wandb":
        check_wandb()


def track_trial(tracked: TrackedTrial, reporter: Reporter, run: Callable[[Reporter], TrialRecord]) -> TrialRecord:
    """Run a trial that is tracked from its first epoch to its record. Only rank 0 calls this.

    Args:
        tracked: The trial.
        reporter: Who is told of each epoch besides, and may stop the trial.
        run: Runs the trial with the reporter it is given.
    """
    if tracked.tracking.backend == "none":
        return run(reporter)
    tracker = ForgivenTracker(lambda: open_tracker(tracked), tracked.say)
    failed = True
    try:
        record = run(TrackedReporter(tracker, reporter))
        tracker.conclude(record, summary_of(record))
        failed = record.status == "failed"
        return record
    finally:
        tracker.close(failed=failed)


def track_test(tracked: TrackedTrial, record: TrialRecord) -> None:
    """Add to a trial's run what was measured of it after it had ended: the test figures of a search's choice."""
    if tracked.tracking.backend == "none":
        return
    tracker = ForgivenTracker(lambda: open_tracker(tracked), tracked.say)
    tracker.conclude(record, summary_of(record))
    tracker.close(failed=False)


def open_tracker(tracked: TrackedTrial) -> Tracker:
    """Start or continue the trial's run."""
    if tracked.tracking.backend == "tensorboard":
        return TensorBoardTracker(tensorboard_folder(tracked), tracked.settings, tracked.worker.device)
    folder = Path(tracked.out, tracked.digest)
    folder.mkdir(parents=True, exist_ok=True)
    return WandbTracker(tracked.tracking, folder, tracked.settings, tracked.card, tracked.say)


def tensorboard_folder(tracked: TrackedTrial) -> Path:
    """Return where a trial's event files lie: TensorBoard shows a folder's path as the name of the run.

    A trial that was renamed since goes on in the folder it had.
    """
    runs, digest = Path(tracked.out, TENSORBOARD), tracked.digest[:DIGEST_SHOWN]
    name = re.sub(r"[^\w ,.()=+-]", "_", tracked.trial.name or tracked.trial.model.backbone)
    return next(runs.glob(f"* {digest}"), runs / f"{name} {digest}")


class ForgivenTracker:
    """A tracker whose faults end the tracking and never the trial, whose record has all figures anyway."""

    def __init__(self, begin: Callable[[], Tracker], say: Callable[[str], object]) -> None:
        """Begin; the first fault is told to `say`, in a line."""
        self._say = say
        self._works = True
        self._tracker: Tracker | None = None
        self._attempt("could not begin", lambda: setattr(self, "_tracker", begin()))

    def log(self, values: dict[str, float], epoch: int) -> None:
        """Keep one epoch's values."""
        if self._works and (tracker := self._tracker):
            self._attempt(f"ended at epoch {epoch}", lambda: tracker.log(values, epoch))

    def conclude(self, record: TrialRecord, summary: dict[str, float | str]) -> None:
        """Keep how the trial ended."""
        if self._works and (tracker := self._tracker):
            self._attempt("lacks the trial's end", lambda: tracker.conclude(record, summary))

    def close(self, *, failed: bool) -> None:
        """Write what is left; a tracker at fault is closed as well."""
        if tracker := self._tracker:
            self._attempt("could not write all", lambda: tracker.close(failed=failed))

    def _attempt(self, what: str, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:  # of whatever kind: hours of learning are worth more than their curves
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            self._say(f"tracking {what} ({reason}); the trial goes on, and its record has all figures")
            self._works = False


class TrackedReporter:
    """Logs each epoch to a tracker, then passes it on."""

    def __init__(self, tracker: Tracker, reporter: Reporter) -> None:
        """Stand between a fit and its reporter."""
        self._tracker = tracker
        self._reporter = reporter

    def epoch(self, figures: EpochFigures) -> bool:
        """Log, then ask the reporter whether to go on."""
        self._tracker.log(flat_figures(figures), figures.epoch)
        return self._reporter.epoch(figures)


def flat_figures(figures: EpochFigures) -> dict[str, float]:
    """Return one epoch's numbers by name: `train_loss`, `val_auroc`, `learning_rate`, `epoch_seconds` and so on."""
    renamed = {"seconds": "epoch_seconds", "timestamp": "_timestamp", "runtime_seconds": "_runtime"}
    told = vars(figures).items()
    values = {renamed.get(name, name): float(value) for name, value in told if name not in ("train", "val")}
    for split, metrics in (("train", figures.train), ("val", figures.val)):
        values |= {f"{split}_{name}": value for name, value in metrics.items()}
    return values


def summary_of(record: TrialRecord) -> dict[str, float | str]:
    """Return how a trial ended by name: `status`, `best_epoch`, `final/test_auroc`, `baseline/val_loss` and so on.

    The reason of a failure is left to the record: an exception's words may name files.
    """
    summary: dict[str, float | str] = {
        "status": record.status,
        "best_epoch": record.best_epoch,
        "learning_seconds": record.seconds,
        "parameters": record.parameters,
    }
    for place, splits in (("baseline/", record.baseline), (FINAL, record.metrics)):
        summary |= {
            f"{place}{split}_{name}": value for split, values in splits.items() for name, value in values.items()
        }
    thresholds = zip(record.classes, record.thresholds, strict=False)  # multi_class has none
    return summary | {f"{FINAL}threshold_{name}": value for name, value in thresholds}


def flat_settings(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= flat_settings(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
