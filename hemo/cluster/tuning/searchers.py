"""Searchers for Ray Tune: the points of an Optuna study, or the cells of a grid.

The study stores a search: a killed one resumes from it. Ray's own `OptunaSearch` stores trials that a scheduler stopped
as complete, enqueues the first points again on each start, and leaves trials without a metric running for ever. Tune's
`Searcher` and Optuna's ask and tell are enough.
"""

import json
import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from hemo.config.trial import TrialConfig
from hemo.config.tune import MINIMISED, Objective, SearchConfig, TuneConfig
from hemo.digest import digest_of
from hemo.errors import ConfigError
from hemo.storage import is_local, join
from hemo.sweeps.space import point_trial
from hemo.trials.key import TrialKey, TrialKeys

JOURNAL = "optuna-journal.log"
DIRECTIONS = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
LOST = "hemo:lost"
"""Study attribute: numbers of trials that ended in the study but have no record, and were queued again."""


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


def queue_points(study: optuna.Study, search: SearchConfig, recorded: Callable[[Mapping[str, Any]], bool]) -> int:
    """Queue the first points and those that were interrupted, failed or lost; return how many trials are left to run.

    A lost one ended in the study, but the process was killed before its record was written, or the record was removed.

    Args:
        study: Of the search.
        search: Its settings.
        recorded: Whether the trial at a point has a record.
    """
    for point in search.first:
        study.enqueue_trial(dict(point), skip_if_exists=True)
    for stale in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(stale.number, state=TrialState.FAIL)
    ended = study.get_trials(deepcopy=False, states=ENDED)
    kept = [trial for trial in ended if recorded(trial.params)]
    again = [trial for trial in ended if trial not in kept] + study.get_trials(states=(TrialState.FAIL,))
    settled = [_point(trial) for trial in (*kept, *study.get_trials(states=(TrialState.WAITING,)))]
    for trial in again:
        if trial.params not in settled:
            settled.append(trial.params)
            study.enqueue_trial(trial.params)
    lost = set(study.user_attrs.get(LOST, ())) | {trial.number for trial in ended if trial not in kept}
    study.set_user_attr(LOST, sorted(lost))  # Optuna keeps a trial that ended as it is
    return max(0, search.trials - sum(trial.number not in lost for trial in ended))


def ended_trials(study: optuna.Study, base: TrialConfig) -> list[TrialConfig]:
    """Return the trials that ended, well or not, in the order of the study."""
    ended = study.get_trials(deepcopy=False, states=(*ENDED, TrialState.FAIL))
    return [point_trial(base, trial.params) for trial in ended]


def _point(trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial's point; a waiting one has it among its fixed parameters."""
    return trial.params or dict(trial.system_attrs.get("fixed_params", {}))


def _sampler(seed: int) -> optuna.samplers.BaseSampler:
    """Return TPE over all fields together, which takes running trials into account."""
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def _storage(config: TuneConfig, search: SearchConfig) -> BaseStorage:
    if search.storage == "journal":
        if not is_local(config.out):
            raise ConfigError(
                f"search.storage: a journal needs a mounted disk and cannot lie in {config.out}; give a local `out`, "
                "or an RDB URL such as postgresql://user@host/studies"
            )
        Path(config.out).mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(join(config.out, JOURNAL)))
    try:
        return RDBStorage(search.storage)
    except Exception as error:  # SQLAlchemy's and the drivers' own, of many kinds
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"search.storage: {search.storage} cannot be opened ({reason}); give `journal` or an RDB URL such as "
            "sqlite:////shared/study.db"
        ) from error


def tune_point(key: TrialKey) -> dict[str, Any]:
    """Return what Tune hands to a trial, as plain data; `key_of` reads it."""
    return {"trial": key.config.model_dump(mode="json"), "digest": key.digest, "weights": key.weights}


def key_of(point: Mapping[str, Any], records: str) -> TrialKey:
    """Return the key of the trial that Tune was handed."""
    return TrialKey(TrialConfig.model_validate(point["trial"]), records, point["digest"], point["weights"])


class StudySearcher(Searcher):
    """Draws points from an Optuna study, and reports their results to it."""

    def __init__(
        self,
        study: optuna.Study,
        space: Mapping[str, BaseDistribution],
        base: TrialConfig,
        keys: TrialKeys,
        optimised: Sequence[Objective],
        limit: TimeLimit,
    ) -> None:
        """Connect Tune and a study.

        Args:
            study: Of the search.
            space: Dotted field -> distribution.
            base: What every trial starts from.
            keys: Makes the trials' keys.
            optimised: Objectives that are reported to the study, such as `val_loss`.
            limit: When it is over, no trial is begun any more.
        """
        super().__init__()
        self._study, self._space, self._base, self._keys = study, dict(space), base, keys
        self._optimised, self._limit = tuple(optimised), limit
        self._running: dict[str, optuna.Trial] = {}
        self._held: optuna.Trial | None = None
        self.begun = 0

    def suggest(self, trial_id: str) -> Any:
        """Return the next point for Tune; `FINISHED` once the time is over.

        None: not now. A point that is running already is held until that has ended, since two trials in one folder
        would overwrite each other; then its record is found.
        """
        if self._limit.is_over():
            return Searcher.FINISHED
        drawn = self._held or self._study.ask(fixed_distributions=self._space)
        self._held = drawn if any(running.params == drawn.params for running in self._running.values()) else None
        if self._held:
            return None
        self._running[trial_id] = drawn
        self.begun += 1
        return tune_point(self._keys.key(point_trial(self._base, drawn.params)))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report an epoch's value to the study where it is defined: AUROC of one class only is not.

        Of several objectives Optuna takes no intermediate values.
        """
        first, *others = self._optimised
        if not others and "status" not in result and first in result:
            self._running[trial_id].report(result[first], step=result["epoch"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Report to the study how a trial ended; one without a status was stopped by the scheduler.

        A complete one that lacks an objective counts as failed.
        """
        status = "failed" if error or result is None else result.get("status", "pruned")
        ended = self._running.pop(trial_id)
        if status == "complete" and result is not None and all(objective in result for objective in self._optimised):
            self._study.tell(ended, [result[objective] for objective in self._optimised])
        else:
            self._study.tell(ended, state=TrialState.PRUNED if status == "pruned" else TrialState.FAIL)

    def save(self, checkpoint_path: str) -> None:
        """Write which study it is; all else is in the study."""
        Path(checkpoint_path).write_text(json.dumps({"study": self._study.study_name}), encoding="utf-8")


class CellSearcher(Searcher):
    """Gives Tune each cell once, in the order of the grid."""

    def __init__(self, cells: Sequence[TrialKey], limit: TimeLimit) -> None:
        """Start at the first.

        Args:
            cells: Trials to run.
            limit: When it is over, no trial is begun any more.
        """
        super().__init__()
        self._left, self._limit = deque(cells), limit
        self.begun = 0

    def suggest(self, trial_id: str) -> Any:
        """Return the next cell for Tune; `FINISHED` once all are begun, or the time is over."""
        if not self._left or self._limit.is_over():
            return Searcher.FINISHED
        self.begun += 1
        return tune_point(self._left.popleft())

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the records have the results."""

    def save(self, checkpoint_path: str) -> None:
        """Write what is left; nothing reads it, since a sweep resumes from its records."""
        names = [cell.config.name for cell in self._left]
        Path(checkpoint_path).write_text(json.dumps({"left": names}), encoding="utf-8")
