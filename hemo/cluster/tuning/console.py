"""Console output of a running sweep: a line for each trial that ends, and regularly a table of the running ones."""

import math
import time
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from hemo.cluster.tuning.searchers import key_of
from hemo.cluster.worker_group import is_node_loss
from hemo.config.tune import Objective, TuneConfig
from hemo.console import print_line
from hemo.reporting.cells import order_by_losses
from hemo.reporting.status_table import heading, trial_table
from hemo.storage import WrittenFiles, join
from hemo.sweeps.grid import grid_trials
from hemo.sweeps.objectives import cost
from hemo.trials.key import TrialKey
from hemo.trials.progress import PlannedTrial, SweepPlan, write_plan
from hemo.trials.status import SweepStatus, TrialStatus, planned_statuses

TABLE_EVERY_S = 30.0

FAILURE = "Failure # "
"""Begins each error in Tune's file."""

SHOWN: tuple[Objective, ...] = ("val_loss", "val_accuracy", "val_auroc", "latency_ms")


def shown_metric(config: TuneConfig) -> Objective:
    """Return the metric by which the best trial is shown; of a grid of several losses AUROC, as in the report."""
    if config.search:
        return config.search.metric
    assert config.grid is not None  # TuneConfig has one of the two
    return order_by_losses([trial.training for trial in grid_trials(config.trial, config.grid)])


class SweepConsole(tune.Callback):
    """Prints lines on standard error, keeps the sweep's plan up to date, and collects trials whose process was lost."""

    def __init__(
        self, plan: SweepPlan, metric: Objective, *, left: int, waiting: Collection[str], records: str
    ) -> None:
        """Start with none of the trials that are left.

        Args:
            plan: Of the sweep.
            metric: By which the best trial so far is shown.
            left: Trials to run.
            waiting: Digests of the trials of the plan that wait for their turn: until then their files are not read.
            records: Folder of records.
        """
        self.lost: list[tuple[TrialKey, str]] = []
        self._plan, self._metric, self._left = plan, metric, left
        self._records = records
        self._ended, self._best, self._least_cost = 0, "", math.inf
        self._seen: dict[str, TrialStatus] = {}  # by digest; of trials that ended
        self._begun: dict[str, str] = {}  # Tune's id -> digest
        self._waiting = set(waiting)
        self._shown_at = time.monotonic()
        self._written = WrittenFiles()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Add a trial that a search drew to its plan; a point that was drawn again is one trial less."""
        if trial.trial_id in self._begun:
            return  # tried again
        key = key_of(trial.config, self._records)
        digest, config = key.digest, key.config
        self._waiting.discard(digest)
        if digest not in {planned.digest for planned in self._plan.trials}:
            drawn = PlannedTrial(digest=digest, name=config.name, epochs=config.training.epochs)
            self._replan(trials=(*self._plan.trials, drawn))
        elif self._plan.kind == "search" and (digest in self._begun.values() or key.state() in ("complete", "pruned")):
            self._replan(count=self._plan.count - 1)
        self._begun[trial.trial_id] = digest

    def _replan(self, **changes: Any) -> None:
        self._plan = self._plan.model_copy(update=changes)
        write_plan(self._records, self._plan)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Print the table again when it is time.

        Raises:
            OutputError: If the record of a trial that ended is on a disk of another machine.
        """
        if time.monotonic() - self._shown_at >= TABLE_EVERY_S:
            try:
                self.show()
            except OSError as error:
                print_line(f"the table of trials cannot be shown now: {error.strerror or error}; the sweep goes on")
            self._shown_at = time.monotonic()
        self._written.check()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Print how a trial ended; one without a status was stopped by the scheduler."""
        result = trial.last_result
        status, name = result.get("status", "pruned"), trial.config["trial"]["name"]
        if "status" in result:
            self._written.add(join(self._records, trial.config["digest"], "record.json"))
        if status == "complete" and self._metric in result:
            self._compare(result[self._metric], name)
        values = [f"{name} {result[name]:.4f}" for name in SHOWN if name in result]
        self._print(trial, ", ".join([f"{status} after {result.get('epoch', 0)} epochs", *values]))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Collect a lost trial."""
        reason = _last_reason(trial)
        self.lost.append((key_of(trial.config, self._records), reason))
        self._print(trial, f"failed: {reason}")

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Print why a trial is started again; the loss of its node is not counted among its failures."""
        failure, reason = _last_failure(trial), _last_reason(trial)
        if is_node_loss(failure):
            trial.run_metadata.num_failures -= 1
            reason = "its node was lost"
        print_line(f"{trial.config['trial']['name']} goes on after its last whole epoch: {reason}")

    def wait_for_records(self) -> None:
        """Return when the records of all trials that ended are seen; raises what `on_step_end` raises."""
        self._written.wait()

    def show(self) -> None:
        """Print how far the sweep is, and a table of the running trials, from their files."""
        trials = planned_statuses(
            self._records, self._plan.trials, datetime.now(UTC), {**dict.fromkeys(self._waiting), **self._seen}
        )
        ended = [trial for trial in trials if trial.status in ("complete", "pruned")]
        self._seen |= {trial.digest: trial for trial in ended}
        running = [status for status in trials if status.status in ("running", "silent")]
        print_line("\n".join([heading(SweepStatus(self._plan, trials)), *([trial_table(running)] if running else [])]))

    def _compare(self, value: float, name: str) -> None:
        if cost(value, self._metric) < self._least_cost:
            self._least_cost = cost(value, self._metric)
            self._best = f"; best {self._metric} {value:.4f}: {name}"

    def _print(self, trial: Trial, how: str) -> None:
        self._ended += 1
        print_line(f"{self._ended}/{self._left} trials: {trial.config['trial']['name']}: {how}{self._best}")


def _last_failure(trial: Trial) -> str:
    """Return the text of the last error of a trial's process; Tune writes all of them into one file of this machine."""
    if not trial.error_file:
        return ""
    return Path(trial.error_file).read_text(encoding="utf-8").rpartition(FAILURE)[2]


def _last_reason(trial: Trial) -> str:
    """Return the last line of the last error of a trial's process."""
    return (_last_failure(trial).strip() or "its process was lost").splitlines()[-1].strip()
