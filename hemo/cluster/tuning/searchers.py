"""Searchers for Ray Tune: the points of an Optuna study, or the cells of a grid.

The study stores a search: a killed one resumes from it. Ray's own `OptunaSearch` stores trials that a scheduler stopped
as complete, enqueues the first points again on each start, and leaves trials without a metric running for ever. Tune's
`Searcher` and Optuna's ask and tell are enough.
"""

import json
import math
import os
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import optuna
import torch
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher
from torch import nn

from hemo.config.trial import TrialConfig
from hemo.config.tune import MINIMISED, Objective, SearchConfig, TuneConfig
from hemo.console import print_line
from hemo.digest import digest_of
from hemo.errors import ConfigError, LockedError, require_extra, without_passwords
from hemo.models.backbones import build_backbone, own_backbone, pretrained_settings
from hemo.output_lock import Seen, output_lock
from hemo.storage import ENVIRONMENT, is_local
from hemo.sweeps.space import point_trial
from hemo.training.optim import require_stages
from hemo.training.option_checks import check_settings
from hemo.trials.key import TrialKey, TrialKeys
from hemo.trials.record import has_record

JOURNAL = "optuna-journal.log"
DIRECTIONS = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
RECORD_WAIT_S = 60.0
"""How long the record of a stopped trial is waited for before another run of the same trial may begin."""

MOST_WAITING = 16
"""Points drawn again that wait for the run of the same point: a space that gives more has little else to try."""

MOST_INVALID = 100
"""Points drawn one after another that make no valid trial: after so many a search ends."""

RGB = 3
"""Channels of the images that most backbones were made for."""

LOST = "hemo:lost"
"""Study attribute: numbers of trials that ended in the study but have no record, and were queued again."""


EARLIER = "earlier"
"""In the first result of a resumed trial: the results of the epochs before."""


class TimeLimit:
    """A time limit that starts when it is first checked, with a sweep's first trial."""

    def __init__(self, seconds: float = math.inf) -> None:
        """Take the length of time."""
        self._seconds = seconds
        self._began = math.nan

    @classmethod
    def of(cls, config: TuneConfig) -> "TimeLimit":
        """Return how long trials of a sweep may begin."""
        return cls() if config.hours == "unlimited" else cls(3600 * config.hours)

    def is_over(self) -> bool:
        """Return whether the time has passed."""
        now = time.monotonic()
        if math.isnan(self._began):
            self._began = now
        return now - self._began >= self._seconds


def open_study(config: TuneConfig, search: SearchConfig, training_set_digest: str) -> optuna.Study:
    """Create the study, or load it to resume: named by a digest of all that decides the search.

    In a database, which searches may share, it is named by `out` as well: where its records lie.

    Raises:
        ConfigError: If its storage cannot be used.
    """
    named = {"search": search.deciding(), "trial": config.trial.deciding(), "training_set": training_set_digest}
    name = digest_of(named if search.storage == "journal" else {**named, "out": config.out})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = _storage(config, search)
    study = optuna.create_study(
        storage=storage,
        study_name=f"hemo-{name}",
        directions=[DIRECTIONS[mode_of(objective)] for objective in search.optimised],
        load_if_exists=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(search.optimised))  # heads of the dashboard's columns
        study.sampler = _sampler(search.seed + len(study.trials))
    return study


def mode_of(objective: Objective) -> Literal["min", "max"]:
    """Return which values of an objective are better, as Tune names it."""
    return "min" if objective in MINIMISED else "max"


def drawn_trial(base: TrialConfig, point: Mapping[str, Any]) -> TrialConfig:
    """Return the trial at one point of the space, checked as the cell of a grid is but for its images and weights.

    Raises:
        ConfigError: If values that are valid on their own break a rule between fields.
    """
    trial = point_trial(base, point)
    check_settings(trial)
    if trial.training.layer_decay < 1:
        require_stages(_module_of(trial.model.backbone), trial.model.backbone)
    return trial


@cache
def _module_of(backbone: str) -> nn.Module:
    """Return a backbone without memory for its weights, at the image size it was made for: any has the same stages."""
    own = own_backbone(backbone, RGB)
    if own is not None:
        return own
    _, height_px, width_px = pretrained_settings(backbone).input_size
    with torch.device("meta"):
        return build_backbone(backbone, RGB, (height_px, width_px))


def _makes_trial(base: TrialConfig, point: Mapping[str, Any]) -> bool:
    try:
        drawn_trial(base, point)
    except ConfigError:
        return False
    return True


def queue_points(study: optuna.Study, config: TuneConfig, recorded: Callable[[TrialConfig], bool]) -> int:
    """Queue the first points and those that were interrupted, failed or lost; return how many trials are left to run.

    A lost one ended in the study, but the process was killed before its record was written, or the record was removed.
    Points that make no valid trial are not queued again.

    Args:
        study: Of the search.
        config: Of the sweep.
        recorded: Whether a trial has a record.
    """
    assert config.search is not None
    search, base = config.search, config.trial
    for point in search.first:
        study.enqueue_trial(dict(point), skip_if_exists=True)
    for stale in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(stale.number, state=TrialState.FAIL)
    ended = study.get_trials(deepcopy=False, states=ENDED)
    valid = [trial for trial in ended if _makes_trial(base, trial.params)]
    kept = [trial for trial in valid if recorded(point_trial(base, trial.params))]
    numbers = {trial.number for trial in kept}
    without_record = [trial for trial in ended if trial.number not in numbers]
    queued = [_point(trial) for trial in (*kept, *study.get_trials(states=(TrialState.WAITING,)))]
    for trial in (*without_record, *study.get_trials(states=(TrialState.FAIL,))):
        if trial.params not in queued and _makes_trial(base, trial.params):
            queued.append(trial.params)
            study.enqueue_trial(trial.params)
    lost = set(study.user_attrs.get(LOST, ())) | {trial.number for trial in without_record}
    study.set_user_attr(LOST, sorted(lost))  # Optuna keeps a trial that ended as it is
    return max(0, search.trials - sum(trial.number not in lost for trial in ended))


def ended_trials(study: optuna.Study, base: TrialConfig) -> list[TrialConfig]:
    """Return the trials that ended, well or not, in the order of the study; not points that make no valid trial."""
    ended = study.get_trials(deepcopy=False, states=(*ENDED, TrialState.FAIL))
    return [point_trial(base, trial.params) for trial in ended if _makes_trial(base, trial.params)]


def _point(trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial's point; a waiting one has it among its fixed parameters."""
    return trial.params or dict(trial.system_attrs.get("fixed_params", {}))


def _sampler(seed: int) -> optuna.samplers.BaseSampler:
    """Return TPE over all fields together, which takes running trials into account."""
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def check_storage(config: TuneConfig) -> None:
    """Refuse where a search keeps its study, as far as that is known without opening it.

    Raises:
        ConfigError: If a journal would lie in a bucket, or the variable or driver of a database is missing.
    """
    if config.search is None:
        return
    if config.search.storage == "journal":
        if not is_local(config.out):
            raise ConfigError(
                f"search.storage: a journal needs a mounted disk and cannot lie in {config.out}; give a local `out`, "
                "or an RDB URL such as postgresql://user@host/studies"
            )
    elif _database_url(config.search.storage).startswith("postgresql://"):
        require_extra("postgres", "psycopg")


def _storage(config: TuneConfig, search: SearchConfig) -> BaseStorage:
    check_storage(config)
    if search.storage == "journal":
        journal = Path(config.out, JOURNAL)
        journal.parent.mkdir(parents=True, exist_ok=True)
        _cut_unfinished_line(journal)
        return JournalStorage(JournalFileBackend(str(journal)))
    try:
        # a connection is idle for an epoch, long enough for a gateway or a failover to cut it
        return RDBStorage(_database_url(search.storage), engine_kwargs={"pool_pre_ping": True})
    except Exception as error:  # SQLAlchemy's and the drivers' own, of many kinds
        # Python's own error may quote a piece of the password; so may the chain of errors
        reason = "it is no database URL" if isinstance(error, ValueError) else " ".join(str(error).split())
        message = (
            f"search.storage: {search.storage} cannot be opened ({reason}); give `journal` or an RDB URL such as "
            "sqlite:////shared/study.db"
        )
        raise ConfigError(without_passwords(message)) from None


def _cut_unfinished_line(journal: Path) -> None:
    """Cut what a full disk or a kill left of the last line: Optuna would append to it and then never read it again.

    The output lock is held: no other process writes a line now.
    """
    content = journal.read_bytes() if journal.exists() else b""
    if content and not content.endswith(b"\n"):
        os.truncate(journal, content.rfind(b"\n") + 1)


def _database_url(storage: str) -> str:
    if not storage.startswith(ENVIRONMENT):
        return storage
    name = storage.removeprefix(ENVIRONMENT)
    if name not in os.environ:
        raise ConfigError(f"search.storage: {storage}: no such variable in the job's environment; export {name}")
    return os.environ[name]


def tune_point(key: TrialKey) -> dict[str, Any]:
    """Return what Tune hands to a trial, as plain data; `key_of` reads it."""
    return {"trial": key.config.model_dump(mode="json"), "digest": key.digest, "weights": key.weights}


def key_of(point: Mapping[str, Any], records: str) -> TrialKey:
    """Return the key of the trial that Tune was handed."""
    return TrialKey(TrialConfig.model_validate(point["trial"]), records, point["digest"], point["weights"])


@dataclass
class LockedTrial:
    """A trial that Tune runs, or whose record is still to be written."""

    key: TrialKey
    lock: ExitStack  # closed, the trial's folder is free
    give_up: float = math.inf  # when its record is no longer waited for, by `time.monotonic`


class TrialSearcher(Searcher):
    """Gives Tune trials, each locked from its start until its record is there, as `train` locks the one it trains.

    A trial that is locked already waits until that run has ended, and others go first: two in one folder would
    overwrite each other. When its turn comes its record is found.
    """

    def __init__(self, limit: TimeLimit) -> None:
        """Begin with no trial.

        Args:
            limit: When it is over, no trial is begun any more.
        """
        super().__init__()
        self._limit = limit
        self._waiting: list[TrialKey] = []
        self._running: dict[str, LockedTrial] = {}  # by Tune's id
        self._unrecorded: list[LockedTrial] = []  # ended, as Tune sees it
        self._printed: set[str] = set()  # digests of trials that other processes run
        self._seen: Seen = {}
        self._error: Exception | None = None
        self.begun = 0

    @property
    def waiting(self) -> frozenset[str]:
        """Digests of the trials that wait for their turn; a search has none yet that it has not drawn."""
        return frozenset(key.digest for key in self._waiting)

    def suggest(self, trial_id: str) -> Any:
        """Return the next trial for Tune; None while all that are left wait; `FINISHED` if none is, or time is over."""
        if self._limit.is_over():
            return Searcher.FINISHED
        self._release_recorded()
        for key in self._candidates():
            if lock := self._locked(key):
                self._waiting.remove(key)
                self._running[trial_id] = LockedTrial(key, lock)
                self.begun += 1
                return tune_point(key)
        return None if self._waiting else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Release a trial that ended, and keep an error of this for `raise_error`.

        Tune would take it for a failure of the trial, and run that again.
        """
        try:
            self._end(trial_id, result, failed=error)
        except Exception as first:  # of whatever kind: a disk's, a database's, a lost lock
            self._error = self._error or first

    def raise_error(self) -> None:
        """Raise the first error of releasing a trial, if there was one; it is checked after each step of the sweep."""
        if self._error:
            raise self._error

    def _end(self, trial_id: str, result: dict[str, Any] | None, *, failed: bool) -> None:
        """Release a trial; one that the scheduler stopped writes its record after this."""
        ended = self._running.pop(trial_id)
        if failed or result is None or "status" in result:
            ended.lock.close()
        else:
            ended.give_up = time.monotonic() + RECORD_WAIT_S
            self._unrecorded.append(ended)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle nothing: Tune writes its searcher into a file that nothing reads, and a study's URL may be secret."""
        return {}

    def close(self) -> None:
        """Release all trials."""
        for trial in (*self._running.values(), *self._unrecorded):
            trial.lock.close()

    def _candidates(self) -> Iterator[TrialKey]:
        """Yield trials that could begin; all of them are in `_waiting`."""
        yield from tuple(self._waiting)

    def _locked(self, key: TrialKey) -> ExitStack | None:
        """Lock a trial; return None if it runs already. On a disk without file locks this sweep's own count."""
        if any(key.digest == trial.key.digest for trial in (*self._running.values(), *self._unrecorded)):
            return None
        lock = ExitStack()
        try:
            lock.enter_context(output_lock(key.folder, seen=self._seen))
        except LockedError as error:
            if key.digest not in self._printed:
                self._printed.add(key.digest)
                print_line(f"{key.config.name} waits: {error}")
            return None
        return lock

    def _release_recorded(self) -> None:
        now = time.monotonic()
        for trial in tuple(self._unrecorded):
            if now > trial.give_up or has_record(trial.key.records, trial.key.digest):
                self._unrecorded.remove(trial)
                trial.lock.close()


class StudySearcher(TrialSearcher):
    """Draws points from an Optuna study, and reports their results to it."""

    def __init__(
        self,
        study: optuna.Study,
        space: Mapping[str, BaseDistribution],
        config: TuneConfig,
        keys: TrialKeys,
        left: int,
    ) -> None:
        """Connect Tune and a study.

        Args:
            study: Of the search.
            space: Dotted field -> distribution.
            config: Of the sweep: what every trial starts from, the objectives, and how long trials may begin.
            keys: Makes the trials' keys.
            left: Trials to run.
        """
        assert config.search is not None
        super().__init__(TimeLimit.of(config))
        self._study, self._space, self._base, self._keys = study, dict(space), config.trial, keys
        self._optimised, self._left = config.search.optimised, left
        self._invalid = False  # whether a point that makes no valid trial was printed
        self._drawn: dict[str, optuna.Trial] = {}  # by Tune's id
        self._reported: dict[str, int] = defaultdict(int)  # Tune's id -> last epoch that the study has
        self._asked: dict[str, list[optuna.Trial]] = defaultdict(list)  # digest -> trials of the study that wait
        self.exhausted: ConfigError | None = None  # why no more points are drawn, where the space has too few

    def suggest(self, trial_id: str) -> Any:
        """Return the next point for Tune, as its base does."""
        suggested = super().suggest(trial_id)
        if isinstance(suggested, dict):
            self._drawn[trial_id] = self._asked[suggested["digest"]].pop(0)
        return suggested

    def _candidates(self) -> Iterator[TrialKey]:
        """Yield points that were drawn while the same one ran, then new ones."""
        yield from super()._candidates()
        while len(self._waiting) < MOST_WAITING and self.begun + len(self._waiting) < self._left:
            if (key := self._draw()) is None:
                return
            self._waiting.append(key)
            yield key

    def _draw(self) -> TrialKey | None:
        """Return the next point that makes a valid trial, None if there is none; others fail in the study."""
        reason = ""
        for _ in range(0 if self.exhausted else MOST_INVALID):
            drawn = self._study.ask(fixed_distributions=self._space)
            try:
                key = self._keys.key(drawn_trial(self._base, drawn.params))
            except ConfigError as error:
                self._study.tell(drawn, state=TrialState.FAIL)
                if not self._invalid:
                    print_line(f"a point drawn makes no valid trial, another is drawn: {error}")
                self._invalid, reason = True, str(error)
            else:
                self._asked[key.digest].append(drawn)
                return key
        self.exhausted = self.exhausted or ConfigError(
            f"{reason} (search.space: {MOST_INVALID} points drawn one after another make no valid trial; narrow it)"
        )
        return None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report an epoch's value to the study, of a resumed trial also those before it, once each.

        It is left out where it is not defined: AUROC of one class only is not.

        Of several objectives Optuna takes no intermediate values.
        """
        first, *others = self._optimised
        if others or "status" in result:
            return
        for epoch in (*result.get(EARLIER, ()), result):
            if first in epoch and epoch["epoch"] > self._reported[trial_id]:
                self._drawn[trial_id].report(epoch[first], step=epoch["epoch"])
                self._reported[trial_id] = epoch["epoch"]

    def _end(self, trial_id: str, result: dict[str, Any] | None, *, failed: bool) -> None:
        """Report to the study how a trial ended; one without a status was stopped by the scheduler.

        A complete one that lacks an objective counts as failed.
        """
        status = "failed" if failed or result is None else result.get("status", "pruned")
        super()._end(trial_id, result, failed=failed)
        ended = self._drawn.pop(trial_id)
        if status == "complete" and result is not None and all(objective in result for objective in self._optimised):
            self._study.tell(ended, [result[objective] for objective in self._optimised])
        else:
            self._study.tell(ended, state=TrialState.PRUNED if status == "pruned" else TrialState.FAIL)

    def save(self, checkpoint_path: str) -> None:
        """Write which study it is; all else is in the study."""
        Path(checkpoint_path).write_text(json.dumps({"study": self._study.study_name}), encoding="utf-8")


class CellSearcher(TrialSearcher):
    """Gives Tune each cell once, in the order of the grid."""

    def __init__(self, cells: Sequence[TrialKey], limit: TimeLimit) -> None:
        """Start at the first.

        Args:
            cells: Trials to run.
            limit: When it is over, no trial is begun any more.
        """
        super().__init__(limit)
        self._waiting.extend(cells)

    def save(self, checkpoint_path: str) -> None:
        """Write what is left; nothing reads it, since a sweep resumes from its records."""
        names = [cell.config.name for cell in self._waiting]
        Path(checkpoint_path).write_text(json.dumps({"left": names}), encoding="utf-8")
