"""Status of the trials in a folder of records, from its files alone, while sweeps run or after."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime

from hemo.errors import SourceError
from hemo.storage import list_folders
from hemo.trials.key import trial_state
from hemo.trials.progress import PlannedTrial, SweepPlan, TrialProgress, learning_curves, read_plans, read_progress
from hemo.trials.record import TrialRecord, has_record, read_record, title_of

SILENT_AFTER_S = 600.0
"""A trial that wrote no progress for this long may be lost; slower ones, for five of their epochs."""

READERS = 16
"""Trials whose files are read at the same time."""

ENDED = ("complete", "pruned", "failed")


@dataclass(frozen=True)
class TrialStatus:
    """How far one trial is."""

    name: str
    status: str  # waiting, running, silent, complete, pruned, failed or unreadable
    epochs: int  # at most
    epoch: int = 0  # whole ones done
    val_loss: float | None = None  # of the last epoch
    best_val_loss: float | None = None
    seconds: float = 0.0  # training time so far
    reason: str = ""  # why it failed, was pruned, or cannot be read
    digest: str = ""
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)  # as `learning_curves` returns them

    @property
    def left_seconds(self) -> float | None:
        """Time left at most, at the pace so far; None where that is not known."""
        if self.status not in ("running", "silent") or not self.epoch:
            return None
        return self.seconds / self.epoch * (self.epochs - self.epoch)


@dataclass(frozen=True)
class SweepStatus:
    """A grid or a search and its trials; without a plan, the trials of no sweep."""

    plan: SweepPlan | None
    trials: tuple[TrialStatus, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Status -> number of trials; those a search has not started yet are waiting."""
        counts = Counter(trial.status for trial in self.trials)
        not_started = max(0, self.plan.count - len(self.trials)) if self.plan else 0
        return dict(counts + Counter(waiting=not_started))

    @property
    def left_seconds(self) -> float | None:
        """Estimated time left, if waiting trials take as long as ended ones; None before one has ended."""
        took = [trial.seconds for trial in self.trials if trial.status in ENDED and trial.seconds]
        running = [trial.left_seconds for trial in self.trials if trial.left_seconds is not None]
        waiting = self.counts.get("waiting", 0)
        if self.plan is None or (waiting and not took) or not (waiting or running):
            return None
        return (sum(running) + (waiting * sum(took) / len(took) if waiting else 0.0)) / self.plan.concurrent


def read_status(folder: str, now: datetime, known: Mapping[str, TrialStatus] | None = None) -> list[SweepStatus]:
    """Return each sweep of a folder of records, and the trials of no sweep.

    Args:
        folder: The folder of records, a path or URI.
        now: With a time zone.
        known: Digest -> status of ended trials whose files have not changed since; these are not read.

    Raises:
        SourceError: If there are no trials, or the plan of a sweep is damaged.
    """
    plans = read_plans(folder)
    planned = {trial.digest for plan in plans for trial in plan.trials}
    others = [digest for digest in list_folders(folder) if digest not in planned]
    known = known or {}
    statuses = {**known, **_read_all(folder, {*planned, *others} - known.keys(), now)}
    outside = tuple(status for digest in others if (status := statuses[digest]))
    if not plans and not outside:
        raise SourceError(f"{folder} holds no trials; `hemo train` and `hemo tune` write them")
    sweeps = [SweepStatus(plan, planned_statuses(folder, plan.trials, now, statuses)) for plan in plans]
    return sweeps + ([SweepStatus(None, outside)] if outside else [])


def planned_statuses(
    folder: str, trials: Sequence[PlannedTrial], now: datetime, known: Mapping[str, TrialStatus | None]
) -> tuple[TrialStatus, ...]:
    """Return the statuses of planned trials; one without files is waiting.

    Args:
        folder: The folder of records, a path or URI.
        trials: In the order of what is returned.
        now: With a time zone.
        known: Digest -> status of trials that are not read, None for those known to have no files.
    """
    statuses = {**known, **_read_all(folder, {each.digest for each in trials} - known.keys(), now)}
    return tuple(_planned(each, statuses[each.digest]) for each in trials)


def require_readable(sweeps: Sequence[SweepStatus]) -> None:
    """Refuse a folder with trials whose files cannot be read.

    Raises:
        SourceError: With a line for each.
    """
    trials = [trial for sweep in sweeps for trial in sweep.trials]
    if reasons := dict.fromkeys(trial.reason for trial in trials if trial.status == "unreadable"):
        raise SourceError("\n".join(reasons))


def _planned(trial: PlannedTrial, status: TrialStatus | None) -> TrialStatus:
    if status is None:
        return TrialStatus(trial.name, "waiting", trial.epochs, digest=trial.digest)
    return replace(status, name=trial.name) if status.status == "unreadable" else status


def _read_all(folder: str, digests: Collection[str], now: datetime) -> dict[str, TrialStatus | None]:
    """Return the status of each trial, several read at the same time: of a bucket each file takes its time."""
    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip(digests, pool.map(lambda digest: trial_status(folder, digest, now), digests), strict=True))


def trial_status(folder: str, digest: str, now: datetime) -> TrialStatus | None:
    """Return the status of a trial, None for a folder that is no trial's."""
    try:
        progress = read_progress(folder, digest)
        record = read_record(folder, digest) if has_record(folder, digest) else None
    except SourceError as error:
        return TrialStatus(digest, "unreadable", epochs=0, reason=str(error), digest=digest)
    if trial_state(record, progress) == "running":
        return _running(progress, digest, now) if progress else None
    return _recorded(record) if record else None


def _recorded(record: TrialRecord) -> TrialStatus:
    losses = [epoch.val["loss"] for epoch in record.epochs]
    return TrialStatus(
        name=title_of(record),
        status=record.status,
        epochs=0 if record.external else record.config.training.epochs,
        epoch=len(record.epochs),
        val_loss=losses[-1] if losses else None,
        best_val_loss=min(losses, default=None),
        seconds=record.seconds,
        reason=record.reason,
        digest=record.digest,
        curves=learning_curves(record.epochs),
    )


def _running(progress: TrialProgress, digest: str, now: datetime) -> TrialStatus:
    quiet_s = (now - datetime.fromisoformat(progress.updated)).total_seconds()
    pace_s = progress.seconds / progress.epoch if progress.epoch else 0.0
    return TrialStatus(
        name=progress.name,
        status="silent" if quiet_s > max(SILENT_AFTER_S, 5 * pace_s) else "running",
        epochs=progress.epochs,
        epoch=progress.epoch,
        val_loss=progress.val.get("loss"),
        best_val_loss=progress.best_val_loss,
        seconds=progress.seconds,
        digest=digest,
        curves=progress.curves,
    )
