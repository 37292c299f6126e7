"""Schedulers of a search, which stop poor trials early; they know the epochs of earlier runs of the same search.

Ray's own put the first epoch that a resumed trial reports into an early rung, or into its mean so far: others there
would be compared with a trial that is much further.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from hemo.cluster.tuning.searchers import EARLIER, mode_of
from hemo.cluster.tuning.trainable import epoch_result
from hemo.config.tune import Range, TuneConfig
from hemo.trials.record import TrialRecord

NEVER = float("inf")
"""Epochs after which the median rule pauses a trial to let others catch up: paused trials would have to be saved."""


def trial_scheduler(config: TuneConfig, ended: Sequence[TrialRecord] = ()) -> TrialScheduler:
    """Return what stops poor trials early: nothing in a grid.

    Args:
        config: Of the sweep.
        ended: Records of earlier runs of the same search, whose epochs others are compared with.
    """
    search = config.search
    if search is None or search.scheduler == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    compared = {"time_attr": "epoch", "metric": search.metric, "mode": mode_of(search.metric)}
    epochs = {record.digest: [epoch_result(metrics) for metrics in record.epochs] for record in ended}
    if search.scheduler == "median":
        return MedianOfAllRuns(epochs, **compared, grace_period=search.grace_epochs, min_time_slice=NEVER)
    longest = max(most_epochs(config), search.grace_epochs)
    return ASHAOfAllRuns(epochs, **compared, max_t=longest, grace_period=search.grace_epochs)


class ASHAOfAllRuns(ASHAScheduler):
    """ASHA whose rungs have each trial's value at the rung's own epoch."""

    def __init__(self, ended: dict[str, list[dict[str, Any]]], **options: Any) -> None:
        """Fill the rungs.

        Args:
            ended: Digest of a trial of an earlier run -> result of each epoch.
            options: Of Ray's scheduler.
        """
        super().__init__(**options)
        for digest, results in ended.items():
            trial: Any = SimpleNamespace(trial_id=digest)
            no_controller: Any = None
            self.on_trial_add(no_controller, trial)
            for result in results:
                super().on_trial_result(no_controller, trial, result)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return whether a trial goes on; on its earlier epochs that was decided when they were trained."""
        for earlier in result.get(EARLIER, ()):
            super().on_trial_result(tune_controller, trial, earlier)
        return super().on_trial_result(tune_controller, trial, result)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Leave the rungs as they are: a trial's last result has the metrics of its best epoch."""


class MedianOfAllRuns(MedianStoppingRule):
    """The median rule, by the means of all epochs of each trial."""

    def __init__(self, ended: dict[str, list[dict[str, Any]]], **options: Any) -> None:
        """Take the results of earlier runs, as `ASHAOfAllRuns` does."""
        super().__init__(**options)
        self._results.update({digest: results for digest, results in ended.items() if results})

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return whether a trial goes on, by its earlier epochs too."""
        if trial not in self._results:
            self._results[trial].extend(result.get(EARLIER, ()))
        return super().on_trial_result(tune_controller, trial, result)


def most_epochs(config: TuneConfig) -> int:
    """Return the most epochs a trial may have."""
    values = config.search.space.get("training.epochs") if config.search else None
    if values is None:
        return config.trial.training.epochs
    return int(values.high if isinstance(values, Range) else max(values.choices))
