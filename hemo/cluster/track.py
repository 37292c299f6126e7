"""Metrics to TensorBoard or Weights & Biases while a trial runs. Settings and figures only: never patient data."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import wandb
from torch.utils.tensorboard import SummaryWriter

from hemo.config.train import TrackingConfig
from hemo.config.trial import TrialConfig
from hemo.errors import ConfigError
from hemo.learning.figures import EpochFigures, Reporter
from hemo.storage import is_local


class Tracker(Protocol):
    """Takes figures of each epoch; `close` ends the run."""

    def log(self, values: dict[str, float], epoch: int) -> None:
        """Keep one epoch's values."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class TrackedReporter:
    """Logs each epoch to a tracker, then passes it on."""

    def __init__(self, tracker: Tracker, reporter: Reporter) -> None:
        """Stand between a fit and its reporter."""
        self._tracker = tracker
        self._reporter = reporter
        self._began = time.time()

    def epoch(self, figures: EpochFigures) -> bool:
        """Log, then ask the reporter whether to go on."""
        now = time.time()
        clock = {"_timestamp": now, "_runtime": now - self._began}
        self._tracker.log({**flat_figures(figures), **clock}, figures.epoch)
        return self._reporter.epoch(figures)


def check_tracking(tracking: TrackingConfig, out: str) -> None:
    """Refuse a tracker that cannot write where the records go.

    Raises:
        ConfigError: If `out` is not on a mounted disk.
    """
    if tracking.backend != "none" and not is_local(out):
        raise ConfigError(
            f"tracking.backend: {tracking.backend} writes to mounted disks only, not to {out}; use `none`"
        )


@contextmanager
def tracked(
    reporter: Reporter, tracking: TrackingConfig, *, out: str, digest: str, trial: TrialConfig
) -> Iterator[Reporter]:
    """Give a reporter that also tracks, for the length of one trial. Only rank 0 calls this.

    Args:
        reporter: Who is told besides.
        tracking: Which tracker.
        out: Folder of records; trackers write below `OUT/DIGEST`.
        digest: Of the trial; the same trial run again continues its W&B run.
        trial: Its settings are logged.

    Raises:
        ConfigError: If the tracker cannot write where `out` is, see `check_tracking`.
    """
    check_tracking(tracking, out)
    if tracking.backend == "none":
        yield reporter
        return
    folder = Path(out, digest)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {**flat_settings(trial.model_dump(mode="json")), "digest": digest}
    tracker: Tracker = (
        TensorBoardTracker(folder / "tensorboard", settings)
        if tracking.backend == "tensorboard"
        else WandbTracker(folder, tracking.project, settings)
    )
    try:
        yield TrackedReporter(tracker, reporter)
    finally:
        tracker.close()


class TensorBoardTracker:
    """Event files in a folder."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        """Open the event file and write the settings as text."""
        self._writer = SummaryWriter(str(folder))
        rows = "\n".join(f"| {name} | {value} |" for name, value in settings.items())
        self._writer.add_text("settings", f"| setting | value |\n| --- | --- |\n{rows}")

    def log(self, values: dict[str, float], epoch: int) -> None:
        """Write scalars."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


class WandbTracker:
    """A W&B run in `FOLDER/wandb`; offline where WANDB_API_KEY is not set, to be sent later by `wandb sync`."""

    def __init__(self, folder: Path, project: str, settings: dict[str, Any]) -> None:
        """Start the run, or continue that of the same trial."""
        self._run = wandb.init(
            project=project,
            id=settings["digest"],
            name=settings["name"] or settings["digest"],
            resume="allow",
            mode="online" if os.environ.get("WANDB_API_KEY") else "offline",
            dir=folder,
            config=settings,
            settings=wandb.Settings(console="off", silent=True),
        )

    def log(self, values: dict[str, float], epoch: int) -> None:
        """Log one step; W&B adds `_timestamp` and `_runtime` of its own, which ours overwrite."""
        self._run.log(values, step=epoch)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def flat_figures(figures: EpochFigures) -> dict[str, float]:
    """Return one epoch's numbers by name: `train_loss`, `val_auroc`, `learning_rate` and so on."""
    values = {"epoch": float(figures.epoch), "learning_rate": figures.learning_rate, "epoch_seconds": figures.seconds}
    values["images_per_second"] = figures.images_per_second
    for split, metrics in (("train", figures.train), ("val", figures.val)):
        values |= {f"{split}_{name}": value for name, value in metrics.items()}
    return values


def flat_settings(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= flat_settings(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
